"""`splatdream cache`: where the cache is, what it holds, and emptying it. Loads no torch."""

import json
import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Annotated

import typer

from splatdream.cache import KINDS, clear, held, platform_folder, tell_compilers
from splatdream.catalog import choose
from splatdream_cli.console import Refused, refusing, size, somebody_there, stdout, teaching

cache = typer.Typer(help="Tell what the cache holds, or empty it.", no_args_is_help=True)


def cache_folder() -> Path:
    """SPLATDREAM_CACHE, else the platform's own place."""
    named = os.environ.get("SPLATDREAM_CACHE")
    if named:
        return Path(named).expanduser().absolute()
    base = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME")
    return Path(base) / "splatdream" if base else platform_folder(Path.home())


def use_cache(environment: MutableMapping[str, str]) -> None:
    """Tells numba, torch and the hub's client of the cache, each unless it was told of another place.

    The hub's models, which other programs share, move only where SPLATDREAM_CACHE asks for it.
    """
    folder = cache_folder()
    tell_compilers(folder, environment)
    if environment.get("SPLATDREAM_CACHE") and "HF_HOME" not in environment:
        environment.setdefault("HF_HUB_CACHE", str(folder / "weights"))


def weights_folder() -> str:
    """Where the hub's client keeps models, as it was told or by its own rule."""
    from splatdream.priors.words import default_cache
    from splatdream_cli.plan import hub_cache

    return str(hub_cache() or default_cache())


@cache.command()
@teaching
def info(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Tell where the cache is and what it holds."""
    folder = cache_folder()
    found = {kind: held(folder, kind) for kind in KINDS}
    if as_json:
        table = {kind: {"files": files, "bytes": length} for kind, (files, length) in found.items()}
        stdout().print(json.dumps({"folder": str(folder), "kinds": table, "hub": weights_folder()}, indent=2))
        return
    out = stdout()
    out.print(f"{'folder':<11} {folder}")
    for kind, (files, length) in found.items():
        out.print(f"{kind:<11} {size(length):>8} in {files:,} files: {KINDS[kind]}")
    if Path(weights_folder()) != folder / "weights":
        out.print(f"{'':<11} models of the hub lie in {weights_folder()}, which other programs share")


@cache.command("clear")
@teaching
def clear_cache(
    kinds: Annotated[
        list[str] | None, typer.Argument(metavar=f"[{'|'.join(KINDS)}]...", help="All by default.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete what the cache holds; all of it is made or fetched anew when it is needed."""
    with refusing():
        chosen = [choose("kind of cache", kind, list(KINDS)) for kind in kinds or KINDS]
    folder = cache_folder()
    total = sum(held(folder, kind)[1] for kind in chosen)
    if total and not yes:
        if not somebody_there():
            raise Refused(f"this deletes {size(total)} in {folder}; say --yes")
        typer.confirm(f"delete {', '.join(chosen)}, {size(total)}, in {folder}?", abort=True)
    stdout().print(f"{size(clear(folder, chosen))} freed in {folder}")
