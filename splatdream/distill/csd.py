"""Classifier score distillation: Yu et al., Text-to-3D with Classifier Score Distillation, 2024.

The second half of SDS alone, the score of the classifier that guidance implies:
w(t) (eps_sds - eps) = (g - 1) w(t) (eps_cond - eps_neg) + w(t) (eps_cond - eps).
It is linear in what the prior predicts, so it has little variance, and does not vanish at a mode.
"""

from dataclasses import dataclass

import torch

from splatdream.contracts import Gradient, Prior, View
from splatdream.distill.options import check_range
from splatdream.distill.weights import check_weight, weight
from splatdream.guidance import answers


@dataclass(frozen=True)
class CSD:
    """w(t) (eps_cond - v eps_neg - (1 - v) eps_null), with v the `negative_weight`.

    At v = 1 eps_null drops out: two evaluations, and eps_neg answers the empty prompt where no negative one is given.
    Other weights share out between the negative prompt and the empty one, three evaluations. The authors anneal v:
    `negative_weight=0..1` in the coarse stage and `1..0.5` in the fine one.
    """

    weighting: str = "sds"
    negative_weight: float = 1.0

    def __post_init__(self) -> None:
        check_weight(self.weighting)
        check_range("negative_weight of csd", self.negative_weight, 0.0, 1.0)

    @property
    def needs_negative_prompt(self) -> bool:
        return self.negative_weight != 1.0

    def init(self, prior: Prior, generator: torch.Generator) -> None:
        return None

    def __call__(self, view: View, prior: Prior, state: None, generator: torch.Generator) -> tuple[Gradient, None]:
        x_t = prior.schedule.add_noise(view.latents, view.noise, view.timesteps)
        empty = [prior.condition(view.prompt, "", view.cameras).uncond] if self.needs_negative_prompt else []
        said = answers(prior, x_t, view.timesteps, view.condition, *empty)
        against = said.uncond.eps
        if said.others:
            v, null = self.negative_weight, said.others[0].eps
            against = v * against + (1.0 - v) * null
        w = weight(self.weighting, prior.schedule, view.timesteps, like=x_t)
        return Gradient(latents=w * (said.turned.eps - against)), None
