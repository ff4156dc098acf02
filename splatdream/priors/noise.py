"""How a pipeline's scheduler adds noise: its config read as a `Schedule` and the kind of its network's answer."""

from typing import Any

import torch
from diffusers import DDIMScheduler
from jaxtyping import Float, Int
from torch import Tensor

from splatdream.priors.folder import first_line
from splatdream.schedule import Kind, Schedule, per_sample


def discrete(config: dict[str, Any]) -> tuple[Kind, Schedule]:
    """Of a scheduler that steps through betas, whatever its sampler. ValueError for one of another kind."""
    kind = config.get("prediction_type", "epsilon")
    if ("beta_start" not in config and not config.get("trained_betas")) or kind not in _KINDS:
        raise ValueError(
            f"its scheduler ({config.get('_class_name')}, {kind}) is none that steps through betas towards "
            f"{' or '.join(_KINDS)}: this network cannot be asked with it"
        )
    known = {key: value for key, value in config.items() if key in _DISCRETE}
    try:
        scheduler: Any = DDIMScheduler(**known)
    except (TypeError, ValueError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"its scheduler's betas cannot be made: {first_line(error)}") from error
    return scheduler.config.prediction_type, growing(Schedule.from_alphas_cumprod(scheduler.alphas_cumprod))


_KINDS = ("epsilon", "v_prediction", "sample")
_DISCRETE = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "rescale_betas_zero_snr",
)


def flow(config: dict[str, Any]) -> tuple[Kind, Schedule]:
    """Of a scheduler of a straight path, shifted towards noise (Esser et al. 2024, eq. 23).

    ValueError where the shift is made for each size of picture, and for a scheduler of another kind.
    """
    if config.get("use_dynamic_shifting"):
        raise ValueError("its scheduler shifts the noise with the picture's size, which this prior cannot follow")
    T, shift = config.get("num_train_timesteps", 1000), config.get("flow_shift", config.get("shift"))
    if shift is None or not config.get("use_flow_sigmas", True):
        raise ValueError(
            f"its scheduler ({config.get('_class_name')}) is none of a straight path (flow), with a shift: this "
            "network cannot be asked with it"
        )
    if not (isinstance(T, int) and T > 0 and isinstance(shift, int | float) and shift > 0.0):
        raise ValueError(f"its scheduler has {T!r} timesteps and a shift of {shift!r}; both must be numbers above 0")
    s = torch.arange(1, T + 1, dtype=torch.float64) / T
    return "flow", growing(Schedule.from_flow(shift * s / (1.0 + (shift - 1.0) * s)))


def growing(schedule: Schedule) -> Schedule:
    """The schedule, if there is more noise at each timestep than at the one before; else ValueError."""
    noise = schedule.sigmas
    if len(noise) == 0 or not bool(noise.isfinite().all() and (noise.diff() >= 0).all() and noise[-1] > 0.5):
        raise ValueError(f"its scheduler's noise does not grow over its {len(noise)} timesteps")
    return schedule


def on_path(
    schedule: Schedule, latents: Float[Tensor, "B C h w"], timesteps: Int[Tensor, " B"]
) -> tuple[Float[Tensor, "B C h w"], Float[Tensor, " B"]]:
    """x_t as it lies on the straight path, and the path's own time, T at pure noise."""
    alpha, sigma = (values.to(latents.device)[timesteps] for values in (schedule.alphas, schedule.sigmas))
    whole = alpha + sigma
    return latents / per_sample(whole, latents).to(latents), len(schedule) * sigma / whole
