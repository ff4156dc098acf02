"""Score Jacobian chaining: Wang et al., Score Jacobian Chaining, 2023, its Perturb-and-Average Scoring.

In the paper's variance-exploding letters, with s = sigma/alpha: z = x + s n is a perturbed x, the denoiser is
D(z) = z - s eps(z / sqrt(1 + s^2), t), and the score at x is the mean over n of (D(z) - x) / s^2. Its argument
z / sqrt(1 + s^2) is x_t, so (x - D(z)) / s = eps - n: with one perturbation this is SDS with w = 1.
"""

from dataclasses import dataclass

import torch

from splatdream.contracts import Gradient, Prior, View
from splatdream.distill.options import check_guidance, check_range
from splatdream.guidance import guided


@dataclass(frozen=True)
class SJC:
    """eps_guided(x_t, t, y) - n, averaged over the perturbations n; all are evaluated in one call.

    The first perturbation is the view's own noise. `variance_reduction` subtracts n, whose mean is zero; without it
    the direction is eps_guided itself, (z - D(z)) / s: the same on average, and far noisier.
    """

    guidance_scale: float = 15.0
    perturbations: int = 1
    variance_reduction: bool = True

    def __post_init__(self) -> None:
        check_guidance("sjc", self.guidance_scale)
        check_range("perturbations of sjc", self.perturbations, 1, 1000)

    def init(self, prior: Prior, generator: torch.Generator) -> None:
        return None

    def __call__(self, view: View, prior: Prior, state: None, generator: torch.Generator) -> tuple[Gradient, None]:
        more = torch.randn((self.perturbations - 1, *view.noise.shape), generator=generator).to(view.noise)
        n = torch.cat([view.noise[None], more])
        rows = torch.arange(len(view.latents)).repeat(self.perturbations)
        timesteps = view.timesteps[rows]
        x_t = prior.schedule.add_noise(view.latents[rows], n.flatten(0, 1), timesteps)
        eps = guided(prior, x_t, timesteps, view.condition[rows], self.guidance_scale).eps.reshape(n.shape)
        return Gradient(latents=(eps - n if self.variance_reduction else eps).mean(0)), None
