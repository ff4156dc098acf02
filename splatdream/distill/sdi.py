"""Score distillation via inversion: Lukoianov et al., Score Distillation via Reparametrized DDIM, 2024."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from splatdream.contracts import Gradient, Prior, View, views_together
from splatdream.distill.inversion import from_clean, invert
from splatdream.distill.options import check_guidance, check_range
from splatdream.guidance import guided


@dataclass(frozen=True)
class SDI:
    """x - x0_guided(alpha x + sigma kappa, t, y): SDS in its x0 form, with noise kappa that the prior finds in x.

    kappa comes from DDIM inversion under the prompt with negative guidance, by `steps` to the whole range and up to
    `tau` of the range above t; `eta` is the share of fresh noise. A view costs 2 ceil(steps (t + tau T) / T) + 2
    evaluations. (The public port evaluates latents of t + tau at t, asks for negative timesteps and serves one view.)
    """

    guidance_scale: float = 7.5
    inversion_guidance_scale: float = -7.5
    steps: int = 10
    eta: float = 0.3
    tau: float = 1 / 30

    def __post_init__(self) -> None:
        check_guidance("sdi", self.guidance_scale)
        check_range("inversion_guidance_scale of sdi", self.inversion_guidance_scale, -1000.0, 1000.0)
        check_range("steps of sdi", self.steps, 1, 1000)
        check_range("eta of sdi", self.eta, 0.0, 1.0)
        check_range("tau of sdi", self.tau, 0.0, 1.0)

    def init(self, prior: Prior, generator: torch.Generator) -> None:
        return None

    @torch.no_grad()
    def __call__(self, view: View, prior: Prior, state: None, generator: torch.Generator) -> tuple[Gradient, None]:
        kappa = self.kappa(view, prior, generator)
        x_t = prior.schedule.add_noise(view.latents, kappa, view.timesteps)
        x0 = guided(prior, x_t, view.timesteps, view.condition, self.guidance_scale).x0
        return Gradient(latents=view.latents - x0), None

    def kappa(self, view: View, prior: Prior, generator: torch.Generator) -> Float[Tensor, "B C h w"]:
        """The noise of the inverted latents, found a random way above each group's timestep."""
        T, levels, group = len(prior.schedule), from_clean(prior.schedule), views_together(prior)
        extra = self.tau * T * torch.rand(len(view.timesteps) // group, generator=generator).repeat_interleave(group)
        above = (view.timesteps + extra.to(view.timesteps)).clamp(1, T - 1)  # timestep 0 holds no noise to find
        x = invert(
            prior,
            view.latents,
            above,
            view.condition,
            self.inversion_guidance_scale,
            steps=self.steps,
            levels=levels,
            eta=self.eta,
            generator=generator,
        )
        alpha, sigma = levels.at(above, x)
        return (x - alpha * view.latents) / sigma
