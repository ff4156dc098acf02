"""The rate of every training run here, a linear warm-up and then a half cosine down to a floor; a step of Adam's."""

from math import cos, pi

import torch
from torch import Tensor, nn

LONGEST = 1.0
"""The norm to which the gradient of all parameters together is shortened."""


def falling_rate(step: int, total: int, *, peak: float, warmup: int, floor: float) -> float:
    """The rate of `step` (from 0) of `total`; `floor` is a share of `peak`."""
    warm = min(1.0, (step + 1) / warmup)
    return peak * warm * (floor + (1 - floor) * 0.5 * (1 + cos(pi * min(1.0, step / total))))


def descend(module: nn.Module, optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step down the gradient of the loss, shortened to `LONGEST`."""
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), LONGEST)
    optimiser.step()
