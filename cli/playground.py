"""`splatdream playground`: a rule tried on a picture instead of a splat."""

import time
from itertools import chain
from math import isfinite, radians
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from splatdream.catalog import choose, parse
from splatdream.recipe import Recipe
from splatdream_cli.console import Refused, duration, refusing, stdout, teaching
from splatdream_cli.generate import quieten
from splatdream_cli.plan import check_names, check_prior_and_parts, check_target, compose
from splatdream_cli.progress import display
from splatdream_cli.signals import stoppable

if TYPE_CHECKING:
    from torch import Tensor

    from splatdream.playground import Space

KEYS = (
    *("prompt", "negative_prompt", "seed", "steps", "prior", "device", "distill"),  # flags, all of them
    *("timesteps", "view_words", "guidance_rescale", "clip_value", "clip_rms", "views", "inner_steps"),
    *("background", "background_tint"),
)
"""What of a recipe matters where there is no splat."""
MOMENTS = 10
"""Pictures in the strip, the first and the last among them."""


@teaching
def playground(
    prompt: Annotated[str, typer.Argument(help="What to paint, as in 'a snowman with a red hat'.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The picture, NAME.png; NAME.evolution.png shows how it came about."
        ),
    ],
    distill: Annotated[
        str | None, typer.Option(metavar="NAME[:field=value,...]", help="The distillation rule.")
    ] = None,
    space: Annotated[str, typer.Option(metavar="latents|pixels", help="What is optimised.")] = "latents",
    learning_rate: Annotated[
        str | None, typer.Option(metavar="FIRST..LAST", help="Of Adam, falling over the run; each space has its own.")
    ] = None,
    azimuth: Annotated[float, typer.Option(help="Degrees from the front of the imagined camera; 90 is a side.")] = 0.0,
    elevation: Annotated[float, typer.Option(min=-90.0, max=90.0, help="Its degrees above the horizon.")] = 15.0,
    negative: Annotated[str | None, typer.Option(metavar="TEXT", help="What the picture must not show.")] = None,
    seed: Annotated[int | None, typer.Option(help="Where chance begins: the same seed, the same picture.")] = None,
    steps: Annotated[int | None, typer.Option(metavar="N", help="Optimisation steps.")] = None,
    prior: Annotated[
        str | None, typer.Option(metavar="auto|builtin|builtin-mv|FOLDER", help="The diffusion model.")
    ] = None,
    device: Annotated[str | None, typer.Option(metavar="auto|cpu|cuda", help="Where tensors live.")] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help=f"Repeatable; a recipe's {', '.join(KEYS[7:])}."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what exists.")] = False,
) -> None:
    """Try a rule on a picture instead of a splat. With --set views=4 there are four, from evenly around."""
    flags = {
        "negative_prompt": negative,
        "seed": seed,
        "steps": steps,
        "prior": prior,
        "distill": distill,
        "device": device,
    }
    quieten()
    with refusing():
        for assignment in assignments or []:
            choose("key of the playground", assignment.partition("=")[0].strip(), list(KEYS))
        if not (isfinite(azimuth) and isfinite(elevation)):
            raise Refused(f"azimuth and elevation are degrees; got {azimuth} and {elevation}")
        recipe = compose(prompt, None, None, ["views=1", *(assignments or [])], flags)
        check_names(recipe)
        choose("picture suffix", output.suffix.lower(), [".png"])
        for path in (output, evolution(output)):
            check_target(path, force)
        recipe, _ = check_prior_and_parts(recipe)
        where = chosen_space(space, learning_rate)
    paint(recipe, output, where, radians(azimuth), radians(elevation))


def evolution(output: Path) -> Path:
    return output.with_suffix(".evolution.png")


def chosen_space(name: str, learning_rate: str | None) -> "Space":
    """ValueError for an unknown name or a rate that is none."""
    from splatdream.playground import SPACES

    space = SPACES[choose("space", name, list(SPACES))]()
    if learning_rate is None:
        return space
    return type(space)(parse(learning_rate, space.learning_rate, "--learning-rate"))


def paint(recipe: Recipe, output: Path, space: "Space", azimuth: float, elevation: float) -> None:
    """Works to the end or the first signal, and writes what there is."""
    from splatdream.cameras import orbit
    from splatdream.playground import playground, shown
    from splatdream.priors import load_prior

    out, begun = stdout(), time.perf_counter()
    moments = {round(k * recipe.steps / (MOMENTS - 1)) for k in range(MOMENTS)}
    pictures = []
    with stoppable() as stop, display(out, recipe.steps) as bar:
        bar.say(f"{recipe.prompt!r}: {recipe.steps} steps; loading the prior")
        prior = load_prior(recipe.prior, recipe.prompt, device=recipe.device, view_words=recipe.view_words)
        cameras = orbit(recipe.views, prior.image_size, elevation=elevation).turned(azimuth)
        frames = playground(recipe, prior=prior, cameras=cameras, space=space)
        before = time.perf_counter()
        with refusing():  # some rules refuse a prior or a number of views only when they are asked
            frame = first = next(frames)
        try:
            for frame in chain([first], frames):
                now = time.perf_counter()
                bar.step(frame, now - before)
                if frame.index in moments:
                    pictures.append(frame.images)
                stop.check()
                before = now
        except KeyboardInterrupt:
            bar.say("stopped")
    pictures.append(shown(prior, space, frame.state.canvas))
    write(pictures, output)
    done = frame.state.step
    if done < recipe.steps:
        out.print(f"stopped by {stop.name} after step {done} of {recipe.steps}; {output} is the picture as it is")
        raise typer.Exit(stop.exit_code)
    seconds = time.perf_counter() - begun
    out.print(f"{output}: {done} steps in {duration(seconds)} ({seconds / done:.2f} s a step)")
    out.print(f"{evolution(output)}: how it came about, from left to right")


def write(pictures: list["Tensor"], output: Path) -> None:
    """The last picture, and all of them in a row for each view."""
    import torch

    from splatdream.turntable import write_sheet

    write_sheet(pictures[-1], output)
    write_sheet(torch.stack(pictures, dim=1).flatten(0, 1), evolution(output), columns=len(pictures))
