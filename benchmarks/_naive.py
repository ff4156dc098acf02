"""The step as public tools do it, for comparison: one view at a time, each decoded for the user to see, torch's Adam.

It draws what the loop draws and moves the Gaussians where the loop moves them; a test holds it to that.
"""

from collections.abc import Iterator

import torch

from splatdream.contracts import Distiller, Prior, Renderer
from splatdream.loop import State, asked, bounded, distillation_loss, learning_rates, look_around, regularisers
from splatdream.recipe import Recipe
from splatdream.splats import Splats
from splatdream.timesteps import Timesteps


def naive(
    recipe: Recipe, state: State, *, prior: Prior, renderer: Renderer, distiller: Distiller, timesteps: Timesteps
) -> Iterator[Splats]:
    """The cloud after each step, for rules that give a direction on the latents; it is the same one, moved in place."""
    leaves = state.splats.requires_grad()
    named, learnt = leaves.parameters(), state.rule
    groups = [{"params": [value], "name": name} for name, value in named.items()]
    adam = torch.optim.Adam(groups, betas=state.optimiser.betas, eps=state.optimiser.eps)
    for index in range(recipe.steps):
        progress = index / recipe.steps
        rates = learning_rates(recipe, progress)
        for group in adam.param_groups:
            group["lr"] = rates[group["name"]]
        cameras, backgrounds = look_around(recipe, state, prior, progress)
        adam.zero_grad()
        for row in range(recipe.views):
            camera, background = cameras[row : row + 1], backgrounds[row : row + 1]

            def look(cameras, background=background):
                return renderer(leaves, cameras, background)

            render = look(camera)
            latents = prior.encode(render.images)
            view = asked(recipe, prior, timesteps, state.generators, progress, latents=latents, images=render.images,
                         cameras=camera, backgrounds=background)  # fmt: skip
            gradient, learnt = distiller(view, prior, learnt, state.generators["rule"])
            with torch.no_grad():
                prior.decode(view.latents)
            loss = distillation_loss(gradient, latents, render.images)
            terms = regularisers(recipe, leaves, render, camera, look)
            (sum(terms.values(), loss) / recipe.views).backward()
        before = leaves.replace(log_scales=leaves.log_scales.detach().clone())
        adam.step()
        leaves.log_scales.data.copy_(bounded(recipe, leaves.detach(), before).log_scales)
        yield leaves
