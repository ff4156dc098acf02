"""The program `splatdream`: its commands, each in the file of its noun."""

import io
import os
import sys
import warnings
from typing import Annotated

import typer

import splatdream
from splatdream_cli.batch import batch
from splatdream_cli.cache import cache, use_cache
from splatdream_cli.check import check
from splatdream_cli.console import show_warning, stdout
from splatdream_cli.doctor import doctor
from splatdream_cli.export import export
from splatdream_cli.generate import generate
from splatdream_cli.look import info, render
from splatdream_cli.mesh import mesh
from splatdream_cli.playground import playground
from splatdream_cli.prior import prior
from splatdream_cli.reproduce import reproduce
from splatdream_cli.resume import resume
from splatdream_cli.signals import end_in_order
from splatdream_cli.tables import cite, list_parts, words
from splatdream_cli.view import view

app = typer.Typer(
    name="splatdream",
    help="A text prompt becomes a 3D Gaussian splat: splatdream generate 'a snowman with a red hat' -o snowman.ply",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def show_version(asked: bool) -> None:
    if asked:
        stdout().print(f"splatdream {splatdream.__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


app.command()(generate)
app.command()(resume)
app.command()(reproduce)
app.command()(render)
app.command()(info)
app.command()(export)
app.command()(mesh)
app.command()(check)
app.command()(view)
app.command()(playground)
app.command("list")(list_parts)
app.command()(words)
app.command()(cite)
app.command()(batch)
app.add_typer(cache, name="cache")
app.add_typer(prior, name="prior")
app.command()(doctor)


def main() -> None:
    # Torch's threads spin while they wait; on a busy machine that made steps ten times slower. Read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    use_cache(os.environ)
    end_in_order()
    warnings.showwarning = show_warning
    # A prompt may hold what the terminal's encoding does not; that must not end a run.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    app()


if __name__ == "__main__":
    main()
