"""Isosurface: where a density passes a level within the hull, and the level at which it looks most like its cloud.

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
from splatdream.mesh.hull import OPAQUE
from splatdream.mesh.surface import Surface

LEVELS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.6, 0.8, 1.2)
NEARLY, HOPELESS = 0.002, 0.02
"""Differences of IoU: fits so close are the same, and beyond a level so far behind none is tried."""
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


def within(grid: Grid, level: float, least: Float[np.ndarray, "X Y Z"]) -> Grid:
    """The field that is above 1 where the density is above `level` and every view opaque (`hull.least_opacity`)."""
    return replace(grid, values=np.minimum(grid.values / np.float32(level), least / np.float32(OPAQUE)))


def best_level(
    grid: Grid, least: Float[np.ndarray, "X Y Z"], cameras: Cameras, alphas: Float[Tensor, "B H W 1"]
) -> float:
    """The highest level of `LEVELS` whose silhouettes within the hull fit the cloud's own as well as any, nearly.

    Silhouettes do not tell a hollow from a level that is too low. ValueError where no level has a surface.
    """
    seen, fits = (alphas > OPAQUE).float(), {}
    for level in LEVELS:
        field = within(grid, level, least)
        if not (field.values > 1).any():
            break
        fits[level] = silhouette_iou(silhouettes(isosurface(field, 1.0), cameras), seen)
        if fits[level] < max(fits.values()) - HOPELESS:
            break
    if not fits:
        top = float(grid.values.max())
        raise ValueError(f"the density reaches {top:.2g} at most; the Gaussians are too few or too faint for a surface")
    return max(level for level, fit in fits.items() if fit >= max(fits.values()) - NEARLY)
