"""Score distillation sampling: Poole et al., DreamFusion, 2022, eq. 3."""

from dataclasses import dataclass

import torch

from splatdream.contracts import Gradient, Prior, View
from splatdream.distill.options import check_guidance
from splatdream.distill.weights import check_weight, weight
from splatdream.guidance import guided


@dataclass(frozen=True)
class SDS:
    """w(t) (eps_guided(x_t, t, y) - noise). With weighting "sigma/alpha" it is x - x0_guided, the x0 form."""

    guidance_scale: float = 15.0
    weighting: str = "sds"

    def __post_init__(self) -> None:
        check_guidance("sds", self.guidance_scale)
        check_weight(self.weighting)

    def init(self, prior: Prior, generator: torch.Generator) -> None:
        return None

    def __call__(self, view: View, prior: Prior, state: None, generator: torch.Generator) -> tuple[Gradient, None]:
        x_t = prior.schedule.add_noise(view.latents, view.noise, view.timesteps)
        eps = guided(prior, x_t, view.timesteps, view.condition, self.guidance_scale).eps
        w = weight(self.weighting, prior.schedule, view.timesteps, like=x_t)
        return Gradient(latents=w * (eps - view.noise)), None
