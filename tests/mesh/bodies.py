"""Shapes to try meshes on: closed surfaces, and clouds that show one."""

from math import pi

import numpy as np
import torch
import trimesh

from splatdream.mesh.surface import Surface
from splatdream.splats import Splats, logit, sh0_from_colours


def surface_of(mesh: trimesh.Trimesh) -> Surface:
    return Surface(np.array(mesh.vertices, np.float32), np.array(mesh.faces, np.int32))


def ball(subdivisions: int = 2, radius: float = 1.0, centre=(0.0, 0.0, 0.0)) -> Surface:
    return surface_of(trimesh.creation.icosphere(subdivisions, radius).apply_translation(centre))


def joined(*surfaces: Surface) -> Surface:
    offsets = np.cumsum([0] + [len(each.vertices) for each in surfaces[:-1]])
    faces = [each.faces + offset for each, offset in zip(surfaces, offsets, strict=True)]
    return Surface(np.concatenate([each.vertices for each in surfaces]), np.concatenate(faces).astype(np.int32))


def cloud_ball(count: int = 1500, radius: float = 0.8, centre=(0.0, 0.0, 0.0), size: float = 0.05) -> Splats:
    """Opaque Gaussians evenly on a sphere, red above (+z) and blue below."""
    k = torch.arange(count)
    z, angle = 1 - 2 * (k + 0.5) / count, k * pi * (3 - 5**0.5)
    r = (1 - z * z).sqrt()
    means = radius * torch.stack([r * angle.cos(), r * angle.sin(), z], -1) + torch.tensor(centre)
    red, blue = torch.tensor([0.9, 0.1, 0.1]), torch.tensor([0.1, 0.1, 0.9])
    return Splats(
        means=means,
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1),
        log_scales=torch.full((count, 3), size).log(),
        logit_opacities=logit(torch.full((count,), 0.9)),
        sh0=sh0_from_colours(torch.where(z[:, None] > 0, red, blue)),
        shN=torch.zeros(count, 0, 3),
    )
