"""Tidying: a cloud without the few Gaussians that no check would let pass."""

from collections.abc import Mapping

import torch

from splatdream.check.cloud import CRUMB, NEEDLE, parts, slenderness
from splatdream.check.criteria import Criterion
from splatdream.framing import SOLID, radius_of, solid_part
from splatdream.splats import Splats

FAULTY = 0.1
"""The most of an object that tidying takes away."""


def tidied(splats: Splats, criteria: Mapping[str, Criterion]) -> Splats:
    """The cloud without the fog, crumbs and needles that `criteria` forbid.

    It is returned whole where these are more than `FAULTY` of the object, which is then broken as its check will say.
    """
    cloud = splats.detach().to("cpu", torch.float32)
    solid, weights = solid_part(cloud)
    if len(solid) < 2:
        return splats
    fog = cloud.scales.amax(1) > criteria["largest"].high * radius_of(solid.means, weights)
    needle = slenderness(cloud) > NEEDLE
    labels = parts(solid)
    shares = torch.zeros(int(labels.max()) + 1).index_add_(0, labels, weights)
    crumb = torch.zeros(len(cloud), dtype=torch.bool)
    crumb[cloud.opacities >= SOLID] = shares[labels] < CRUMB
    faulty = fog | needle | crumb
    if float(weights[faulty[cloud.opacities >= SOLID]].sum()) > FAULTY:
        return splats
    return splats.take((~faulty).nonzero()[:, 0].to(splats.means.device))
