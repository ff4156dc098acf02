"""Framing: where a cloud's object stands, how large it is, and the cloud moved to where cameras look for it.

What is hardly opaque says nothing about the shape: `SOLID` Gaussians do, each by its opacity.
"""

from math import log

import torch
from jaxtyping import Float
from torch import Tensor

from splatdream.splats import Splats

SOLID = 0.1
"""The opacity from which a Gaussian belongs to the object."""
OUTER = 0.99
"""The share of the object that its radius and its bounds enclose; the rest may be fuzz."""
NEAR, FAR = 0.3, 1.1
"""How far from the origin the outermost of an object may be that fills the unit ball."""


def in_view(splats: Splats) -> Splats:
    """The cloud where cameras about the unit ball see it whole and large, which it may be already."""
    solid, weights = solid_part(splats.detach().to("cpu", torch.float32))
    if len(solid) < 2 or NEAR <= quantile(solid.means.norm(dim=1), weights, OUTER) <= FAR:
        return splats
    radius = radius_of(solid.means, weights)
    means = (splats.means - centre(solid.means, weights).to(splats.means)) / radius
    return splats.replace(means=means, log_scales=splats.log_scales - log(radius))


def solid_part(splats: Splats) -> tuple[Splats, Float[Tensor, " N"]]:
    """The Gaussians that belong to the object, and the share of it that each of them is."""
    solid = splats.take((splats.opacities >= SOLID).nonzero()[:, 0])
    return solid, solid.opacities / solid.opacities.sum()


def quantile(values: Float[Tensor, " N"], weights: Float[Tensor, " N"], share: float) -> float:
    """The value below which `share` of the weight lies; weights sum to 1."""
    order = values.argsort()
    place = torch.searchsorted(weights[order].cumsum(0), share).clamp_max(len(values) - 1)
    return float(values[order][place])


def bounds(means: Float[Tensor, "N 3"], weights: Float[Tensor, " N"]) -> Float[Tensor, "2 3"]:
    """The lowest and highest corner of the box that holds `OUTER` of the weight along each axis."""
    rest = 0.5 * (1 - OUTER)
    return torch.tensor([[quantile(axis, weights, share) for axis in means.T] for share in (rest, 1 - rest)])


def centre(means: Float[Tensor, "N 3"], weights: Float[Tensor, " N"]) -> Float[Tensor, " 3"]:
    """The middle of those bounds."""
    return bounds(means, weights).mean(0)


def radius_of(means: Float[Tensor, "N 3"], weights: Float[Tensor, " N"]) -> float:
    """The distance from the middle within which `OUTER` of the weight lies."""
    return max(quantile((means - centre(means, weights)).norm(dim=1), weights, OUTER), 1e-9)
