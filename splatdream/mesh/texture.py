"""Texture: the colour of every texel, baked from the splats' own renders.

A view counts for a texel that it sees: by its depth, the surface lies nowhere before it, and by the cosine of the angle
between normal and viewing direction, to the fourth power. T texels, B views of S x S pixels.
"""

from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import njit
from scipy.spatial import KDTree
from torch import Tensor

from splatdream.cameras import Cameras
from splatdream.mesh.atlas import Texels
from splatdream.mesh.drawing import drawn
from splatdream.mesh.surface import Surface
from splatdream.render._threads import run

GRAZING = 0.15
"""Cosine below which a view does not count."""
HIDDEN = 0.015
"""How far before a texel, in radii of the object, something must lie to hide it."""
TEXELS_AT_ONCE = 16384


def bake(
    texels: Texels,
    surface: Surface,
    cameras: Cameras,
    images: Float[Tensor, "B S S 3"],
    alphas: Float[Tensor, "B S S 1"],
) -> Float[np.ndarray, "T 3"]:
    """The texels' colours in [0, 1], of premultiplied renders over black; what no view sees takes the nearest's."""
    sums = gathered(texels, surface, cameras, images, alphas)
    seen = sums[:, 3] > 0
    if not seen.any():
        raise ValueError("no view shows the surface; the splats are too faint for a texture")
    colours = sums[:, :3] / np.maximum(sums[:, 3:], 1e-12)
    if not seen.all():
        _, nearest = KDTree(texels.places[seen]).query(texels.places[~seen])
        colours[~seen] = colours[seen][nearest]
    return colours.clip(0, 1)


def gathered(
    texels: Texels,
    surface: Surface,
    cameras: Cameras,
    images: Float[Tensor, "B S S 3"],
    alphas: Float[Tensor, "B S S 1"],
) -> Float[np.ndarray, "T 4"]:
    """Weighted sums, over the views that see a texel, of the premultiplied pictures and of their opacities."""
    depths = np.stack([depth for _, _, depth in drawn(surface, cameras)])
    pictures = torch.cat([images, alphas], -1).numpy()
    sums = np.zeros((len(texels.places), 4), np.float32)
    views = cameras.viewmats.double().numpy(), cameras.positions.double().numpy(), float(cameras.Ks[0, 0, 0])
    run(gather, len(sums), TEXELS_AT_ONCE, texels.places, texels.normals, *views, depths, pictures, sums)
    return sums


@njit(cache=True, nogil=True)
@no_type_check  # numba compiles the bare function
def gather(start, stop, places, normals, viewmats, positions, focal, depths, pictures, sums):
    """Adds to `sums` (T 4) every view's colour, weighted, and its weight."""
    size = depths.shape[1]
    for t in range(start, stop):
        for b in range(viewmats.shape[0]):
            away = positions[b] - places[t]
            cosine = (normals[t, 0] * away[0] + normals[t, 1] * away[1] + normals[t, 2] * away[2]) / np.sqrt(
                away[0] ** 2 + away[1] ** 2 + away[2] ** 2
            )
            if cosine < GRAZING:
                continue
            m = viewmats[b]
            x = m[0, 0] * places[t, 0] + m[0, 1] * places[t, 1] + m[0, 2] * places[t, 2] + m[0, 3]
            y = m[1, 0] * places[t, 0] + m[1, 1] * places[t, 1] + m[1, 2] * places[t, 2] + m[1, 3]
            z = m[2, 0] * places[t, 0] + m[2, 1] * places[t, 1] + m[2, 2] * places[t, 2] + m[2, 3]
            column, row = focal * x / z + 0.5 * size - 0.5, focal * y / z + 0.5 * size - 0.5
            i, j = int(np.floor(row)), int(np.floor(column))
            if i < 0 or j < 0 or i + 1 >= size or j + 1 >= size:
                continue
            nearest = min(depths[b, i, j], depths[b, i, j + 1], depths[b, i + 1, j], depths[b, i + 1, j + 1])
            if nearest < z - HIDDEN:
                continue
            red, green, blue, alpha = 0.0, 0.0, 0.0, 0.0
            for di in range(2):
                for dj in range(2):
                    share = abs(1 - di - (row - i)) * abs(1 - dj - (column - j))
                    pixel = pictures[b, i + di, j + dj]
                    red += share * pixel[0]
                    green += share * pixel[1]
                    blue += share * pixel[2]
                    alpha += share * pixel[3]
            if alpha < 0.3:
                continue
            # Renders are premultiplied: red / alpha is the colour, and what is faint counts less.
            weight = cosine**4
            sums[t, 0] += weight * red
            sums[t, 1] += weight * green
            sums[t, 2] += weight * blue
            sums[t, 3] += weight * alpha
