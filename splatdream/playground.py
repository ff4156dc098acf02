"""The playground: a picture instead of a splat follows what a rule asks for, the quickest way to see what a rule does.

Recipe, rules, priors and timesteps are those of `loop.py`; the cameras stay where they are. `playground(recipe)` yields
a `Frame` each turn; later turns leave its `state` alone, and `playground(recipe, state=...)` continues from it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from splatdream.cameras import Cameras, orbit, random_backgrounds
from splatdream.contracts import Distiller, Prior, RuleState
from splatdream.loop import asked, chosen, clipped, distillation_loss, pick_device, residual, seeded
from splatdream.optim import adam, exponential_decay
from splatdream.recipe import Recipe
from splatdream.timesteps import Timesteps


@runtime_checkable
class Space(Protocol):
    """Where the numbers live that are optimised, the canvas; its learning rate falls from the first to the last."""

    @property
    def learning_rate(self) -> tuple[float, float]: ...

    def canvas(self, prior: Prior, images: Float[Tensor, "B H W 3"]) -> Float[Tensor, "B *rest"]:
        """The numbers that show these pictures."""
        ...

    def latents(self, prior: Prior, canvas: Float[Tensor, "B *rest"]) -> Float[Tensor, "B C h w"]: ...

    def images(self, prior: Prior, canvas: Float[Tensor, "B *rest"]) -> Float[Tensor, "B H W 3"]:
        """Not clamped, differentiable."""
        ...

    def kept(self, canvas: Float[Tensor, "B *rest"]) -> Float[Tensor, "B *rest"]:
        """The nearest canvas that is allowed."""
        ...


@dataclass(frozen=True)
class Latents:
    """The prior's latents: no encoder stands between the rule and what it moves."""

    learning_rate: tuple[float, float] = (0.1, 0.02)

    def __post_init__(self) -> None:
        check_rates(self.learning_rate)

    def canvas(self, prior: Prior, images: Float[Tensor, "B H W 3"]) -> Float[Tensor, "B C h w"]:
        return prior.encode(images)

    def latents(self, prior: Prior, canvas: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        return canvas

    def images(self, prior: Prior, canvas: Float[Tensor, "B C h w"]) -> Float[Tensor, "B H W 3"]:
        return prior.decode(canvas)

    def kept(self, canvas: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        return canvas


@dataclass(frozen=True)
class Pixels:
    """Pixels within [0, 1], asked about through the prior's encoder as renders are."""

    learning_rate: tuple[float, float] = (0.03, 0.005)

    def __post_init__(self) -> None:
        check_rates(self.learning_rate)

    def canvas(self, prior: Prior, images: Float[Tensor, "B H W 3"]) -> Float[Tensor, "B H W 3"]:
        return images

    def latents(self, prior: Prior, canvas: Float[Tensor, "B H W 3"]) -> Float[Tensor, "B C h w"]:
        return prior.encode(canvas)

    def images(self, prior: Prior, canvas: Float[Tensor, "B H W 3"]) -> Float[Tensor, "B H W 3"]:
        return canvas

    def kept(self, canvas: Float[Tensor, "B H W 3"]) -> Float[Tensor, "B H W 3"]:
        return canvas.clamp(0, 1)


SPACES = {"latents": Latents, "pixels": Pixels}


def check_rates(rates: tuple[float, float]) -> None:
    """ValueError unless a rate can pass by equal factors from the first to the last."""
    if not all(0.0 < rate < float("inf") for rate in rates):
        raise ValueError(f"a learning rate is above 0 and finite at both ends; got {rates[0]:g}..{rates[1]:g}")


@dataclass(frozen=True)
class State:
    """Everything that changes during a run, after `step` finished steps and `moves` of the optimiser."""

    canvas: Float[Tensor, "B *rest"]
    exp_avg: Float[Tensor, "B *rest"]
    exp_avg_sq: Float[Tensor, "B *rest"]
    moves: int
    backgrounds: Float[Tensor, "B 3"]
    rule: RuleState
    generators: dict[str, torch.Generator]
    step: int = 0


@dataclass(frozen=True)
class Frame:
    """One finished turn. `residual` is the root mean square of the rule's gradient; images are what the prior saw."""

    index: int
    total: int
    residual: float
    grad_norm: float
    timesteps: list[int]
    images: Float[Tensor, "B H W 3"]
    state: State


def playground(
    recipe: Recipe,
    *,
    state: State | None = None,
    prior: Prior | None = None,
    distiller: Distiller | None = None,
    timesteps: Timesteps | None = None,
    cameras: Cameras | None = None,
    space: Space | None = None,
) -> Iterator[Frame]:
    """Optimises pictures towards the recipe's prompt, one step a turn, until its steps are done.

    A picture a camera: without `cameras` the recipe's number of views, evenly around and the front first. Other parts
    given as objects win over the recipe's names, and the space is `Latents` unless given. FloatingPointError names the
    step and what in it is not finite.
    """
    device = pick_device(recipe)
    rule, prior, ladder = chosen(recipe, device, prior, distiller, timesteps)
    cameras = (cameras or orbit(recipe.views, prior.image_size)).resize(prior.image_size).to(device)
    space = space or Latents()
    state = state or begin(recipe, prior, rule, space, cameras)
    while state.step < recipe.steps:
        try:
            frame = turn(recipe, state, prior, rule, ladder, space, cameras)
        except FloatingPointError as error:
            raise FloatingPointError(f"step {state.step}: {error}") from error
        yield frame
        state = frame.state


def begin(recipe: Recipe, prior: Prior, distiller: Distiller, space: Space, cameras: Cameras) -> State:
    """The state before the first step: what each camera shows of an empty world, a plain background."""
    generators = seeded(recipe.seed)
    backgrounds = random_backgrounds(
        len(cameras), generators["backgrounds"], recipe.background, recipe.background_tint
    ).to(cameras.viewmats)
    empty = backgrounds[:, None, None].repeat(1, prior.image_size, prior.image_size, 1)
    with torch.no_grad():
        canvas = space.canvas(prior, empty)
    zeros = torch.zeros_like(canvas)
    return State(canvas, zeros, zeros, 0, backgrounds, distiller.init(prior, generators["rule"]), generators)


def turn(
    recipe: Recipe,
    state: State,
    prior: Prior,
    distiller: Distiller,
    timesteps: Timesteps,
    space: Space,
    cameras: Cameras,
) -> Frame:
    """One step: ask the prior about the pictures, and move them."""
    progress = state.step / recipe.steps
    generators = {name: generator.clone_state() for name, generator in state.generators.items()}
    canvas = state.canvas.detach().requires_grad_()
    latents = space.latents(prior, canvas)
    ask = partial(asked, recipe, prior, timesteps, generators, progress)
    view = ask(latents=latents, images=shown(prior, space, canvas), cameras=cameras, backgrounds=state.backgrounds)
    gradient, rule = distiller(view, prior, state.rule, generators["rule"])
    gradient = clipped(recipe, gradient, progress)
    aims, norms = gradient.targets is not None, []
    after = replace(state, rule=rule, generators=generators)
    for _ in range(recipe.inner_steps if aims else 1):
        images = space.images(prior, canvas) if aims else view.images
        (direction,) = torch.autograd.grad(distillation_loss(gradient, latents, images), canvas)
        after = moved(after, direction, space, exponential_decay(*space.learning_rate, progress))
        norms.append(float(direction.norm()))
        canvas, latents = after.canvas.detach().requires_grad_(), None
    return Frame(
        index=state.step,
        total=recipe.steps,
        residual=residual(gradient, view),
        grad_norm=norms[0],
        timesteps=view.timesteps.tolist(),
        images=view.images,
        state=replace(after, step=state.step + 1),
    )


def moved(state: State, direction: Float[Tensor, "B *rest"], space: Space, rate: float) -> State:
    """The state after one step of Adam against `direction`."""
    if not bool(direction.isfinite().all()):
        raise FloatingPointError("the gradient of the picture is not finite")
    moves = state.moves + 1
    (canvas,), (exp_avg,), (exp_avg_sq,) = adam(
        (state.canvas,), (direction,), (state.exp_avg,), (state.exp_avg_sq,), steps=[moves], rates=[rate]
    )
    return replace(state, canvas=space.kept(canvas), exp_avg=exp_avg, exp_avg_sq=exp_avg_sq, moves=moves)


@torch.no_grad()
def shown(prior: Prior, space: Space, canvas: Float[Tensor, "B *rest"]) -> Float[Tensor, "B H W 3"]:
    """The pictures on a canvas, within [0, 1]."""
    return space.images(prior, canvas).clamp(0, 1)
