"""Initialisers: the cloud that an optimisation starts from. N points.

An initialiser is a frozen dataclass of its options. `settled` looks at what it reads before the run begins, a call
makes the cloud, and `files` names all that decides it beside the options. What lies in other packages arrives as
`Sources`.
"""

from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splatdream.splats import Splats, logit, sh0_from_colours

NEIGHBOURS = 3
LEAF = 256
"""Points that are compared at once with all near them; at least 2 NEIGHBOURS + 2, so that halves hold enough."""
LEAST_SCALE = 1e-6
"""Two points at one place would have the logarithm of 0 for a scale."""


@runtime_checkable
class Sources(Protocol):
    """What initialisers need of their neighbours; `first_cloud.py` has it."""

    def read_splats(self, path: Path, up: str, drop_invalid: bool) -> Splats:
        """The cloud in a splat file, in this project's axes; `up` are the file's, "" what it says itself."""
        ...

    def turned(self, points: Float[Tensor, "N 3"], up: str) -> Float[Tensor, "N 3"]:
        """Points given in the axes `up`, in this project's. ValueError for unknown axes."""
        ...

    def shape_folder(self, model: str) -> Path:
        """Where a Shap-E pipeline lies that is a folder or a fetched model of the hub. OSError where it does not."""
        ...

    def shape(
        self, folder: Path, prompt: str, *, guidance_scale: float, steps: int, grid: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
        """Points on the surface that Shap-E gives a prompt, and their colours in [0, 1]."""
        ...


@runtime_checkable
class Initialiser(Protocol):
    def settled(self, count: int, sources: Sources) -> tuple["Initialiser", int]:
        """The same with absolute paths, and how many Gaussians it gives when asked for `count`.

        OSError or ValueError, in a sentence, for files that cannot serve; nothing that takes long is done.
        """
        ...

    def files(self) -> dict[str, Path]:
        """What decides the cloud beside the options, by the names that a manifest gives it."""
        ...

    def __call__(self, count: int, generator: torch.Generator, prompt: str, sources: Sources) -> Splats:
        """The cloud, in main memory; `generator` is the initialiser's own and the only source of chance."""
        ...


def round_cloud(
    means: Float[Tensor, "N 3"], colours: Float[Tensor, "N 3"], opacity: float, scales: Float[Tensor, " N"]
) -> Splats:
    """Round Gaussians of degree 0."""
    count, device = len(means), means.device
    return Splats(
        means=means,
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0], device=device).repeat(count, 1),
        log_scales=scales.clamp_min(LEAST_SCALE).log()[:, None].repeat(1, 3),
        logit_opacities=logit(torch.full((count,), opacity, device=device)),
        sh0=sh0_from_colours(colours),
        shN=torch.zeros(count, 0, 3, device=device),
    )


def check_count(count: int) -> None:
    if count < 2:
        raise ValueError(f"count is {count}; a cloud needs at least 2 Gaussians")


def check_opacity(opacity: float) -> None:
    if not 0 < opacity < 1:
        raise ValueError(f"opacity is {opacity}; it must lie between 0 and 1, both excluded")


def check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value}; it must lie in [0, 1]")


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
