"""The gradient rule of 3D Gaussian Splatting (Kerbl et al. 2023, section 5.2), with a hard cap.

Where the loss pulls strongly on a Gaussian's place on the screen, the cloud is too coarse: small Gaussians are cloned,
large ones split in two. Statistics cover every view of the batch: the norm of each view's gradient (their sum could
cancel), averaged over the views that see the Gaussian. They are scaled to a screen from -1 to 1 and by the number of
views, as gsplat does, so thresholds agree with gsplat's for a loss that is a mean over views.
"""

from dataclasses import dataclass
from math import inf, log

import torch
from jaxtyping import Bool
from torch import Tensor

from splatdream.contracts import Render
from splatdream.densify import State, check_cap, due, normal, rotate, strongest
from splatdream.optim import SplatOptimiser
from splatdream.splats import Splats, logit

SHRINK = 1.6
"""How much smaller the two halves of a split Gaussian are (Kerbl et al. 2023, section 5.2)."""


@dataclass(frozen=True)
class GradientGrowth:
    """Clone small, split large, prune faint and oversized; scales are world units, radii fractions of the picture.

    `start`, `stop` and `every` are fractions of the run; `reset_every` counts steps, up to `stop`, and 0 means never;
    `inf` turns a limit on size off. At the cap the lowest opacities go first.
    """

    cap: int = 20_000
    grow_gradient: float = 0.0002
    clone_scale: float = 0.04
    prune_opacity: float = 0.005
    prune_scale: float = 0.5
    prune_radius: float = inf
    reset_every: int = 0
    reset_opacity: float = 0.01
    start: float = 0.05
    stop: float = 0.75
    every: float = 0.05

    def __post_init__(self) -> None:
        check_cap(self.cap)

    def init(self, splats: Splats) -> State:
        """Sums of gradient norms, numbers of views that saw each Gaussian, largest radii; all zero."""
        zeros = torch.zeros_like(splats.logit_opacities.detach())
        return {"gradient_sums": zeros, "view_counts": zeros.clone(), "radii": zeros.clone()}

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
        """RuntimeError when nothing would be left; ValueError when the render has no screen gradient."""
        splats = splats.detach()
        state = watch(state, render)
        if due(step, total_steps, start=self.start, stop=self.stop, every=self.every):
            splats, optimiser, state = self.grow(splats, optimiser, state, generator)
            splats, optimiser, state = self.prune(splats, optimiser, state)
            if len(splats) == 0:
                raise RuntimeError(
                    f"pruning at step {step} would remove every Gaussian: none has an opacity of at least "
                    f"{self.prune_opacity} and scales up to {self.prune_scale}"
                )
            state = self.init(splats)
        if self.reset_every and 0 < step <= round(self.stop * total_steps) and step % self.reset_every == 0:
            ceiling = logit(torch.full_like(splats.logit_opacities, self.reset_opacity))
            splats = splats.replace(logit_opacities=torch.minimum(splats.logit_opacities, ceiling))
            optimiser = optimiser.forget("logit_opacities")
        return splats, optimiser, state

    def grow(
        self, splats: Splats, optimiser: SplatOptimiser, state: State, generator: torch.Generator
    ) -> tuple[Splats, SplatOptimiser, State]:
        """Rows in the order: those that stay, the clones, the first halves, the second halves."""
        pulled = state["gradient_sums"] / state["view_counts"].clamp_min(1) > self.grow_gradient
        small = splats.scales.amax(-1) <= self.clone_scale
        cloned = (pulled & small).nonzero()[:, 0]
        split = (pulled & ~small).nonzero()[:, 0]
        stay = (~(pulled & ~small)).nonzero()[:, 0]

        rows = torch.cat([stay, cloned, split, split])
        fresh = torch.ones_like(rows, dtype=torch.bool)
        fresh[: len(stay)] = False
        splats, optimiser, state = splats.take(rows), optimiser.take(rows, fresh), take(state, rows)

        halves = slice(len(stay) + len(cloned), None)
        draws = normal((2, len(split), 3), splats.means, generator).reshape(-1, 3)
        offsets = rotate(splats.quats[halves], splats.scales[halves] * draws)
        means, log_scales, radii = splats.means.clone(), splats.log_scales.clone(), state["radii"].clone()
        means[halves] += offsets
        log_scales[halves] -= log(SHRINK)
        radii[halves] /= SHRINK
        return splats.replace(means=means, log_scales=log_scales), optimiser, state | {"radii": radii}

    def prune(self, splats: Splats, optimiser: SplatOptimiser, state: State) -> tuple[Splats, SplatOptimiser, State]:
        """Without the faint and the oversized, then without the faintest beyond the cap."""
        rows = (~self.unwanted(splats, state)).nonzero()[:, 0]
        rows = rows[strongest(splats.opacities[rows], self.cap)]
        return splats.take(rows), optimiser.take(rows), take(state, rows)

    def unwanted(self, splats: Splats, state: State) -> Bool[Tensor, " N"]:
        faint = splats.opacities < self.prune_opacity
        oversized = splats.scales.amax(-1) > self.prune_scale
        # The radii are those of the period that ends here: other code bases zero them before this comparison.
        covering = state["radii"] > self.prune_radius
        return faint | oversized | covering


def watch(state: State, render: Render) -> State:
    """The statistics with one batch of views added."""
    if render.screen.grad is None:
        raise ValueError(
            "render.screen has no gradient: the gradient rule needs render.screen.retain_grad() before backward"
        )
    views, height, width, _ = render.features.shape
    to_screen = render.screen.new_tensor([0.5 * width * views, 0.5 * height * views])
    norms = (render.screen.grad * to_screen).norm(dim=-1)
    visible = (render.radii > 0).all(-1)
    radii = render.radii.amax(-1).amax(0) / max(height, width)
    return {
        "gradient_sums": state["gradient_sums"] + torch.where(visible, norms, 0.0).sum(0),
        "view_counts": state["view_counts"] + visible.sum(0),
        "radii": torch.maximum(state["radii"], radii),
    }


def take(state: State, rows: Tensor) -> State:
    """The statistics of the chosen rows."""
    return {name: value[rows] for name, value in state.items()}
