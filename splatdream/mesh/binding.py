"""Binding: flat Gaussians on a surface, one for every patch of texels, and what they hand back to it.

The loop that made the splats moves them, so the splat rasteriser carries the gradient to the surface's shape.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from splatdream.mesh.atlas import Texels
from splatdream.mesh.surface import unit
from splatdream.splats import Splats, logit, sh0_from_colours

COUNT = 12_000
WIDTH = 0.5
"""Standard deviation of a bound Gaussian, as a share of its patch: four of them leave 0.2 open where they meet."""
THIN = 0.1
"""Thickness of a bound Gaussian, as a share of its width."""
OPACITY = 0.95
NEIGHBOURS, EVENED = 4, 40
"""Of how many Gaussians a place takes the mean, and of how many a Gaussian does: Adam moves each by its own noise."""


def bound(texels: Texels, colours: Float[np.ndarray, "T 3"], area: float) -> tuple[Splats, Int[np.ndarray, " N"]]:
    """Gaussians that cover a surface of this area, and the texel in the middle of each."""
    stride = max(1, round((len(texels.rows) / COUNT) ** 0.5))
    middles = np.flatnonzero((texels.rows % stride == 0) & (texels.columns % stride == 0))
    width = (area / len(middles)) ** 0.5
    count = len(middles)
    scales = torch.tensor([width, width, THIN * width]).mul(WIDTH)
    return Splats(
        means=torch.from_numpy(texels.places[middles]),
        quats=torch.from_numpy(turning_z_to(texels.normals[middles])),
        log_scales=scales.log().repeat(count, 1),
        logit_opacities=logit(torch.full((count,), OPACITY)),
        sh0=sh0_from_colours(torch.from_numpy(colours[middles])),
        shN=torch.zeros(count, 0, 3),
    ), middles


def turning_z_to(normals: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 4"]:
    """The shortest rotations, as quaternions wxyz, that turn +z to these directions."""
    x, y, z = normals.T
    quats = np.stack([1 + z, -y, x, np.zeros_like(z)], axis=1)
    # Straight down there is no shortest one; half a turn about x is one of them.
    return unit(np.where(z[:, None] < -0.9999, [0.0, 1.0, 0.0, 0.0], quats)).astype(np.float32)


def evened(values: Float[np.ndarray, "N D"], places: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N D"]:
    """The mean value of each place's nearest."""
    _, nearest = KDTree(places).query(places, k=min(EVENED, len(places)))
    return values[nearest].mean(axis=1)


def handed(
    values: Float[np.ndarray, "N D"], places: Float[np.ndarray, "N 3"], targets: Float[np.ndarray, "T 3"]
) -> Float[np.ndarray, "T D"]:
    """Values of scattered places at other ones: means of the nearest, weighted by the inverse squared distance."""
    distances, nearest = KDTree(places).query(targets, k=NEIGHBOURS)
    weights = 1.0 / np.maximum(distances, 1e-6) ** 2
    weights /= weights.sum(axis=1, keepdims=True)
    return (values[nearest] * weights[..., None]).sum(axis=1)
