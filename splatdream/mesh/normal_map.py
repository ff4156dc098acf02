"""Normal map: what decimation took from the surface, as directions in the frames of its texels.

The surface before decimation is a level set, so its normal is the field's downhill direction. T texels.
"""

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter, map_coordinates

from splatdream.mesh.atlas import Texels
from splatdream.mesh.density import Grid
from splatdream.mesh.surface import unit

AGREEING = 0.3
"""Cosine to the surface's own normal below which the field is not believed: there it belongs to another wall."""


def field_normals(grid: Grid, texels: Texels) -> Float[np.ndarray, "T 3"]:
    """Outward normals of the level set nearest to the texels' places, in the world."""
    smooth = gaussian_filter(grid.values, 1.0)
    where = ((texels.places - grid.low) / grid.step).T
    downhill = [-map_coordinates(slope, where, order=1, mode="nearest") for slope in np.gradient(smooth)]
    normals = unit(np.stack(downhill, axis=1))
    agreeing = (normals * texels.normals).sum(1, keepdims=True) > AGREEING
    return np.where(agreeing, normals, texels.normals).astype(np.float32)


def tangent_space(normals: Float[np.ndarray, "T 3"], texels: Texels) -> Float[np.ndarray, "T 3"]:
    """Colours of normals in the world, 0.5 + 0.5 of their parts along tangent, bitangent and normal.

    Interpolation leaves these axes slightly askew and shaders use them as they are, so the parts are those of the
    oblique frame: products with its dual one.
    """
    tangents, signs = texels.tangents[:, :3], texels.tangents[:, 3:]
    bitangents = signs * np.cross(texels.normals, tangents)
    axes = (tangents, bitangents, texels.normals)
    duals = (np.cross(axes[(k + 1) % 3], axes[(k + 2) % 3]) for k in range(3))
    parts = np.stack([(normals * dual).sum(1) for dual in duals], axis=1)
    return 0.5 + 0.5 * unit(signs * parts)
