"""HiFA's two residuals: Zhu et al., HiFA: High-fidelity Text-to-3D Generation with Advanced Diffusion Guidance, 2024.

x0 is estimated by several denoising steps; the latents move towards it and the picture towards its decoding. Both
weights are constant in t, as in the paper's runs: a latent residual x - x0 is SDS with w = sigma/alpha. The paper's
annealing by the square root is the ladder `hifa`, its z-variance the recipe's `weight_variance`.
"""

from dataclasses import dataclass

import torch

from splatdream.contracts import Gradient, Prior, View
from splatdream.distill.denoise import denoised, pictures
from splatdream.distill.options import check_guidance, check_range


@dataclass(frozen=True)
class HiFA:
    """The gradient of latent_weight/2 |x - x0|^2 + image_weight/2 |I - D(x0)|^2, with x0 and D(x0) held fixed.

    Two evaluations per denoising step. A weight of 0 leaves its residual out.
    """

    guidance_scale: float = 15.0
    steps: int = 4
    latent_weight: float = 1.0
    image_weight: float = 0.1

    def __post_init__(self) -> None:
        check_guidance("hifa", self.guidance_scale)
        check_range("steps of hifa", self.steps, 1, 1000)
        check_range("latent_weight of hifa", self.latent_weight, 0.0, 1e6)
        check_range("image_weight of hifa", self.image_weight, 0.0, 1e6)
        if not self.latent_weight and not self.image_weight:
            raise ValueError("latent_weight and image_weight of hifa are both 0: nothing would move")

    def init(self, prior: Prior, generator: torch.Generator) -> None:
        return None

    @torch.no_grad()
    def __call__(self, view: View, prior: Prior, state: None, generator: torch.Generator) -> tuple[Gradient, None]:
        x_t = prior.schedule.add_noise(view.latents, view.noise, view.timesteps)
        x0 = denoised(prior, x_t, view.timesteps, view.condition, guidance_scale=self.guidance_scale, steps=self.steps)
        return Gradient(
            latents=self.latent_weight * (view.latents - x0) if self.latent_weight else None,
            targets=pictures(prior, x0, view) if self.image_weight else None,
            weight=self.image_weight,
        ), None
