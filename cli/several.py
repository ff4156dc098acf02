"""Several seeds of one prompt at once, through one prior: NAME-SEED.ply each, and which of them fares best."""

import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from splatdream.export import output_suffix
from splatdream.manifest import read_manifest
from splatdream.recipe import Recipe
from splatdream_cli.console import Refused, duration, refusing, shown_command, stdout
from splatdream_cli.follow import refuse_unbegun, resuming, tell_kept, tell_stopped
from splatdream_cli.plan import Plan, check
from splatdream_cli.progress import display
from splatdream_cli.signals import stoppable

if TYPE_CHECKING:
    from splatdream.contracts import Prior


def plans_of(recipe: Recipe, output: Path, seeds: int, *, force: bool) -> list[Plan]:
    """A plan for each seed from the recipe's on, or Refused with the first thing that stands in the way of any."""
    with refusing():
        wanted = [recipe.replace(seed=recipe.seed + number) for number in range(seeds)]
        return [check(each, numbered(output, each.seed), force=force) for each in wanted]


def numbered(output: Path, seed: int) -> Path:
    """NAME-SEED.ply for NAME.ply."""
    suffix = output_suffix(output)
    return output.with_name(f"{output.name.removesuffix(suffix)}-{seed}{suffix}")


def refuse_together(**options: object) -> None:
    """Refused for what can show one run only."""
    for name, value in options.items():
        if value:
            raise Refused(f"--{name.replace('_', '-')} shows one run, and --seeds makes several: leave one of them out")


def generate_several(plans: list[Plan], prior: "Prior", checkpoint_every: int, cache: Path) -> None:
    """Runs all plans side by side to their ends, or exits with 128 + the number of the signal that stopped them."""
    from splatdream import session
    from splatdream.together import together

    out, begun = stdout(), time.perf_counter()

    def loop_of(plan: Plan):
        options = {"checkpoint_every": checkpoint_every, "say": out.print, "cache": cache}
        return lambda seat: session.start(plan.recipe, plan.output, prior=seat, **options)

    total = plans[0].recipe.steps
    turns = together(prior, [loop_of(plan) for plan in plans])
    with stoppable() as stop:
        try:
            with display(out, total) as shown, closing(turns):  # type: ignore[type-var] - a generator
                shown.say(f"{plans[0].recipe.prompt!r}: {len(plans)} seeds at once, {total} steps")
                before = time.perf_counter()
                for steps in turns:
                    now = time.perf_counter()
                    shown.step(next(step for step in steps if step is not None), now - before)
                    before = now
                    stop.check()
        except KeyboardInterrupt:
            for plan in plans:
                tell_stopped(stop.name, plan.recipe, plan.output, plan.folder, resuming(plan.folder))
            raise typer.Exit(stop.exit_code) from None
        except Exception as error:
            for plan in plans:
                tell_kept(plan.folder, resuming(plan.folder))
            refuse_unbegun(error, *(plan.folder for plan in plans))
            raise
    tell_best(plans, time.perf_counter() - begun)


def tell_best(plans: list[Plan], seconds: float) -> None:
    """Every result with its score by the checks, the best one first."""
    out = stdout()
    out.print(f"{len(plans)} seeds in {duration(seconds)}, by the score of their checks:")
    found = []
    for plan in plans:
        manifest = read_manifest(plan.folder) or {}
        found.append((manifest["check"]["score"], manifest["result"]["gaussians"], plan.output))
    found.sort(key=lambda row: -row[0])
    for score, count, output in found:
        out.print(f"{score:.3f}  {output}  {count:,} Gaussians")
    out.print(f"look at the first: {shown_command('splatdream', 'render', found[0][2])}")
