"""3D Gaussian Splatting as Markov Chain Monte Carlo (Kheradmand et al. 2024, arXiv 2404.09591), in plain torch.

The cloud is a set of samples: Gaussians that have died (opacity near 0) are moved onto living ones, drawn by opacity;
the cloud grows by a fixed fraction towards the cap in the same way; and centres receive noise in the shape of their
own Gaussian, gated so that only faint ones wander. M draws.
"""

from dataclasses import dataclass
from math import comb

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splatdream.contracts import Render
from splatdream.densify import State, check_cap, due, normal, rotate, strongest
from splatdream.optim import SplatOptimiser
from splatdream.splats import Splats, logit

N_MAX = 51
"""The most Gaussians that share one place in eq. 9; more copies are treated as this many, as in the paper's code."""

GATE_SHARPNESS = 100.0
GATE_OPACITY = 0.005
"""The noise gate sigmoid(-k (opacity - t)) of eq. 8, with k = 100 and t = 0.005."""


@dataclass(frozen=True)
class MCMC:
    """Relocate the dead, grow by `growth` up to `cap`, shake the faint.

    `start`, `stop` and `every` are fractions of the run and govern the rows; noise falls at every step, scaled by
    `noise` times the learning rate of the means. The paper has 5e5 at a rate of 1.6e-4; the recipe's rate ends
    25 times higher, and the default keeps the product there. At the cap the lowest opacities go first.
    """

    cap: int = 20_000
    growth: float = 0.05
    min_opacity: float = 0.005
    noise: float = 2e4
    start: float = 0.05
    stop: float = 0.85
    every: float = 0.02

    def __post_init__(self) -> None:
        check_cap(self.cap)

    def init(self, splats: Splats) -> State:
        return {}

    @torch.no_grad()
    def step(
        self,
        splats: Splats,
        optimiser: SplatOptimiser,
        state: State,
        render: Render,
        step: int,
        total_steps: int,
        generator: torch.Generator,
    ) -> tuple[Splats, SplatOptimiser, State]:
        splats = splats.detach()
        if due(step, total_steps, start=self.start, stop=self.stop, every=self.every):
            splats, optimiser = self.relocate(splats, optimiser, generator)
            splats, optimiser = self.resize(splats, optimiser, generator)
        shake = self.noise * optimiser.learning_rates["means"]
        return splats.replace(means=splats.means + wander(splats, shake, generator)), optimiser, state

    def relocate(
        self, splats: Splats, optimiser: SplatOptimiser, generator: torch.Generator
    ) -> tuple[Splats, SplatOptimiser]:
        """Every dead row becomes a copy of a living one; nothing happens when none is dead or none lives."""
        alive = splats.opacities > self.min_opacity
        dead = (~alive).nonzero()[:, 0]
        living = alive.nonzero()[:, 0]
        if len(dead) == 0 or len(living) == 0:
            return splats, optimiser
        sources = living[draw(splats.opacities[living], len(dead), generator)]
        rows = torch.arange(len(splats), device=dead.device)
        rows[dead] = sources
        return self.share(splats, optimiser, sources, rows)

    def resize(
        self, splats: Splats, optimiser: SplatOptimiser, generator: torch.Generator
    ) -> tuple[Splats, SplatOptimiser]:
        """`growth` more rows, at least one, but never more than the cap in all."""
        count = len(splats)
        if count > self.cap:
            rows = strongest(splats.opacities, self.cap)
            return splats.take(rows), optimiser.take(rows)
        born = min(max(1, int(self.growth * count)), self.cap - count) if self.growth > 0 else 0
        if born == 0 or not bool((splats.opacities > 0).any()):
            return splats, optimiser
        sources = draw(splats.opacities, born, generator)
        rows = torch.cat([torch.arange(count, device=sources.device), sources])
        return self.share(splats, optimiser, sources, rows)

    def share(
        self, splats: Splats, optimiser: SplatOptimiser, sources: Tensor, rows: Tensor
    ) -> tuple[Splats, SplatOptimiser]:
        """`rows`, with each source's opacity and scale divided among it and its copies; all of these start afresh."""
        copies = torch.bincount(sources, minlength=len(splats))[sources] + 1
        opacities, scales = shared(splats.opacities[sources], splats.scales[sources], copies)
        ceiling = 1.0 - torch.finfo(opacities.dtype).eps
        logit_opacities, log_scales = splats.logit_opacities.clone(), splats.log_scales.clone()
        logit_opacities[sources] = logit(opacities.clamp(self.min_opacity, ceiling))
        log_scales[sources] = scales.log()
        touched = torch.zeros(len(splats), dtype=torch.bool, device=rows.device)
        touched[sources] = True
        splats = splats.replace(logit_opacities=logit_opacities, log_scales=log_scales)
        return splats.take(rows), optimiser.take(rows, touched[rows])


def draw(weights: Float[Tensor, " N"], count: int, generator: torch.Generator) -> Int[Tensor, " M"]:
    """`count` rows with replacement, in proportion to `weights`."""
    drawn = torch.multinomial(weights.to(generator.device), count, replacement=True, generator=generator)
    return drawn.to(weights.device)


def shared(
    opacities: Float[Tensor, " M"], scales: Float[Tensor, "M 3"], copies: Int[Tensor, " M"]
) -> tuple[Float[Tensor, " M"], Float[Tensor, "M 3"]]:
    """What each of n Gaussians at one place needs, so that together they look like the one that was there (eq. 9).

    1 - (1 - o')^n = o keeps the centre. Along a line through it the opacity keeps its integral when
    s' = s o / sum_k C(n, k) (-1)^(k+1) o'^k / sqrt(k), k = 1 ... n, which is eq. 9 with its inner sum done.
    """
    n = copies.clamp(1, N_MAX)
    o = opacities.double().clamp_max(1.0 - torch.finfo(torch.float32).eps)
    shares = -torch.expm1(torch.log1p(-o) / n)
    k = torch.arange(1, N_MAX + 1, dtype=o.dtype, device=o.device)
    binomials = torch.tensor(
        [[comb(i, j) for j in range(1, N_MAX + 1)] for i in range(N_MAX + 1)], dtype=o.dtype, device=o.device
    )
    signs = 1.0 - 2.0 * ((k + 1) % 2)
    terms = binomials[n] * signs * shares[:, None] ** k / k.sqrt()
    factors = o / terms.sum(-1)
    return shares.to(opacities.dtype), (scales * factors[:, None]).to(scales.dtype)


def wander(splats: Splats, shake: float, generator: torch.Generator) -> Float[Tensor, "N 3"]:
    """The noise on the centres: covariance times a normal draw, gated by opacity (eq. 8)."""
    gates = torch.sigmoid(-GATE_SHARPNESS * (splats.opacities - GATE_OPACITY))
    draws = normal(tuple(splats.means.shape), splats.means, generator) * gates[:, None] * shake
    conjugates = splats.quats * splats.quats.new_tensor([1.0, -1.0, -1.0, -1.0])
    return rotate(splats.quats, splats.scales.square() * rotate(conjugates, draws))
