"""Targets by partial denoising: SDEdit (Meng et al. 2022) of the views, as DreamGaussian's second stage uses it.

The noisy latents are denoised by a few guided DDIM steps and decoded; the views then move towards those pictures, so
no gradient passes through the encoder, and one target serves several optimiser steps.
"""

from dataclasses import dataclass

import torch

from splatdream.contracts import Gradient, Prior, View
from splatdream.distill.denoise import denoised, pictures
from splatdream.distill.options import check_guidance, check_range


@dataclass(frozen=True)
class SDEdit:
    guidance_scale: float = 5.0
    steps: int = 1

    def __post_init__(self) -> None:
        check_guidance("sdedit", self.guidance_scale)
        check_range("steps of sdedit", self.steps, 1, 1000)

    def init(self, prior: Prior, generator: torch.Generator) -> None:
        return None

    @torch.no_grad()
    def __call__(self, view: View, prior: Prior, state: None, generator: torch.Generator) -> tuple[Gradient, None]:
        x_t = prior.schedule.add_noise(view.latents, view.noise, view.timesteps)
        clean = denoised(
            prior, x_t, view.timesteps, view.condition, guidance_scale=self.guidance_scale, steps=self.steps
        )
        return Gradient(targets=pictures(prior, clean, view)), None
