"""`splatdream reproduce`: a finished run once more, and whether the same came out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from splatdream import runs
from splatdream.export import output_suffix, read
from splatdream.manifest import differences, manifest_in, origin_of, sha256
from splatdream.recipe import Recipe
from splatdream_cli.console import FAILED, Refused, refusing, shown_command, stdout, teaching
from splatdream_cli.follow import follow
from splatdream_cli.generate import quieten
from splatdream_cli.plan import Plan, broken_off, check

if TYPE_CHECKING:
    from splatdream.splats import Splats

VIEWS, SIZE = 8, 128
"""Of the pictures by which two results are compared whose bytes differ."""


@teaching
def reproduce(
    path: Annotated[
        Path,
        typer.Argument(metavar="MANIFEST", help="Of a finished run: NAME.run/manifest.json, NAME.run or its output."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Where to.", show_default="NAME.again.ply beside the first"
        ),
    ] = None,
    prior: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Where the same weights lie, if they have moved.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what exists.")] = False,
) -> None:
    """Run a manifest again and compare: exit code 0 for the same bytes, 1 for others.

    The same command goes on where it was broken off.
    """
    quieten()
    with refusing():
        file = path if path.suffix == ".json" else runs.folder_of(path) / runs.MANIFEST
        if not file.is_file():
            raise Refused(f"there is no manifest {file}; a run has one when it is finished")
        manifest = manifest_in(file)
        recipe = Recipe.from_table(manifest["recipe"], file)
        beside = file.absolute().parent  # of a manifest that was taken out of its run folder
        beside = beside.parent if beside.suffix == ".run" else beside
        first = beside / Path(manifest["result"]["file"]).name
        suffix = output_suffix(first)
        target = output or first.with_name(f"{first.name.removesuffix(suffix)}.again{suffix}")
        if output_suffix(target) != suffix:
            raise Refused(f"{target} must end in {suffix}, as the first result does, to be compared with it")
    goes_on = broken_off(runs.run_folder(target)) and not force
    plan = check(recipe if prior is None else recipe.replace(prior=prior), target, force=force or goes_on)
    every, portions = manifest["checkpoint_every"], manifest.get("portions")
    if goes_on:
        check_same(plan, every, portions)
    from splatdream import session

    out = stdout()
    with session.threads(manifest["machine"]["threads"]):
        here = origin_of(plan.recipe, plan.prior)
        changes = differences({key: manifest[key] for key in here}, here) + manifest.get("changes", [])
        for change in changes:
            out.print(f"not as it was: {change}")
        if goes_on:
            work = session.resume(plan.folder, say=out.print)
        else:
            work = session.start(plan.recipe, target, checkpoint_every=every, say=out.print, portions=portions)
        done = next(iter(runs.states(plan.folder)), 0) if goes_on else 0
        given = [word for option in (("-o", output), ("--prior", prior)) if option[1] for word in option]
        follow(work, plan.recipe, target, 0, done, again=shown_command("splatdream", "reproduce", path, *given))
    again = sha256(target)
    if again == manifest["result"]["sha256"]:
        out.print(f"the same bytes: {again}")
        return
    out.print(f"other bytes: {again}, the first {manifest['result']['sha256']}")
    out.print(distance(first, target, manifest["result"]))
    if recipe.device != "cpu":
        out.print("on CUDA the same bytes are not promised: gsplat's backward adds in no fixed order")
    elif not changes:
        out.print("nothing that the manifest records has changed; on the CPU this must not be: please report it")
    raise typer.Exit(FAILED)


def check_same(plan: Plan, every: int, portions: int | None) -> None:
    """Refused where the run that was broken off in the plan's folder is not this one's."""
    with refusing():
        run = runs.read(plan.folder)
    if (run.recipe, run.checkpoint_every, run.origin.get("portions")) != (plan.recipe, every, portions):
        raise Refused(f"{plan.folder} holds another run, that was broken off; --force begins anew")


def distance(first: Path, again: Path, result: dict[str, Any]) -> str:
    """How far apart the two results are, in words, where the first one is still there."""
    if not first.is_file() or sha256(first) != result["sha256"]:
        return f"{first} is not there to be compared with, or was changed"
    one, other = read(first).splats, read(again).splats
    return f"{len(one):,} Gaussians, then {len(other):,}; {likeness(one, other):.1f} dB PSNR between their pictures"


def likeness(one: "Splats", other: "Splats") -> float:
    """PSNR in dB of pictures from all around, at most 60."""
    import torch

    from splatdream.inspect.compare import psnr
    from splatdream.render.cpu import render
    from splatdream.turntable import turntable

    before, after = (turntable(splats, render, views=VIEWS, size=SIZE) for splats in (one, other))
    return psnr(before, after, torch.ones(VIEWS, SIZE, SIZE, 1, dtype=torch.bool))
