"""Initialisers: functions that return the cloud an optimisation starts from. N points."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

NEIGHBOURS = 3
LEAF = 256
"""Points that are compared at once with all near them; at least 2 NEIGHBOURS + 2, so that halves hold enough."""


def neighbour_distances(points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
    """Each point's mean distance to its 3 nearest others, or to all where there are fewer.

    ValueError for a single point, which has no neighbour.
    """
    if len(points) < 2:
        raise ValueError(f"{len(points)} points have no neighbours; 2 are needed at least")
    nearest = min(NEIGHBOURS, len(points) - 1)
    means = torch.empty_like(points[:, 0])
    for rows in leaves(points, torch.arange(len(points), device=points.device)):
        leaf = points[rows]
        # Within the leaf nobody's neighbours are farther than this, so outside they need not be sought farther.
        reach = smallest(leaf, leaf, nearest + 1)[:, -1].max()
        near = ((points >= leaf.amin(0) - reach) & (points <= leaf.amax(0) + reach)).all(-1)
        # The nearest of all is the point itself (or its double), at distance 0.
        means[rows] = smallest(leaf, points[near], nearest + 1)[:, 1:].mean(-1)
    return means


def leaves(points: Float[Tensor, "N 3"], rows: Int[Tensor, " M"]) -> list[Int[Tensor, " _"]]:
    """The rows in boxes of at most LEAF points, by halving along the longest side (a k-d tree's leaves)."""
    if len(rows) <= LEAF:
        return [rows]
    inside = points[rows]
    axis = (inside.amax(0) - inside.amin(0)).argmax()
    low, high = rows[inside[:, axis].argsort(stable=True)].tensor_split(2)
    return leaves(points, low) + leaves(points, high)


def smallest(points: Float[Tensor, "M 3"], others: Float[Tensor, "N 3"], count: int) -> Float[Tensor, "M {count}"]:
    """The `count` smallest distances from each point to the others, ascending."""
    # By matrix product, the default, the distances of close points drown in rounding.
    distances = torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.topk(count, largest=False).values
