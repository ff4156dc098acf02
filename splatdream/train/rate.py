"""The rate of every training run here: a linear warm-up, then a half cosine down to a floor."""

from math import cos, pi


def falling_rate(step: int, total: int, *, peak: float, warmup: int, floor: float) -> float:
    """The rate of `step` (from 0) of `total`; `floor` is a share of `peak`."""
    warm = min(1.0, (step + 1) / warmup)
    return peak * warm * (floor + (1 - floor) * 0.5 * (1 + cos(pi * min(1.0, step / total))))
