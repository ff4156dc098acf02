"""Noise-free score distillation: Katzir et al., Noise-Free Score Distillation, 2024.

The prediction at a render is taken apart into what the prompt adds, d_C, what leads back to the domain of good
pictures, d_D, and noise, which is left out. d_D is read off where it stands alone: from the unconditional prediction
where little noise was added, else from its difference to what words for bad pictures predict.
"""

from dataclasses import dataclass

import torch

from splatdream.contracts import Gradient, Prior, View
from splatdream.distill.options import check_guidance, check_range
from splatdream.distill.weights import check_weight, weight
from splatdream.guidance import answers
from splatdream.schedule import per_sample


@dataclass(frozen=True)
class NFSD:
    """w(t) (d_C + d_D), with d_C = s (eps_cond - eps_null) and d_D = eps_null - eps_neg.

    Below `quiet` T, d_D is eps_null alone. eps_neg answers the negative prompt, or `negative` where none is given:
    those of the paper's words that the built-in prior knows. Three evaluations.
    """

    guidance_scale: float = 7.5
    weighting: str = "sds"
    negative: str = "blurry low quality ugly dark"
    quiet: float = 0.2

    def __post_init__(self) -> None:
        check_guidance("nfsd", self.guidance_scale)
        check_weight(self.weighting)
        check_range("quiet of nfsd", self.quiet, 0.0, 1.0)

    @property
    def words(self) -> str:
        return self.negative

    @property
    def needs_negative_prompt(self) -> bool:
        return not self.negative.strip()

    def init(self, prior: Prior, generator: torch.Generator) -> None:
        return None

    def __call__(self, view: View, prior: Prior, state: None, generator: torch.Generator) -> tuple[Gradient, None]:
        x_t = prior.schedule.add_noise(view.latents, view.noise, view.timesteps)
        asked = prior.condition(view.prompt, "", view.cameras)
        bad = prior.condition(view.prompt, view.negative_prompt or self.negative, view.cameras).uncond
        said = answers(prior, x_t, view.timesteps, asked, bad)
        cond, null, neg = said.turned.eps, said.uncond.eps, said.others[0].eps
        noisy = per_sample((view.timesteps >= self.quiet * len(prior.schedule)).to(x_t), x_t)
        d_C = self.guidance_scale * (cond - null)
        d_D = null - noisy * neg
        w = weight(self.weighting, prior.schedule, view.timesteps, like=x_t)
        return Gradient(latents=w * (d_C + d_D)), None
