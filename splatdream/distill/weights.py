"""The weights w(t) of score distillation, by name, for gradients written as w(t) (eps_hat - eps)."""

from jaxtyping import Float, Int
from torch import Tensor

from splatdream.catalog import choose
from splatdream.schedule import Schedule

_WEIGHTS = {
    "sds": lambda alpha, sigma: sigma**2,  # 1 - abar, DreamFusion
    "uniform": lambda alpha, sigma: sigma**0,  # SJC
    "sigma/alpha": lambda alpha, sigma: sigma / alpha.clamp_min(1e-3),  # x0 residual: MVDream, ISM, SDI
    "fantasia3d": lambda alpha, sigma: alpha * sigma**2,  # Fantasia3D
}


def check_weight(name: str) -> None:
    """ValueError for an unknown name."""
    choose("weighting", name, list(_WEIGHTS))


def weight(
    name: str, schedule: Schedule, timesteps: Int[Tensor, " B"], *, like: Float[Tensor, "B *rest"]
) -> Float[Tensor, "B *ones"]:
    """w(t) of each sample, shaped to multiply `like`."""
    return _WEIGHTS[name](*schedule.at(timesteps, like))
