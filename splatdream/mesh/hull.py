"""Hull: how opaque the cloud is along every view's ray through a point, and what of that leaves room for matter.

What one view sees past is empty: the points that are opaque in all views are the visual hull (Laurentini 1994) of the
cloud's own silhouettes, which takes off the haze that hangs around soft Gaussians and leaves thin parts alone.
"""

from typing import no_type_check

import numpy as np
from jaxtyping import Float
from numba import njit
from torch import Tensor

from splatdream.cameras import Cameras
from splatdream.mesh.density import Grid

OPAQUE = 0.65
"""Opacity of the outline. A ray that grazes a soft surface passes its haze twice, so half is too little; 0.6 to 0.7 do
equally well (benchmarks/results/NOTES.md)."""


def least_opacity(grid: Grid, cameras: Cameras, alphas: Float[Tensor, "B H H 1"]) -> Float[np.ndarray, "X Y Z"]:
    """At each of the grid's points the opacity of the view that sees past it best; 0 where a view does not reach.

    Views are square, with the principal point in the centre, and stand outside of the grid.
    """
    least = np.ones(grid.values.shape, np.float32)
    views = cameras.viewmats.double().numpy(), float(cameras.Ks[0, 0, 0])
    lower(least, grid.low, grid.step, *views, np.ascontiguousarray(alphas[..., 0].numpy()))
    return least


@njit(cache=True, nogil=True)
@no_type_check  # numba compiles the bare function
def lower(least, low, step, viewmats, focal, alphas):
    """Lowers `least` to each view's opacity, interpolated between four pixels."""
    size = alphas.shape[1]
    for b in range(viewmats.shape[0]):
        m = viewmats[b]
        for i in range(least.shape[0]):
            x = low[0] + i * step
            for j in range(least.shape[1]):
                y = low[1] + j * step
                for k in range(least.shape[2]):
                    if least[i, j, k] == 0.0:
                        continue
                    z = low[2] + k * step
                    depth = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
                    column = focal * (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]) / depth + 0.5 * size - 0.5
                    row = focal * (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]) / depth + 0.5 * size - 0.5
                    r, c = int(np.floor(row)), int(np.floor(column))
                    if r < 0 or c < 0 or r + 1 >= size or c + 1 >= size:
                        least[i, j, k] = 0.0
                        continue
                    down, right = row - r, column - c
                    above = (1 - right) * alphas[b, r, c] + right * alphas[b, r, c + 1]
                    below = (1 - right) * alphas[b, r + 1, c] + right * alphas[b, r + 1, c + 1]
                    least[i, j, k] = min(least[i, j, k], (1 - down) * above + down * below)
