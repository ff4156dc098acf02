"""The loop: a cloud of Gaussians is shown from random cameras to a frozen prior, and follows what it asks for.

`dream(recipe)` yields a `Step` each turn; its `state` is all that is needed to go on: `dream(recipe, state=step.state)`
continues as if it had never stopped.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import log, radians
from zlib import crc32

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import mse_loss

from splatdream.cameras import Cameras, CameraSampler, random_backgrounds
from splatdream.catalog import configured, find
from splatdream.consistency import depth_variance, normal_variation, reprojection_error, second_moments
from splatdream.contracts import Distiller, Gradient, Prior, Render, Renderer, RuleState, View, views_together
from splatdream.densify import Densifier
from splatdream.first_cloud import first_cloud
from splatdream.losses import (
    anisotropy,
    clip_rms,
    clip_values,
    inject,
    opacity_entropy,
    outside_ball,
    scale_penalty,
    total_variation,
)
from splatdream.optim import SplatOptimiser, check_finite, exponential_decay
from splatdream.priors import load_prior
from splatdream.recipe import Recipe
from splatdream.shading import draw_lamps, shaded
from splatdream.splats import Splats
from splatdream.timesteps import Timesteps, linear

PARTS = ("cameras", "backgrounds", "lamps", "noise", "timesteps", "rule", "densifier", "init")
"""Each draws from a generator of its own, so that changing one part does not reshuffle the others."""

ASIDE = radians(10)
"""How far the second render of `weight_consistency` stands to the side of the first."""


@dataclass(frozen=True)
class State:
    """Everything that changes during a run, after `step` finished steps; `pace` is a factor on every learning rate."""

    splats: Splats
    optimiser: SplatOptimiser
    densifier: dict[str, Tensor]
    rule: RuleState
    generators: dict[str, torch.Generator]
    step: int = 0
    pace: float = 1.0


@dataclass(frozen=True)
class Step:
    """One finished turn. `residual` is the root mean square of the rule's gradient; images are what the prior saw."""

    index: int
    total: int
    residual: float
    grad_norm: float
    count: int
    timesteps: list[int]
    cameras: Cameras
    images: Float[Tensor, "B H W 3"]
    state: State


def dream(
    recipe: Recipe,
    *,
    state: State | None = None,
    prior: Prior | None = None,
    renderer: Renderer | None = None,
    distiller: Distiller | None = None,
    densifier: Densifier | None = None,
    timesteps: Timesteps | None = None,
    splats: Splats | None = None,
) -> Iterator[Step]:
    """Optimises a cloud towards the recipe's prompt, one step a turn, until its steps are done.

    Parts given as objects win over the recipe's names. FloatingPointError names the step and what in it is not finite.
    """
    device = pick_device(recipe)
    rule, prior, ladder = chosen(recipe, device, prior, distiller, timesteps)
    draw: Renderer = renderer or find("renderer", pick_renderer(recipe, device))
    growth: Densifier = densifier or configured("densifier", recipe.densify)
    state = state or begin(recipe, prior, rule, growth, splats, device)
    while state.step < recipe.steps:
        try:
            step = turn(recipe, state, prior, draw, rule, growth, ladder)
        except FloatingPointError as error:
            raise FloatingPointError(f"step {state.step}: {error}") from error
        yield step
        state = step.state


def chosen(
    recipe: Recipe,
    device: torch.device,
    prior: Prior | None,
    distiller: Distiller | None,
    timesteps: Timesteps | None,
) -> tuple[Distiller, Prior, Timesteps]:
    """The parts that make the gradient: those given, the others as the recipe names them."""
    rule: Distiller = distiller or configured("distiller", recipe.distill)
    words = words_asked(recipe, rule)
    prior = prior or load_prior(recipe.prior, words, device=str(device), view_words=recipe.view_words)
    if recipe.views % views_together(prior):
        group = views_together(prior)
        raise ValueError(f"the prior sees {group} views together: views must be a multiple of that; got {recipe.views}")
    return rule, prior, timesteps or configured("timesteps", recipe.timesteps)


def seeded(seed: int) -> dict[str, torch.Generator]:
    """A generator for each source of chance, all from one seed."""
    return {part: torch.Generator().manual_seed(crc32(f"{seed} {part}".encode())) for part in PARTS}


def begin(
    recipe: Recipe,
    prior: Prior,
    distiller: Distiller,
    densifier: Densifier,
    splats: Splats | None,
    device: torch.device,
) -> State:
    """The state before the first step: an initial cloud, zero moments, generators seeded from the recipe's one seed."""
    generators = seeded(recipe.seed)
    cloud = first_cloud(recipe, generators["init"], device) if splats is None else splats.to(device)
    return State(
        splats=cloud,
        optimiser=SplatOptimiser.init(cloud, learning_rates(recipe, 0.0)),
        densifier=densifier.init(cloud),
        rule=distiller.init(prior, generators["rule"]),
        generators=generators,
    )


def turn(
    recipe: Recipe,
    state: State,
    prior: Prior,
    renderer: Renderer,
    distiller: Distiller,
    densifier: Densifier,
    timesteps: Timesteps,
) -> Step:
    """One step: look, ask the prior, move the Gaussians, let the densifier work."""
    progress = state.step / recipe.steps
    cameras, backgrounds = look_around(recipe, state, prior, progress)
    light = lighting(recipe, state, cameras, backgrounds)
    leaves = state.splats.requires_grad()
    look = partial(renderer, leaves, backgrounds=backgrounds)
    render = look(cameras)
    images = light(render)
    latents = prior.encode(images)
    ask = partial(asked, recipe, prior, timesteps, state.generators, progress)
    view = ask(latents=latents, images=images, cameras=cameras, backgrounds=backgrounds)
    gradient, rule = distiller(view, prior, state.rule, state.generators["rule"])
    gradient = clipped(recipe, gradient, progress)
    terms = regularisers(recipe, leaves, render, cameras, look)
    sum(terms.values(), distillation_loss(gradient, latents, images)).backward()
    # Only now, since to read a number is to wait for the device.
    found = {"the encoding": latents, "the gradient": gradient.latents, "the target": gradient.targets}
    check_finite(found | terms)
    rates = {name: state.pace * rate for name, rate in learning_rates(recipe, progress).items()}
    optimiser = state.optimiser.with_learning_rates(**rates)
    grad_norm = leaves.means.grad.norm() if leaves.means.grad is not None else torch.tensor(0.0)
    splats, optimiser = optimiser.step(leaves)
    for _ in range(recipe.inner_steps - 1 if gradient.targets is not None else 0):
        leaves = splats.requires_grad()
        look = partial(renderer, leaves, backgrounds=backgrounds)
        render = look(cameras)
        terms = regularisers(recipe, leaves, render, cameras, look)
        sum(terms.values(), distillation_loss(gradient, None, light(render))).backward()
        check_finite(terms)
        splats, optimiser = optimiser.step(leaves)
    check_finite({f"{name} after its step": value for name, value in splats.parameters().items()})
    splats = bounded(recipe, splats, state.splats)
    splats, optimiser, densified = densifier.step(
        splats, optimiser, state.densifier, render, state.step, recipe.steps, state.generators["densifier"]
    )
    after = replace(state, splats=splats, optimiser=optimiser, densifier=densified, rule=rule, step=state.step + 1)
    return Step(
        index=state.step,
        total=recipe.steps,
        residual=residual(gradient, view),
        grad_norm=float(grad_norm),
        count=len(splats),
        timesteps=view.timesteps.tolist(),
        cameras=cameras,
        images=view.images,
        state=after,
    )


def bounded(recipe: Recipe, splats: Splats, before: Splats) -> Splats:
    """With no Gaussian grown wider than the recipe allows; those that came wider grow no more.

    A few that grow without end hide every view in fog.
    """
    if not recipe.largest_scale:
        return splats
    limits = before.log_scales.clamp_min(log(recipe.largest_scale))
    return splats.replace(log_scales=torch.minimum(splats.log_scales, limits))


def asked(
    recipe: Recipe,
    prior: Prior,
    timesteps: Timesteps,
    generators: dict[str, torch.Generator],
    progress: float,
    *,
    latents: Float[Tensor, "B C h w"],
    images: Float[Tensor, "B H W 3"],
    cameras: Cameras,
    backgrounds: Float[Tensor, "B 3"],
) -> View:
    """What the rule is asked about these pictures: with fresh noise and, for each group of views, a fresh timestep."""
    condition = prior.condition(recipe.prompt, recipe.negative_prompt, cameras)
    group = views_together(prior)
    drawn = timesteps(prior.schedule, len(latents) // group, progress, generators["timesteps"])
    return View(
        latents=latents.detach(),
        noise=torch.randn(latents.shape, generator=generators["noise"]).to(latents, non_blocking=True),
        timesteps=drawn.repeat_interleave(group).to(latents.device, non_blocking=True),
        condition=replace(condition, rescale=recipe.guidance_rescale),
        cameras=cameras,
        backgrounds=backgrounds,
        images=images.detach(),
        progress=progress,
        prompt=recipe.prompt,
        negative_prompt=recipe.negative_prompt,
    )


def look_around(recipe: Recipe, state: State, prior: Prior, progress: float) -> tuple[Cameras, Float[Tensor, "B 3"]]:
    """This step's random cameras and backgrounds."""
    full = recipe.size or prior.image_size
    size = min(recipe.coarse_size, full) if progress < recipe.coarse_until else full
    low, high = (radians(angle) for angle in recipe.elevation)
    near, far = (radians(angle) for angle in recipe.fov)
    sampler = CameraSampler((low, high), recipe.distance, (near, far))
    cameras = sampler(recipe.views, size, state.generators["cameras"])
    groups = recipe.views // views_together(prior)
    cameras = cameras[torch.arange(recipe.views).reshape(-1, groups).T.flatten()]  # a group stands all around
    backgrounds = random_backgrounds(
        recipe.views, state.generators["backgrounds"], recipe.background, recipe.background_tint
    )
    return cameras.to(state.splats.means.device), backgrounds.to(state.splats.means)


def lighting(
    recipe: Recipe, state: State, cameras: Cameras, backgrounds: Float[Tensor, "B 3"]
) -> Callable[[Render], Float[Tensor, "B H W 3"]]:
    """How this step shows a render to the prior: as it is, or a share of the views under random lamps."""
    if not recipe.shading:
        return lambda render: render.images
    lamps = draw_lamps(cameras, recipe.shading, state.generators["lamps"])
    return lambda render: shaded(render, cameras, backgrounds, lamps)


def clipped(recipe: Recipe, gradient: Gradient, progress: float) -> Gradient:
    """The gradient with its direction on the latents held to the recipe's limits."""
    latents = gradient.latents
    if latents is not None and any(recipe.clip_value):
        latents = clip_values(latents, linear(recipe.clip_value, progress))
    if latents is not None and any(recipe.clip_rms):
        latents = clip_rms(latents, linear(recipe.clip_rms, progress))
    return replace(gradient, latents=latents)


def distillation_loss(
    gradient: Gradient, latents: Tensor | None, images: Float[Tensor, "B H W 3"]
) -> Float[Tensor, ""]:
    """Injects the rule's direction, averaged over the views; pictures to move towards count by their squared error."""
    loss = images.new_zeros(())
    if gradient.latents is not None and latents is not None:
        loss = loss + inject(latents, gradient.latents) / len(latents)
    if gradient.targets is not None:
        error = mse_loss(images, gradient.targets, reduction="sum")
        loss = loss + 0.5 * gradient.weight * error / len(gradient.targets)
    return loss


def regularisers(
    recipe: Recipe, splats: Splats, render: Render, cameras: Cameras, look: Callable[..., Render]
) -> dict[str, Tensor]:
    """The recipe's regularisers by the names of their weights, weighted; those of weight 0 are not computed.

    `render` shows the splats from `cameras`, and `look` would show them from others, before the same backgrounds.
    """
    count = len(splats)  # means over Gaussians become sums, as the rule's gradient is a sum over latents
    terms = {
        "weight_opacity": lambda: count * opacity_entropy(splats.opacities),
        "weight_scale": lambda: count * scale_penalty(splats.scales),
        "weight_anisotropy": lambda: count * anisotropy(splats.scales),
        "weight_position": lambda: count * outside_ball(splats.means),
        "weight_smooth": lambda: total_variation(render.depths),
        "weight_variance": lambda: depth_variance(look(cameras, extras=second_moments(splats.means)), cameras),
        "weight_normals": lambda: normal_variation(render, cameras),
        "weight_consistency": lambda: reprojection_error(render, cameras, look(aside := cameras.turned(ASIDE)), aside),
    }
    weights = {name: getattr(recipe, name) for name in terms}
    return {name: weight * terms[name]() for name, weight in weights.items() if weight}


def learning_rates(recipe: Recipe, progress: float) -> dict[str, float]:
    """Of each stored parameter; all have fallen once the run has passed `lr_until`."""
    passed = progress / recipe.lr_until
    colours = exponential_decay(*recipe.lr_colours, passed)
    return {
        "means": exponential_decay(*recipe.lr_means, passed),
        "quats": exponential_decay(*recipe.lr_quats, passed),
        "log_scales": exponential_decay(*recipe.lr_scales, passed),
        "logit_opacities": exponential_decay(*recipe.lr_opacities, passed),
        "sh0": colours,
        "shN": colours / 20,  # Kerbl et al. 2023, section 7.1
    }


def residual(gradient: Gradient, view: View) -> float:
    if gradient.latents is not None:
        return float(gradient.latents.square().mean().sqrt())
    if gradient.targets is not None:
        return float(mse_loss(view.images, gradient.targets).sqrt())
    return 0.0


def words_asked(recipe: Recipe, distiller: Distiller) -> str:
    """Every word that the run will ask the prior about. ValueError where the rule lacks a negative prompt."""
    if getattr(distiller, "needs_negative_prompt", False) and not recipe.negative_prompt.strip():
        raise ValueError(f"{distiller} needs a negative prompt; give one, as in --negative 'blurry, low quality'")
    return f"{recipe.prompt} {recipe.negative_prompt} {getattr(distiller, 'words', '')}"


def pick_device(recipe: Recipe) -> torch.device:
    """ValueError where the recipe asks for CUDA and there is none."""
    if recipe.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(recipe.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"the recipe asks for device {recipe.device!r}, but torch sees no CUDA device; try 'cpu'")
    return device


def pick_renderer(recipe: Recipe, device: torch.device) -> str:
    if recipe.renderer != "auto":
        return recipe.renderer
    return "gsplat" if device.type == "cuda" else "cpu"
