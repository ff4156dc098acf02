"""The weights w(t) of score distillation, by name, for gradients written as w(t) (eps_hat - eps).

`flow` multiplies its residual of velocities by them instead.
"""

from math import pi

from jaxtyping import Float, Int
from torch import Tensor

from splatdream.catalog import choose
from splatdream.schedule import Schedule


def _logit_normal(alpha: Tensor, sigma: Tensor) -> Tensor:
    """The density of sigmoid(N(0, 1)) at s = sigma / (alpha + sigma): most weight on the middle of a flow's path.

    Stable Diffusion 3 trains with this law (Esser et al. 2024, section 3.1). RFDS's code multiplies by a fresh draw
    of sigmoid(N(0, 1)) that has nothing to do with t, which on average is a constant.
    """
    alpha, sigma = alpha.clamp_min(1e-6), sigma.clamp_min(1e-6)
    logit = (sigma / alpha).log()
    jacobian = (alpha + sigma) ** 2 / (alpha * sigma)
    return jacobian * (-0.5 * logit**2).exp() / (2.0 * pi) ** 0.5


WEIGHTS = {
    "sds": lambda alpha, sigma: sigma**2,  # 1 - abar, DreamFusion
    "uniform": lambda alpha, sigma: sigma**0,  # SJC
    "sigma/alpha": lambda alpha, sigma: sigma / alpha.clamp_min(1e-3),  # x0 residual: MVDream, ISM, SDI
    "fantasia3d": lambda alpha, sigma: alpha * sigma**2,  # Fantasia3D
    "sigmoid": _logit_normal,
}


def check_weight(name: str) -> None:
    """ValueError for an unknown name."""
    choose("weighting", name, list(WEIGHTS))


def weight(
    name: str, schedule: Schedule, timesteps: Int[Tensor, " B"], *, like: Float[Tensor, "B *rest"]
) -> Float[Tensor, "B *ones"]:
    """w(t) of each sample, shaped to multiply `like`."""
    return WEIGHTS[name](*schedule.at(timesteps, like))
