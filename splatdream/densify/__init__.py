"""Densifiers: which Gaussians are born, moved and removed while a cloud is optimised.

A densifier is a frozen dataclass of its options. `init(splats)` makes its state, a flat dict of tensors with one row
per Gaussian; `step` is called after backward and the optimiser's step, and returns the cloud, the optimiser and the
state with the same rows. All is built on `take(rows)`, which moves parameters and moments together. N Gaussians.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splatdream.contracts import Render
from splatdream.optim import SplatOptimiser
from splatdream.splats import Splats

State = dict[str, Tensor]


@runtime_checkable
class Densifier(Protocol):
    def init(self, splats: Splats) -> State: ...

    def step(
        self,
        splats: Splats,
        optimiser: SplatOptimiser,
        state: State,
        render: Render,
        step: int,
        total_steps: int,
        generator: torch.Generator,
    ) -> tuple[Splats, SplatOptimiser, State]:
        """`step` counts from 0; `generator` is the densifier's own and the only source of chance."""
        ...


def due(step: int, total_steps: int, *, start: float, stop: float, every: float) -> bool:
    """Whether rows move at this step; `start`, `stop` and `every` are fractions of the run.

    The first move comes one period after `start`, so that its statistics cover a whole period.
    """
    first = round(start * total_steps)
    last = round(stop * total_steps)
    period = max(1, round(every * total_steps))
    return first < step <= last and (step - first) % period == 0


def check_cap(cap: int) -> None:
    """ValueError for a cap that leaves nothing."""
    if cap < 1:
        raise ValueError(f"cap must be at least 1; got {cap}")


def strongest(opacities: Float[Tensor, " N"], cap: int) -> Int[Tensor, " M"]:
    """The rows that stay when there is room for `cap`, in their old order: the lowest opacities go first.

    Of equal opacities the later row goes first, so that a parent outlives its copy.
    """
    order = torch.sort(opacities, descending=True, stable=True).indices
    return order[:cap].sort().values


def normal(count: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal draws on the generator's device, so that a seed means the same on every device."""
    return torch.randn(count, generator=generator, device=generator.device, dtype=like.dtype).to(like.device)


def rotate(quats: Float[Tensor, "N 4"], vectors: Float[Tensor, "*b N 3"]) -> Float[Tensor, "*b N 3"]:
    """The vectors turned by the quaternions (wxyz, normalised here): v + 2 w (u x v) + 2 u x (u x v)."""
    quats = torch.nn.functional.normalize(quats, dim=-1)
    w, u = quats[:, :1], quats[:, 1:].expand_as(vectors)
    twice = 2 * torch.linalg.cross(u, vectors)
    return vectors + w * twice + torch.linalg.cross(u, twice)
