"""McAllister et al., Rethinking Score Distillation as a Bridge Between Image Distributions, 2024.

SDS compares the prompt with noise, which is a poor account of what renders look like. After a warm-up by SDS this
rule compares it with words for the renders as they are: the prompt and what is wrong with the pictures.
"""

from dataclasses import dataclass, replace

import torch

from splatdream.contracts import Gradient, Prior, View
from splatdream.distill.options import check_guidance, check_range
from splatdream.distill.sds import SDS
from splatdream.distill.weights import check_weight, weight
from splatdream.guidance import answers


@dataclass(frozen=True)
class Bridge:
    """SDS for the first `warmup` of the run, then w(t) g (eps_target - eps_source). Two evaluations in both stages.

    The target is the prompt and the source the prompt with `source` behind it: those of the paper's words that the
    built-in prior knows. Without the warm-up the renders are nothing that the source describes, and they drift.
    """

    guidance_scale: float = 15.0
    weighting: str = "sds"
    warmup: float = 0.8
    source: str = "oversaturated blurry noisy malformed"

    def __post_init__(self) -> None:
        check_guidance("bridge", self.guidance_scale)
        check_weight(self.weighting)
        check_range("warmup of bridge", self.warmup, 0.0, 1.0)
        if not self.source.strip():
            raise ValueError("source of bridge is empty: say what is wrong with the pictures, as in 'blurry noisy'")

    @property
    def words(self) -> str:
        return self.source

    def init(self, prior: Prior, generator: torch.Generator) -> None:
        return None

    def __call__(self, view: View, prior: Prior, state: None, generator: torch.Generator) -> tuple[Gradient, None]:
        if view.progress < self.warmup:
            return SDS(self.guidance_scale, self.weighting)(view, prior, None, generator)
        x_t = prior.schedule.add_noise(view.latents, view.noise, view.timesteps)
        source = prior.condition(f"{view.prompt}, {self.source}", "", view.cameras).cond
        said = answers(prior, x_t, view.timesteps, replace(view.condition, uncond=source))
        w = weight(self.weighting, prior.schedule, view.timesteps, like=x_t)
        return Gradient(latents=w * self.guidance_scale * (said.turned.eps - said.uncond.eps)), None
