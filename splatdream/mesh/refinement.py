"""Refinement: colours, and the shape where it is asked for, follow the prior once more.

Colours take the mean change that the prior would make to pictures of the mesh: what it paints at some noise less what
its autoencoder makes of the same picture, so that a coarse autoencoder blurs nothing. No view decides alone and nothing
is optimised, which is where this differs from DreamGaussian's second stage (Tang et al. 2024, section 3.3). For the
shape, flat Gaussians bound to the surface go through the loop that made the splats. B views, T texels.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from splatdream.catalog import configured
from splatdream.contracts import Distiller, Prior, Renderer, View
from splatdream.distill.denoise import pictures
from splatdream.loop import asked, begin, chosen, dream, look_around
from splatdream.mesh.atlas import Texels
from splatdream.mesh.binding import bound, evened, handed
from splatdream.mesh.drawing import shown
from splatdream.mesh.model import Model
from splatdream.mesh.surface import Surface
from splatdream.mesh.texture import gathered
from splatdream.optim import check_finite
from splatdream.recipe import Recipe

REACH = 1.5
STILL, GENTLE = (0.0, 0.0), (0.002, 0.0005)
"""Learning rates of places, in world units a step: for colours alone, and for the shape too."""
FROZEN = {
    "lr_colours": STILL,
    "lr_quats": STILL,
    "lr_scales": STILL,
    "lr_opacities": STILL,
    "lr_until": 1.0,
    "weight_position": 0.0,
    "largest_scale": 0.0,
    "densify": "fixed",
    "coarse_until": 0.0,
}
COLOURS = {"distill": "sdedit:guidance_scale=1.5", "timesteps": "linear:low=0.7..0.7,high=0.7..0.7"}
SHAPE = {"distill": "sdedit:guidance_scale=3", "timesteps": "linear:low=0.9..0.9,high=0.9..0.9"}
"""Measured with the built-in prior (benchmarks/results/NOTES.md): shapes are decided at more noise than colours."""


def refinement_recipe(recipe: Recipe, steps: int, *, shape: bool) -> Recipe:
    """The recipe that goes on where a run ended: nothing but colours changes, or places too."""
    places = GENTLE if shape else STILL
    return recipe.replace(steps=steps, lr_means=places, **COLOURS, **FROZEN)


def refined(
    texels: Texels,
    model: Model,
    colours: Float[np.ndarray, "T 3"],
    recipe: Recipe,
    *,
    prior: Prior | None = None,
    renderer: Renderer | None = None,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Float[np.ndarray, "T 3"], Float[np.ndarray, "V 3"]]:
    """Colours of the texels and places of the vertices; `watch` is told how many steps of how many are done.

    ValueError where the model does not stand where the prior looks for objects, in the unit ball.
    """
    farthest = float(np.linalg.norm(model.surface.vertices, axis=1).max())
    if not 0.2 < farthest < REACH:
        raise ValueError(
            f"the object reaches {farthest:.2g} from the origin, but the prior looks for it in the unit ball: "
            "refine what generate wrote, or scale the splat"
        )
    if any(recipe.lr_means):
        shift = shifts(texels, colours, model.surface, recipe, prior, renderer)
        texels = replace(texels, places=(texels.places + shift(texels.places)).astype(np.float32))
        vertices = (model.surface.vertices + shift(model.surface.vertices)).astype(np.float32)
        model = replace(model, surface=Surface(vertices, model.surface.faces))
    change = mean_change(texels, model, colours, recipe, prior, watch)
    return (colours + change).clip(0, 1).astype(np.float32), model.surface.vertices


def shifts(
    texels: Texels,
    colours: Float[np.ndarray, "T 3"],
    surface: Surface,
    recipe: Recipe,
    prior: Prior | None,
    renderer: Renderer | None,
) -> Callable[[np.ndarray], np.ndarray]:
    """By how much places on the surface move when the Gaussians bound to it have followed the prior, evened out."""
    before, _ = bound(texels, colours, float(surface.areas.sum()))
    *_, last = dream(recipe.replace(**SHAPE), splats=before, prior=prior, renderer=renderer)
    places = before.means.numpy()
    moves = evened(last.state.splats.means.cpu().numpy() - places, places)
    return lambda targets: handed(moves, places, targets)


@torch.no_grad()
def mean_change(
    texels: Texels,
    model: Model,
    colours: Float[np.ndarray, "T 3"],
    recipe: Recipe,
    prior: Prior | None,
    watch: Callable[[int, int], None],
) -> Float[np.ndarray, "T 3"]:
    """The change of each texel's colour in the pictures that the recipe's steps ask for; 0 where no view sees it."""
    rule, prior, ladder = chosen(recipe, torch.device("cpu"), prior, None, None)
    cloud, _ = bound(texels, colours, float(model.surface.areas.sum()))
    state = begin(recipe, prior, rule, configured("densifier", recipe.densify), cloud, torch.device("cpu"))
    sums = np.zeros((len(colours), 4), np.float32)
    for index in range(recipe.steps):
        progress = index / recipe.steps
        cameras, backgrounds = look_around(recipe, state, prior, progress)
        painted, alphas = shown(model, cameras)
        images = painted + (1 - alphas) * backgrounds[:, None, None]
        view = asked(
            recipe,
            prior,
            ladder,
            state.generators,
            progress,
            latents=prior.encode(images),
            images=images,
            cameras=cameras,
            backgrounds=backgrounds,
        )
        changes = wanted(view, prior, rule, state.generators["rule"])
        sums += gathered(texels, model.surface, cameras, changes * alphas, alphas)
        watch(index + 1, recipe.steps)
    return sums[:, :3] / np.maximum(sums[:, 3:], 1e-12)


def wanted(view: View, prior: Prior, rule: Distiller, generator: torch.Generator) -> Float[Tensor, "B H W 3"]:
    """The rule's pictures less what the autoencoder alone makes of the view's. TypeError where it gives none."""
    gradient, _ = rule(view, prior, rule.init(prior, generator), generator)
    if gradient.targets is None:
        raise TypeError(f"{rule} gives no pictures to move towards, which refinement needs; sdedit does")
    check_finite({"the target": gradient.targets})
    return gradient.targets - pictures(prior, view.latents, view)
