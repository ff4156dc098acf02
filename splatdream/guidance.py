"""Classifier-free guidance, defined once (Ho & Salimans 2022): uncond + guidance_scale * (cond - uncond)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splatdream.contracts import Condition, Prior
from splatdream.schedule import Prediction


def guided(
    prior: Prior,
    x_t: Float[Tensor, "B C h w"],
    timesteps: Int[Tensor, " B"],
    condition: Condition,
    guidance_scale: float,
) -> Prediction:
    """The guided prediction, in the prior's native kind (guidance is affine, so the kind does not matter).

    Scale 1 is the conditional prediction and 0 the unconditional one: one evaluation. Others take two, in one call.
    """
    if guidance_scale == 1.0:
        return prior.predict(x_t, timesteps, condition.cond)
    if guidance_scale == 0.0:
        return prior.predict(x_t, timesteps, condition.uncond)
    both = prior.predict(torch.cat([x_t, x_t]), torch.cat([timesteps, timesteps]), condition.cond + condition.uncond)
    cond, uncond = both.value.chunk(2)
    alpha, sigma = both.alpha[: len(x_t)], both.sigma[: len(x_t)]
    return Prediction(both.kind, uncond + guidance_scale * (cond - uncond), x_t, alpha, sigma)
