"""DDIM inversion: the sampler run backwards, from latents to the noise it would have made them from.

With lambda = sigma / alpha, a DDIM step from lambda to lambda' adds (lambda' - lambda) eps to x_t / alpha (Song et al.,
Denoising Diffusion Implicit Models, 2021, eq. 14). Upwards it is the same step with the prediction of where it starts.
"""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splatdream.contracts import Condition, Prior
from splatdream.guidance import guided
from splatdream.schedule import Prediction, Schedule


def from_clean(schedule: Schedule) -> Schedule:
    """The schedule with no noise at all at timestep 0: where latents of a render stand."""
    alphas, sigmas = schedule.alphas.clone(), schedule.sigmas.clone()
    alphas[0], sigmas[0] = 1.0, 0.0
    return replace(schedule, alphas=alphas, sigmas=sigmas)


def step_up(
    levels: Schedule,
    x_t: Float[Tensor, "B C h w"],
    eps: Float[Tensor, "B C h w"],
    now: Int[Tensor, " B"],
    after: Int[Tensor, " B"],
    *,
    eta: float = 0.0,
    fresh: Float[Tensor, "B C h w"] | None = None,
) -> Float[Tensor, "B C h w"]:
    """x at the timesteps `after`, not earlier than `now`; the part of `fresh` noise is DDIM's eq. 16 times `eta`."""
    alpha, sigma = levels.at(now, x_t)
    x0 = Prediction("epsilon", eps, x_t, alpha, sigma).x0
    if fresh is not None:
        alpha_after, sigma_after = levels.at(after, x_t)
        share = eta * sigma / sigma_after**2 * (1.0 - (alpha_after / alpha) ** 2).clamp_min(0.0).sqrt()
        # The old noise shrinks by as much as the new one takes, so that x keeps the variance of its timestep.
        eps = (1.0 - share**2).clamp_min(0.0).sqrt() * eps + share * fresh
    return levels.add_noise(x0, eps, after)


@torch.no_grad()
def invert(
    prior: Prior,
    latents: Float[Tensor, "B C h w"],
    timesteps: Int[Tensor, " B"],
    condition: Condition,
    guidance_scale: float,
    *,
    steps: int,
    levels: Schedule,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "B C h w"]:
    """x at `timesteps`, from latents at timestep 0, over the levels at multiples of T / steps.

    A view at t takes ceil(steps t / T) steps, whatever its neighbours take: each view goes its own way, and one that
    has arrived is asked about no more.
    """
    x_t, T = latents, len(levels)
    for k in range(steps):
        now = timesteps.clamp_max(k * T // steps)
        after = timesteps.clamp_max((k + 1) * T // steps)
        rows = (after > now).nonzero()[:, 0]
        if len(rows) == 0:  # all have arrived, or the levels stand closer than timesteps
            continue
        eps = guided(prior, x_t[rows], now[rows], condition[rows], guidance_scale).eps
        fresh = torch.randn(x_t.shape, generator=generator).to(x_t)[rows] if eta else None
        moved = step_up(levels, x_t[rows], eps, now[rows], after[rows], eta=eta, fresh=fresh)
        x_t = x_t.index_copy(0, rows, moved)
    return x_t
