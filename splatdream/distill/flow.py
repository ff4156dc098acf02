"""Rectified-flow distillation: Yang et al., Text-to-Image Rectified Flow as Plug-and-Play Priors, 2025 (RFDS).

A rectified flow runs along x_s = (1 - s) x + s eps with velocity eps - x. Any noise schedule is such a path rescaled:
s = sigma / (alpha + sigma) and x_s = x_t / (alpha + sigma), so that every prior has a velocity, eps_hat - x0_hat.
"""

from dataclasses import dataclass

import torch

from splatdream.contracts import Gradient, Prior, View
from splatdream.distill.options import check_guidance
from splatdream.distill.weights import check_weight, weight
from splatdream.guidance import guided


@dataclass(frozen=True)
class Flow:
    """w(t) (v_guided(x_t, t, y) - (noise - x)), which is w(t) (eps_guided - noise) / (1 - s). Two evaluations.

    `reverse` (RFDS-Rev) first replaces the noise by the one that the prompt itself would trace the view back to,
    noise + (1 - s) (v_cond - (noise - x)) = eps_cond, with one evaluation more: the same render then meets nearly the
    same noise at every step.
    """

    guidance_scale: float = 15.0
    weighting: str = "uniform"
    reverse: bool = False

    def __post_init__(self) -> None:
        check_guidance("flow", self.guidance_scale)
        check_weight(self.weighting)

    def init(self, prior: Prior, generator: torch.Generator) -> None:
        return None

    def __call__(self, view: View, prior: Prior, state: None, generator: torch.Generator) -> tuple[Gradient, None]:
        x, noise, timesteps = view.latents, view.noise, view.timesteps
        x_t = prior.schedule.add_noise(x, noise, timesteps)
        if self.reverse:
            noise = prior.predict(x_t, timesteps, view.condition.cond).eps
            x_t = prior.schedule.add_noise(x, noise, timesteps)
        answer = guided(prior, x_t, timesteps, view.condition, self.guidance_scale)
        v = answer.eps - answer.x0
        w = weight(self.weighting, prior.schedule, timesteps, like=x_t)
        return Gradient(latents=w * (v - (noise - x))), None
