"""MVDream's x0 reconstruction: Shi et al., MVDream: Multi-view Diffusion for 3D Generation, 2024.

The latents move towards the guided estimate of x0. Guidance stretches that estimate, which shows as glaring colours;
it is shrunk to the spread of the estimate without guidance (Lin et al. 2023), taken over all views of a group at once
so that their brightness stays the same.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from splatdream.contracts import Gradient, Prior, View, views_together
from splatdream.distill.options import check_guidance, check_range
from splatdream.guidance import answers


@dataclass(frozen=True)
class Recon:
    """x - x0', x0' = x0 (rescale std(x0_cond) / std(x0) + 1 - rescale) per group of `group` successive views.

    With rescale 0 it is SDS with w = sigma/alpha. Two evaluations. Views that a prior sees one by one are groups of 1.
    """

    guidance_scale: float = 15.0
    rescale: float = 0.5
    group: int = 4

    def __post_init__(self) -> None:
        check_guidance("recon", self.guidance_scale)
        check_range("rescale of recon", self.rescale, 0.0, 1.0)
        if self.group < 1:
            raise ValueError(f"recon takes views in groups of at least 1; got {self.group}")

    def init(self, prior: Prior, generator: torch.Generator) -> None:
        """ValueError where the views of a group are not seen together."""
        seen = views_together(prior)
        if seen % self.group:
            raise ValueError(
                f"recon takes the spread over {self.group} views that the prior sees together, and this one sees "
                f"{seen}; use the prior builtin-mv or mvdream, recon:group=1, or sds:weighting=sigma/alpha"
            )

    def __call__(self, view: View, prior: Prior, state: None, generator: torch.Generator) -> tuple[Gradient, None]:
        x_t = prior.schedule.add_noise(view.latents, view.noise, view.timesteps)
        said = answers(prior, x_t, view.timesteps, view.condition)
        x0 = said.guided(self.guidance_scale).x0
        factor = self.rescale * self.spread(said.cond.x0) / self.spread(x0) + 1.0 - self.rescale
        return Gradient(latents=view.latents - factor * x0), None

    def spread(self, x0: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 1 1 1"]:
        """The standard deviation over each view's group; a little more, so that flat pictures have a ratio of 1."""
        per_group = x0.reshape(-1, self.group * x0[0].numel()).std(1) + 1e-8
        return per_group.repeat_interleave(self.group).reshape(-1, 1, 1, 1)
