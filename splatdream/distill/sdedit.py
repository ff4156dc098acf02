"""Targets by partial denoising: SDEdit (Meng et al. 2022) of the views, as DreamGaussian's second stage uses it.

The noisy latents are denoised by a few guided DDIM steps and decoded; the views then move towards those pictures, so
no gradient passes through the encoder, and one target serves several optimiser steps.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import interpolate

from splatdream.contracts import Gradient, Prior, View
from splatdream.guidance import guided
from splatdream.schedule import ddim_step


@dataclass(frozen=True)
class SDEdit:
    guidance_scale: float = 5.0
    steps: int = 1

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"sdedit takes at least 1 denoising step; got {self.steps}")

    def init(self, prior: Prior, generator: torch.Generator) -> None:
        return None

    @torch.no_grad()
    def __call__(self, view: View, prior: Prior, state: None, generator: torch.Generator) -> tuple[Gradient, None]:
        x_t = prior.schedule.add_noise(view.latents, view.noise, view.timesteps)
        for k in range(self.steps):
            now = view.timesteps * (self.steps - k) // self.steps
            after = view.timesteps * (self.steps - k - 1) // self.steps
            prediction = guided(prior, x_t, now, view.condition, self.guidance_scale)
            x_t = ddim_step(prior.schedule, prediction, after) if k + 1 < self.steps else prediction.x0
        targets = prior.decode(x_t).clamp(0, 1)
        if targets.shape != view.images.shape:  # a coarse render was enlarged for the prior
            height, width = view.images.shape[1:3]
            targets = interpolate(targets.permute(0, 3, 1, 2), (height, width), mode="bilinear", antialias=True)
            targets = targets.permute(0, 2, 3, 1)
        return Gradient(targets=targets), None
