"""How a pipeline's scheduler adds noise: its config read as a `Schedule` and the kind of its network's answer."""

from typing import Any

import torch
from diffusers import DDIMScheduler
from jaxtyping import Float, Int
from torch import Tensor

from splatdream.schedule import Kind, Schedule, per_sample


def discrete(config: dict[str, Any]) -> tuple[Kind, Schedule]:
    """Of a scheduler that steps through betas, whatever its sampler."""
    known = {key: value for key, value in config.items() if not key.startswith("_") and key in _DISCRETE}
    scheduler: Any = DDIMScheduler(**known)
    return scheduler.config.prediction_type, Schedule.from_alphas_cumprod(scheduler.alphas_cumprod)


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

    ValueError where the shift is made for each size of picture.
    """
    if config.get("use_dynamic_shifting"):
        raise ValueError("its scheduler shifts the noise with the picture's size, which this prior cannot follow")
    T, shift = config.get("num_train_timesteps", 1000), config.get("flow_shift", config.get("shift", 1.0))
    s = torch.arange(1, T + 1, dtype=torch.float64) / T
    return "flow", Schedule.from_flow(shift * s / (1.0 + (shift - 1.0) * s))


def on_path(
    schedule: Schedule, latents: Float[Tensor, "B C h w"], timesteps: Int[Tensor, " B"]
) -> tuple[Float[Tensor, "B C h w"], Float[Tensor, " B"]]:
    """x_t as it lies on the straight path, and the path's own time, T at pure noise."""
    alpha, sigma = (values.to(latents.device)[timesteps] for values in (schedule.alphas, schedule.sigmas))
    whole = alpha + sigma
    return latents / per_sample(whole, latents).to(latents), len(schedule) * sigma / whole
