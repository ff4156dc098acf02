"""Timesteps: which noise levels a step asks the prior about, and the ladders of the literature by name.

Ends of ranges are fractions of the prior's noise range (0 is clean, 1 all noise). `progress` runs from 0 to 1 over the
run; published step numbers are divided by their run's length. B views.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from splatdream.catalog import choose
from splatdream.schedule import Schedule


def linear(ends: tuple[float, float], progress: float) -> float:
    """The value on the way from the first to the last."""
    first, last = ends
    return first + (last - first) * progress


@dataclass(frozen=True)
class Timesteps:
    """Timesteps between a lower and an upper end, each of which passes from its first value to its last.

    They move while the run's progress crosses `during`, in proportion to its part raised to `power` (0.5 falls fast at
    first), and jump where `during` has no width. `draw` is "views" (one uniform draw a view), "batch" (one for all
    views) or "high" (no chance: the upper end itself).
    """

    low: tuple[float, float] = (0.02, 0.02)
    high: tuple[float, float] = (0.98, 0.5)
    during: tuple[float, float] = (0.0, 1.0)
    power: float = 1.0
    draw: str = "views"

    def __post_init__(self) -> None:
        if not all(0.0 <= low <= high <= 1.0 for low, high in zip(self.low, self.high, strict=True)):
            raise ValueError(f"timesteps need 0 <= low <= high <= 1; got low {self.low} and high {self.high}")
        if not 0.0 <= self.during[0] <= self.during[1] <= 1.0:
            raise ValueError(f"timesteps move during START..END within 0..1 of the run; got {self.during}")
        if not 0.0 < self.power < float("inf"):
            raise ValueError(f"the power of timesteps must be above 0; got {self.power}")
        choose("draw of timesteps", self.draw, ["views", "batch", "high"])

    def __call__(
        self, schedule: Schedule, views: int, progress: float, generator: torch.Generator
    ) -> Int[Tensor, " B"]:
        """One timestep for each of B views."""
        passed = self.passed(progress)
        high = schedule.index(linear(self.high, passed))
        low = min(schedule.index(linear(self.low, passed)), high)
        if self.draw == "high":
            return torch.full((views,), high)
        if self.draw == "batch":
            return torch.randint(low, high + 1, (1,), generator=generator).repeat(views)
        return torch.randint(low, high + 1, (views,), generator=generator)

    def passed(self, progress: float) -> float:
        """How far the ends have moved, from 0 to 1."""
        start, end = self.during
        if progress >= end:
            return 1.0
        if progress <= start:
            return 0.0
        return ((progress - start) / (end - start)) ** self.power


UNIFORM = Timesteps(high=(0.98, 0.98))
DETERMINISTIC = Timesteps(high=(0.98, 0.02), draw="high")
SQUARE_ROOT = Timesteps(high=(0.98, 0.02), power=0.5, draw="high")
TWO_STAGE = Timesteps(during=(0.5, 0.5))

DREAMFUSION = Timesteps(high=(0.98, 0.98))
"""Appendix: t ~ U(0.02, 0.98)."""
SJC = Timesteps(low=(0.01, 0.01), high=(0.97, 0.97))
"""The authors' and threestudio's range."""
MAGIC3D = Timesteps(high=(0.5, 0.5))
"""The second stage."""
PROLIFICDREAMER = Timesteps(during=(0.2, 0.2))
"""0.98, from step 5000 of 25000 on 0.5."""
MVDREAM = Timesteps(low=(0.98, 0.02), high=(0.98, 0.5), during=(0.0, 0.8))
"""Both ends fall over 8000 of 10000 steps."""
HIFA = Timesteps(high=(0.98, 0.3), power=0.5, draw="high")
"""t_max - (t_max - t_min) sqrt(progress), with threestudio's ends."""
RFDS = Timesteps(high=(0.7, 0.7))
"""Positions 0.3 to 0.98 of a list that descends: the noisiest 0.3 are left out."""
SDI = Timesteps(high=(1.0, 0.2), draw="high")
"""Of the paper; threestudio's file has 0.98 to 0.25."""

DREAMGAUSSIAN = Timesteps(high=(0.98, 0.02), during=(0.02, 0.98), draw="high")
"""1 - progress, kept within 0.02 and 0.98."""
GAUSSIANDREAMER = Timesteps(high=(0.98, 0.55), during=(500 / 1200, 500 / 1200))
GSGEN = Timesteps(during=(2000 / 15000, 2000 / 15000))
LUCIDDREAMER = Timesteps(during=(0.0, 0.3), draw="batch")
"""A warm-up of 1500 of 5000 steps in which the upper end falls."""
THREESTUDIO = Timesteps(during=(0.2, 0.2))
"""Of threestudio-3dgs: step 1000 of 5000."""
