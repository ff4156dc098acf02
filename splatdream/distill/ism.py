"""Interval score matching: Liang et al., LucidDreamer, 2024, section 3.2."""

from dataclasses import dataclass

import torch

from splatdream.contracts import Gradient, Prior, View
from splatdream.distill.inversion import from_clean, invert, step_up
from splatdream.distill.options import check_guidance, check_range
from splatdream.distill.weights import check_weight, weight
from splatdream.guidance import guided


@dataclass(frozen=True)
class ISM:
    """w(t) (eps_guided(x_t, t, y) - eps(x_s, s, empty)), where x_s and x_t come from x by DDIM inversion, s < t.

    The inversion hears the empty prompt and goes by `steps` to the whole range; s lies `delta` of the range below t.
    It starts at the clean latents, as in the paper; with `offset_noise` at timestep 0's noise plus a random shift per
    channel of that deviation, as in the authors' code (0.1). A view costs ceil(steps s / T) + 3 evaluations.
    """

    guidance_scale: float = 7.5
    steps: int = 5
    delta: float = 0.05
    offset_noise: float = 0.0
    weighting: str = "sigma/alpha"

    def __post_init__(self) -> None:
        check_weight(self.weighting)
        check_guidance("ism", self.guidance_scale)
        check_range("steps of ism", self.steps, 1, 1000)
        check_range("delta of ism", self.delta, 0.0, 1.0)
        check_range("offset_noise of ism", self.offset_noise, 0.0, 1.0)

    def init(self, prior: Prior, generator: torch.Generator) -> None:
        return None

    @torch.no_grad()
    def __call__(self, view: View, prior: Prior, state: None, generator: torch.Generator) -> tuple[Gradient, None]:
        t = view.timesteps
        s = (t - round(self.delta * len(prior.schedule))).clamp_min(0)
        empty = prior.condition(view.prompt, "", view.cameras)
        x, levels = view.latents, from_clean(prior.schedule)
        if self.offset_noise:
            shift = torch.randn(x.shape[:2], generator=generator).to(x)[:, :, None, None]
            levels = prior.schedule
            x = levels.add_noise(x, view.noise + self.offset_noise * shift, torch.zeros_like(t))
        x_s = invert(prior, x, s, empty, 0.0, steps=self.steps, levels=levels)
        eps_s = guided(prior, x_s, s, empty, 0.0).eps
        x_t = step_up(levels, x_s, eps_s, s, t)
        eps_t = guided(prior, x_t, t, view.condition, self.guidance_scale).eps
        w = weight(self.weighting, prior.schedule, t, like=x_t)
        return Gradient(latents=w * (eps_t - eps_s)), None
