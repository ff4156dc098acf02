"""`splatdream doctor`: what this machine can do, in a table."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from splatdream_cli.cache import cache_folder, weights_folder
from splatdream_cli.console import FAILED, stdout, teaching
from splatdream_cli.generate import quieten
from splatdream_cli.kernels import prepare_kernels

if TYPE_CHECKING:
    from splatdream.doctor import Finding

MARKS = {"good": ("ok", "green"), "note": ("-", "yellow"), "bad": ("FAILS", "bold red")}


@teaching
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    build: Annotated[
        bool, typer.Option("--build", help="Build gsplat's CUDA kernels now, if they are missing.")
    ] = False,
    skip_test: Annotated[bool, typer.Option("--no-test", help="Leave out the ten-second self-test.")] = False,
) -> None:
    """Tell what this machine can do, and try it. Exit code 1 where something that runs need is broken."""
    quieten()
    from splatdream.doctor import examine, trial

    if build:
        prepare_kernels()
    findings: list[Finding] = []
    for found in examine(surroundings()):
        findings.append(found)
        show(found, as_json)
    if not skip_test:
        findings.append(trial())
        show(findings[-1], as_json)
    if as_json:
        stdout().print(json.dumps([asdict(found) for found in findings], indent=2))
    if any(found.state == "bad" for found in findings):
        raise typer.Exit(FAILED)


def surroundings():
    from huggingface_hub import constants

    from splatdream.doctor import Surroundings

    return Surroundings(cache_folder(), Path(weights_folder()), constants.ENDPOINT, constants.is_offline_mode())


def show(found: "Finding", as_json: bool) -> None:
    if not as_json:
        mark, style = MARKS[found.state]
        out = stdout()
        out.print(f"{mark:<6}", style=style, end="")
        out.print(f"{found.name:<10} {found.text}")
