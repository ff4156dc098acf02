"""Density: a cloud as a field on a grid, d(x) = sum_i alpha_i exp(-m_i(x)^2 / 2) with Mahalanobis distances m_i.

As in DreamGaussian (Tang et al. 2024, section 3.3). Kernels are numba's.
"""

from dataclasses import dataclass
from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import njit

from splatdream.render.dense import rotation_matrices
from splatdream.splats import Splats

REACH = 3.0
"""In standard deviations; what lies farther out adds at most 0.011 alpha."""
SEEN = 0.1
"""Opacity above which a Gaussian counts for where the object is."""


@dataclass(frozen=True)
class Grid:
    """Values at the points low + step (i, j, k)."""

    values: Float[np.ndarray, "X Y Z"]
    low: Float[np.ndarray, "3"]
    step: float


def extent(splats: Splats) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """The corners of a box around the object; a thousandth of the Gaussians at each side may be strays.

    ValueError where nothing can be seen.
    """
    seen = splats.map(lambda value: value[splats.opacities > SEEN])
    if len(seen) == 0:
        raise ValueError(f"none of {len(splats)} Gaussians has an opacity above {SEEN}: there is nothing to see")
    means = seen.means.double().numpy()
    margin = REACH * np.quantile(seen.scales.amax(1).double().numpy(), 0.9)
    return np.quantile(means, 0.001, axis=0) - margin, np.quantile(means, 0.999, axis=0) + margin


def density(splats: Splats, size: int) -> Grid:
    """The field in the object's box, `size` points along its longest side.

    A Gaussian thinner than half a step is drawn that thick, or it would fall between the points.
    """
    low, high = extent(splats)
    step = float((high - low).max() / (size - 1))
    values = np.zeros(np.ceil((high - low) / step).astype(int) + 1, np.float32)
    rotations = rotation_matrices(splats.quats.double())
    axes = rotations * splats.scales.double().clamp_min(0.5 * step)[:, None, :]
    covariances = axes @ axes.transpose(-1, -2)
    reaches = REACH * torch.diagonal(covariances, dim1=1, dim2=2).sqrt()
    inverses = torch.linalg.inv(covariances)
    arrays = (splats.means.double(), inverses, reaches, splats.opacities.double())
    scatter(values, low, step, *(array.numpy() for array in arrays))
    return Grid(values, low, step)


@njit(cache=True, nogil=True)
@no_type_check  # numba compiles the bare function
def scatter(values, low, step, means, inverses, reaches, opacities):
    """Adds every Gaussian to the points of `values` within its reach."""
    first, last = np.zeros(3, np.int64), np.zeros(3, np.int64)
    for g in range(means.shape[0]):
        for axis in range(3):
            centre = (means[g, axis] - low[axis]) / step
            first[axis] = max(int(np.ceil(centre - reaches[g, axis] / step)), 0)
            last[axis] = min(int(np.floor(centre + reaches[g, axis] / step)), values.shape[axis] - 1)
        m = inverses[g]
        for i in range(first[0], last[0] + 1):
            x = low[0] + i * step - means[g, 0]
            for j in range(first[1], last[1] + 1):
                y = low[1] + j * step - means[g, 1]
                for k in range(first[2], last[2] + 1):
                    z = low[2] + k * step - means[g, 2]
                    square = m[0, 0] * x * x + m[1, 1] * y * y + m[2, 2] * z * z
                    square += 2.0 * (m[0, 1] * x * y + m[0, 2] * x * z + m[1, 2] * y * z)
                    if square < REACH * REACH:
                        values[i, j, k] += opacities[g] * np.exp(-0.5 * square)
