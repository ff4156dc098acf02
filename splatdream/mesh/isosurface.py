"""Isosurface: where a density passes a level, and the level at which it looks most like its cloud.

Marching cubes on a field that has a margin below the level and no cavities gives a closed surface.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float
from scipy.ndimage import binary_fill_holes, gaussian_filter
from skimage.measure import marching_cubes
from torch import Tensor

from splatdream.cameras import Cameras
from splatdream.inspect.compare import silhouette_iou
from splatdream.mesh.density import Grid
from splatdream.mesh.drawing import silhouettes
from splatdream.mesh.surface import Surface

LEVELS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2)
SMOOTHING = 0.7
"""In steps of the grid: takes off the stairs, moves the surface by less than a fifth of a step."""
APART = 0.001
"""How far from the level, as a share of it, values are kept: two vertices then never fall on one grid point."""


def smoothed(grid: Grid) -> Grid:
    return replace(grid, values=gaussian_filter(grid.values, SMOOTHING))


def filled(grid: Grid, level: float) -> Grid:
    """The field without cavities: what the outside does not reach is raised to twice the level."""
    solid = grid.values > level
    cavities = np.asarray(binary_fill_holes(solid)) & ~solid
    return replace(grid, values=np.where(cavities, np.float32(2 * level), grid.values))


def isosurface(grid: Grid, level: float) -> Surface:
    """The surface around all that is above `level`; cut flat where the grid ends. ValueError where nothing is."""
    values = filled(grid, level).values
    if not (values > level).any():
        raise ValueError(
            f"the density is nowhere above {level:g}; the Gaussians are too few or too faint for a surface"
        )
    close = np.abs(values - level) < APART * level
    values = np.where(close, level * np.where(values > level, 1 + APART, 1 - APART), values)
    vertices, faces, _, _ = marching_cubes(np.pad(values, 1), level, allow_degenerate=False)
    # Marching cubes turns its faces towards higher values.
    return Surface((grid.low + (vertices - 1) * grid.step).astype(np.float32), faces[:, ::-1].astype(np.int32))


def best_level(grid: Grid, cameras: Cameras, alphas: Float[Tensor, "B H W 1"]) -> float:
    """The level of `LEVELS` whose silhouettes fit `alphas`, the cloud's own; a coarser grid serves to choose.

    ValueError where no level has a surface.
    """
    coarse = grid.coarse()
    top = float(coarse.values.max())
    fits = {
        level: silhouette_iou(silhouettes(isosurface(coarse, level), cameras), alphas)
        for level in LEVELS
        if level < top
    }
    if not fits:
        raise ValueError(f"the density reaches {top:.2g} at most; the Gaussians are too few or too faint for a surface")
    return max(fits, key=fits.__getitem__)
