"""What is measured on a cloud of Gaussians, without drawing it.

Lengths are in units of the object's radius except where the place in the world is asked about. What is hardly opaque
says nothing about the shape: `SOLID` Gaussians do, each by its opacity.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splatdream.check.components import of_gaussians
from splatdream.check.criteria import Measures
from splatdream.framing import OUTER, SOLID, bounds, centre, quantile, radius_of, solid_part
from splatdream.render import MIN_ALPHA
from splatdream.splats import Splats

NEEDLE = 10.0
"""A Gaussian is a needle when it is so many times as long as it is broad."""
CRUMB = 0.02
"""A part with less than this share of the object is a floater and no body."""
SLAB = 0.15
"""The lowest part of the object's height, on which it stands."""


def measure(splats: Splats, dropped: int = 0) -> Measures:
    """Every number that the criteria for splats ask for; `dropped` rows of the file were not finite."""
    splats = splats.detach().to("cpu", torch.float32)
    opacities = splats.opacities
    seen = opacities >= MIN_ALPHA
    counts = {"finite": dropped, "gaussians": len(splats), "visible": float(seen.float().mean()) if len(splats) else 0}
    solid, weights = solid_part(splats)
    if len(solid) < 2:
        nothing = f"fewer than two Gaussians have an opacity of {SOLID} or more"
        names = ("largest", "smallest", "needles", "floaters", "bodies", "radius", "off_centre", "overhang")
        return counts | {"solid": len(solid)} | dict.fromkeys(names, nothing)
    radius = radius_of(solid.means, weights)
    scales = splats.scales[seen].sort(dim=1, descending=True).values / radius
    labels = parts(solid)
    shares = torch.zeros(int(labels.max()) + 1).index_add_(0, labels, weights)
    return counts | {
        "solid": len(solid),
        "largest": float(scales[:, 0].max()),
        # A Gaussian may be flat, so the second one of its scales counts.
        "smallest": float(scales[:, 1].min()),
        "needles": float(weights[slenderness(solid) > NEEDLE].sum()),
        "floaters": float(shares[shares < CRUMB].sum()),
        "bodies": int((shares >= CRUMB).sum()),
        "radius": quantile(solid.means.norm(dim=1), weights, OUTER),
        "off_centre": float(centre(solid.means, weights).norm()) / radius,
        "overhang": overhang(solid, weights) / radius,
    }


def slenderness(splats: Splats) -> Float[Tensor, " N"]:
    """How many times as long as broad each Gaussian is; a flat one is none the more slender."""
    long, broad, _ = splats.log_scales.sort(dim=1, descending=True).values.unbind(1)
    return (long - broad).exp()


def parts(splats: Splats) -> Int[Tensor, " N"]:
    """A label for each Gaussian, equal for those that touch each other."""
    return torch.from_numpy(of_gaussians(splats.means.numpy(), splats.rotations.numpy(), splats.scales.numpy()))


def overhang(splats: Splats, weights: Float[Tensor, " N"]) -> float:
    """How far beside its footprint the centre of gravity lies: 0 for what would stand where it is, upright or not.

    The footprint is the box about the lowest slab of the object. A thing that leans falls over.
    """
    low, high = bounds(splats.means, weights)[:, 2]
    slab = splats.means[:, 2] <= low + SLAB * (high - low)
    foot, extent = splats.means[slab, :2], splats.scales[slab].amax(1, keepdim=True)
    gravity = weights @ splats.means[:, :2]
    beside = torch.maximum((foot - extent).amin(0) - gravity, gravity - (foot + extent).amax(0))
    return float(beside.clamp_min(0).norm())
