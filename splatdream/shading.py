"""Light from a random lamp on the surface that the depth shows: DreamFusion, Poole et al. 2022, section 3.2.

A flat picture of the object looks right under one light only, so that shaded views make the optimisation carve the
shape instead of painting it. B views of H x W pixels.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize, pad

from splatdream.cameras import Cameras
from splatdream.consistency import camera_points, surface_normals
from splatdream.contracts import Render

AMBIENT, DIFFUSE = 0.1, 0.9
NEAR, FAR = 0.8, 1.5
"""The distances at which lamps stand, in units of the object's radius."""


@dataclass(frozen=True)
class Lamps:
    """A lamp for each view, in its camera's axes; `lit` views are shaded, and of these `white` ones without colour."""

    positions: Float[Tensor, "B 3"]
    lit: Bool[Tensor, " B"]
    white: Bool[Tensor, " B"]


def draw_lamps(cameras: Cameras, share: float, generator: torch.Generator) -> Lamps:
    """Lamps about the cameras' side of the object for so large a `share` of the views; half of these lose colour."""
    count = len(cameras)
    distances = NEAR + (FAR - NEAR) * torch.rand(count, 1, generator=generator)
    centres = cameras.viewmats[:, :3, 3].cpu()
    around = normalize(torch.randn(count, 3, generator=generator) - normalize(centres, dim=-1), dim=-1)
    lit, white = (torch.rand(2, count, generator=generator) < torch.tensor([[share], [0.5]])).unbind()
    device = cameras.viewmats.device
    return Lamps((centres + distances * around).to(device), lit.to(device), white.to(device))


def shaded(
    render: Render, cameras: Cameras, backgrounds: Float[Tensor, "B 3"], lamps: Lamps
) -> Float[Tensor, "B H W 3"]:
    """The pictures with the lamps' light on the object; backgrounds and unlit views stay."""
    behind = (1.0 - render.alphas) * backgrounds[:, None, None]
    points = camera_points(render.depths, cameras)
    # The last row and column have no lower or right neighbour; they take the normals beside them.
    normals = pad(surface_normals(points).permute(0, 3, 1, 2), (0, 1, 0, 1), mode="replicate").permute(0, 2, 3, 1)
    towards = normalize(lamps.positions[:, None, None].to(points) - points, dim=-1)
    light = AMBIENT + DIFFUSE * (normals * towards).sum(-1, keepdim=True).clamp_min(0.0)
    paint = torch.where(lamps.white[:, None, None, None], render.alphas, render.images - behind)
    return torch.where(lamps.lit[:, None, None, None], light * paint + behind, render.images)
