"""What a run shows while it works, and what it says when it ends or is stopped."""

import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from splatdream import runs
from splatdream.manifest import read_manifest
from splatdream.recipe import Recipe
from splatdream_cli.console import Refused, duration, sentence, shown_command, stdout
from splatdream_cli.progress import display
from splatdream_cli.signals import stoppable

if TYPE_CHECKING:
    from splatdream.loop import Step
    from splatdream.viewer.live import Live

PREVIEW_VIEWS = 4

Preview = Annotated[
    int, typer.Option("--preview-every", metavar="N", min=0, help="Write NAME.preview.png every N steps; 0 for never.")
]

Watch = Annotated[bool, typer.Option("--live", help="Show the run in the browser, with pause and stop.")]


def follow(
    steps: "Generator[Step, None, None]",
    recipe: Recipe,
    output: Path,
    preview_every: int,
    done: int = 0,
    *,
    live: bool = False,
    folder: Path | None = None,
    again: str | None = None,
) -> None:
    """Shows a run's steps to the end, or exits with 128 + the number of the signal that stopped it.

    `done` steps of the recipe's lie behind; `live` shows them in the browser too, whose page can stop them as well;
    `folder` is the run's where it is not named after its output any more; `again` is the command that goes on with it,
    where that is not `splatdream resume`.
    """
    out, folder, begun = stdout(), folder or runs.run_folder(output), time.perf_counter()
    again = again or resuming(folder)
    with watched(live, recipe.prompt) as page, stoppable() as stop:
        try:
            with display(out, recipe.steps, done) as shown, closing(steps):
                shown.say(f"{recipe.prompt!r}: steps {done + 1} to {recipe.steps}; loading the prior")
                before = time.perf_counter()
                for step in steps:
                    now = time.perf_counter()
                    shown.step(step, now - before)
                    before = now
                    if preview_every and (step.index + 1) % preview_every == 0:
                        preview(step, recipe, output)
                    if page is not None:
                        page.show(step)
                        if page.stopped:
                            raise KeyboardInterrupt
                    stop.check()
        except KeyboardInterrupt:
            by = "the page" if page is not None and page.stopped else stop.name
            tell_stopped(by, recipe, output, folder, again)
            raise typer.Exit(stop.exit_code) from None
        except Exception as error:
            tell_kept(folder, again)
            refuse_unbegun(error, folder)
            raise
    manifest = read_manifest(folder)
    if manifest is None:
        raise RuntimeError("the run ended without a result")
    seconds, pace = time.perf_counter() - begun, manifest["timing"]["seconds_per_step"]
    out.print(f"{output}: {manifest['result']['gaussians']:,} Gaussians in {duration(seconds)} ({pace:.2f} s a step)")
    if not manifest["check"]["passed"]:
        out.print(f"it is not in order: its check fails {', '.join(manifest['check']['failures'])}")
    out.print(f"look at it: {shown_command('splatdream', 'render', output)}")


def check_live(live: bool) -> None:
    """Refused before anything is done where there is nothing to show a run with."""
    if live and find_spec("viser") is None:
        raise Refused("--live needs the package viser; pip install 'splatdream[viewer]'")


@contextmanager
def watched(live: bool, prompt: str) -> "Iterator[Live | None]":
    """A page of this machine that shows the steps it is given, where one is wanted."""
    if not live:
        yield None
        return
    from splatdream.export.html import served
    from splatdream.viewer.live import Live

    with served() as server:
        page = Live(server, prompt)
        stdout().print(f"watch it at {page.address}")
        yield page


def preview(step: "Step", recipe: Recipe, output: Path) -> None:
    from splatdream.catalog import find
    from splatdream.turntable import turntable, write_sheet

    renderer = find("renderer", recipe.renderer)
    pictures = turntable(step.state.splats, renderer, views=PREVIEW_VIEWS, size=step.images.shape[1])
    write_sheet(pictures, output.with_suffix(".preview.png"))


def resuming(folder: Path) -> str:
    """The command that goes on with a run."""
    return shown_command("splatdream", "resume", folder)


def tell_stopped(by: str, recipe: Recipe, output: Path, folder: Path, again: str) -> None:
    """What the stop by a signal or the page has left, and how to go on."""
    out, left = stdout(), runs.events(folder, "stop")
    if left and left[-1]["step"]:
        out.print(f"stopped by {by} after step {left[-1]['step']} of {recipe.steps}")
        out.print(f"{output} holds the splat as it is, {left[-1]['count']:,} Gaussians")
    else:
        out.print(f"stopped by {by} before the first step; {output} was not written")
    if (folder / runs.RECIPE).is_file():
        out.print(f"to go on: {again}")


def refuse_unbegun(error: Exception, *folders: Path) -> None:
    """Refused where no run came to its first step: some rules refuse a prior or a number of views only when asked."""
    if isinstance(error, ValueError) and not any(runs.events(folder, "step") for folder in folders):
        raise Refused(sentence(error)) from error


def tell_kept(folder: Path, again: str) -> None:
    """How a run that failed can be tried again."""
    kept = next(iter(runs.states(folder)), None)
    if kept is not None:
        stdout().print(f"the state after step {kept} is kept; to try again from there: {again}")
