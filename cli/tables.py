"""`splatdream list`, `words` and `cite`: what there is to choose from, and whom to thank. None of them loads torch."""

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.columns import Columns

from splatdream import runs
from splatdream.catalog import CATALOG, choose
from splatdream.export import output_suffix
from splatdream.priors.words import known_words
from splatdream.recipe import Recipe
from splatdream_cli.console import refusing, stdout, teaching


@teaching
def list_parts(
    kind: Annotated[str | None, typer.Argument(help=f"One of {', '.join(CATALOG)}; all by default.")] = None,
) -> None:
    """List every kind of part, with its paper."""
    with refusing():
        kinds = [choose("kind", kind, list(CATALOG))] if kind else list(CATALOG)
    out = stdout()
    for name in kinds:
        out.print(name, style="bold")
        width = max(map(len, CATALOG[name]))
        for part, entry in CATALOG[name].items():
            out.print(f"  {part:<{width}}  {entry.summary}")
            if entry.paper:
                out.print(textwrap.indent(entry.paper, " " * (width + 4)), style="dim")


@teaching
def words() -> None:
    """List the words that the built-in prior knows: in columns on a terminal, else one a line."""
    found = known_words()
    out = stdout()
    if out.is_terminal:
        out.print(Columns(found, padding=(0, 2), column_first=True), soft_wrap=False)
        out.print(f"{len(found)} words", style="dim")
    else:
        out.print("\n".join(found))


@teaching
def cite(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME | NAME.run]...", help="Parts or run folders; all by default.")
    ] = None,
) -> None:
    """Give the papers behind parts, or behind all the parts of a run."""
    with refusing():
        parts = set(asked(names)) if names else None
    papers: dict[str, list[str]] = {}
    for kind, entries in CATALOG.items():
        for name, part in entries.items():
            if part.paper and (parts is None or (kind, name) in parts):
                papers.setdefault(part.paper, []).append(f"{kind} {name}")
    out = stdout()
    for paper, users in papers.items():
        out.print(paper)
        out.print(f"  {', '.join(users)}", style="dim")
    if not papers:
        out.print("no paper stands behind these parts")


def asked(names: list[str]) -> Iterator[tuple[str, str]]:
    """The (kind, name) of parts that were named, or used in the runs that were named. ValueError for neither."""
    names_of_parts = [name for entries in CATALOG.values() for name in entries]
    for name in names:
        recipe = Path(name) / runs.RECIPE
        if recipe.is_file():
            yield from parts_of(Recipe.from_toml(recipe), Path(name))
        else:
            part = choose("part", name.partition(":")[0], names_of_parts)
            yield from ((kind, part) for kind, entries in CATALOG.items() if part in entries)


def parts_of(recipe: Recipe, folder: Path) -> Iterator[tuple[str, str]]:
    yield "distiller", recipe.distill.partition(":")[0]
    yield "timesteps", recipe.timesteps.partition(":")[0]
    yield "view_words", recipe.view_words.partition(":")[0]
    yield "densifier", recipe.densify.partition(":")[0]
    yield "renderer", recipe.renderer
    yield "init", recipe.init.partition(":")[0]
    yield "prior", recipe.prior
    for entry in runs.events(folder, "begin"):
        yield "exporter", output_suffix(entry["output"])
