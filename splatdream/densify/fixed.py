"""The densifier that leaves every row where it is."""

from dataclasses import dataclass

import torch

from splatdream.contracts import Render
from splatdream.densify import State
from splatdream.optim import SplatOptimiser
from splatdream.splats import Splats


@dataclass(frozen=True)
class Fixed:
    """As many Gaussians at the end as at the beginning."""

    def init(self, splats: Splats) -> State:
        return {}

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
        return splats, optimiser, state
