"""The first cloud of a run: the recipe's initialiser, with what it needs of readers and of Shap-E."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from splatdream.catalog import configured
from splatdream.export import read
from splatdream.export.axes import QUARTER_TURNS, Axes, about_x, known
from splatdream.init import Initialiser
from splatdream.recipe import Recipe
from splatdream.splats import Splats


@dataclass(frozen=True)
class Around:
    """The `Sources` of every initialiser; `cache` holds the hub's models (None: where its client keeps them)."""

    device: str | torch.device = "cpu"
    cache: Path | None = None

    def read_splats(self, path: Path, up: str, drop_invalid: bool) -> Splats:
        axes = cast(Axes, known(up)) if up else None
        return read(path, up=axes, drop_invalid=drop_invalid).splats

    def turned(self, points: Float[Tensor, "N 3"], up: str) -> Float[Tensor, "N 3"]:
        _, rotation = about_x(-QUARTER_TURNS[known(up)])
        return points @ rotation.T.to(points)

    def shape_folder(self, model: str) -> Path:
        from splatdream.priors.shap_e import shape_folder

        return shape_folder(model, self.cache)

    def shape(
        self, folder: Path, prompt: str, *, guidance_scale: float, steps: int, grid: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
        from splatdream.priors.shap_e import Shape

        shape = Shape(folder, torch.device(self.device))
        return shape(prompt, guidance_scale=guidance_scale, steps=steps, grid=grid, generator=generator)


def first_cloud(recipe: Recipe, generator: torch.Generator, device: torch.device) -> Splats:
    """The cloud that the recipe begins with, on its device."""
    initialiser: Initialiser = configured("init", recipe.init)
    return initialiser(recipe.count, generator, recipe.prompt, Around(device)).to(device)


def settled(recipe: Recipe, cache: Path | None = None) -> Recipe:
    """The recipe with its initialiser's files by their absolute paths, and as many Gaussians as it will give.

    OSError or ValueError, in a sentence, for files that cannot serve.
    """
    initialiser: Initialiser = configured("init", recipe.init)
    initialiser, count = initialiser.settled(recipe.count, Around(cache=cache))
    return recipe.replace(init=described(recipe.init.partition(":")[0], initialiser), count=count)


def described(name: str, part: Any) -> str:
    """What `catalog.configured` makes this part of. ValueError for a path that it could not read."""
    options = {field.name: (getattr(part, field.name), field.default) for field in fields(part)}
    changed = [f"{key}={value}" for key, (value, default) in options.items() if value != default]
    if any("," in text for text in changed):
        raise ValueError(f"{', '.join(changed)}: a path with a comma cannot stand in a recipe; rename it")
    return f"{name}:{','.join(changed)}" if changed else name
