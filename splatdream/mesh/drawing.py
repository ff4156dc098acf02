"""Drawing: meshes as cameras see them, and the cameras that look from everywhere.

One rasteriser draws all triangles of this project, `corpus/raster.py`: pictures, silhouettes, what is visible, and
charts in texture space.
"""

from math import pi, radians, sqrt

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from splatdream.cameras import Cameras, around
from splatdream.corpus.raster import draw
from splatdream.mesh.model import Model
from splatdream.mesh.surface import Surface

OVERSAMPLE = 2


def everywhere(count: int, size: int) -> Cameras:
    """Cameras spread evenly over all directions, poles included, that show the unit ball whole (Fibonacci spiral)."""
    k = torch.arange(count)
    elevations = torch.asin(1 - 2 * (k + 0.5) / count)
    azimuths = torch.remainder(k * pi * (3 - sqrt(5)), 2 * pi)
    ones = torch.ones(count)
    return around(azimuths, elevations, 3.4 * ones, radians(40) * ones, size)


def drawn(surface: Surface, cameras: Cameras, fold: int = 1) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Faces, weights and depths of every pixel and view, as `raster.draw` gives them, at `fold` times the size."""
    views = []
    for viewmat, K in zip(cameras.viewmats.double().numpy(), cameras.Ks.numpy(), strict=True):
        camera = surface.vertices @ viewmat[:3, :3].T + viewmat[:3, 3]
        views.append(draw(camera.astype(np.float32), surface.faces, float(K[0, 0]) * fold, cameras.height * fold))
    return views


def averaged(samples: Float[np.ndarray, "rows columns D"], fold: int) -> Float[np.ndarray, "H W D"]:
    """Means of fold x fold samples."""
    rows, columns, channels = samples.shape
    return samples.reshape(rows // fold, fold, columns // fold, fold, channels).mean((1, 3))


def silhouettes(surface: Surface, cameras: Cameras, fold: int = 1) -> Float[Tensor, "B H W 1"]:
    """How much of every pixel the surface covers."""
    masks = [(faces >= 0).astype(np.float32)[..., None] for faces, _, _ in drawn(surface, cameras, fold)]
    return torch.from_numpy(np.stack([averaged(mask, fold) for mask in masks]))


def shown(model: Model, cameras: Cameras) -> tuple[Float[Tensor, "B H W 3"], Float[Tensor, "B H W 1"]]:
    """The model's base colours as the cameras see them, premultiplied over black, and how much it covers."""
    views = []
    for faces, weights, _ in drawn(model.surface, cameras, OVERSAMPLE):
        picture = np.zeros((*faces.shape, 4), np.float32)
        hit = faces >= 0
        uvs = (model.uvs[model.surface.faces[faces[hit]]] * weights[hit][..., None]).sum(1)
        picture[hit] = np.concatenate([model.colours_at(uvs), np.ones((len(uvs), 1), np.float32)], axis=1)
        views.append(averaged(picture, OVERSAMPLE))
    pictures = torch.from_numpy(np.stack(views))
    return pictures[..., :3], pictures[..., 3:]
