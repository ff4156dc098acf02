"""`splatdream view`: a splat in the browser."""

import shutil
import subprocess
import tempfile
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from splatdream.catalog import choose
from splatdream.viewer.serve import serving
from splatdream_cli.console import Refused, refusing, stdout, teaching
from splatdream_cli.look import DropInvalid, InUp, asset_in, check_axes, check_source

VIEWERS = ["viser", "supersplat"]
SUPERSPLAT = "@playcanvas/splat-transform@2.7.1"
"""Of the last line of versions that runs on Node 18 and later."""


@teaching
def view(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A splat of any tool, or a page that export has made.")],
    viewer: Annotated[
        str, typer.Option(metavar="|".join(VIEWERS), help="What shows it; supersplat needs Node.")
    ] = "viser",
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Serve to others as well, at an address with a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    open_browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the browser.")] = True,
    in_up: InUp = None,
    drop_invalid: DropInvalid = False,
) -> None:
    """Look at a splat in the browser, until Ctrl-C."""
    with refusing():
        choose("viewer", viewer, VIEWERS)
        check_axes(in_up)
    is_page = file.suffix.lower() == ".html" and file.is_file()
    page = file.read_bytes() if is_page else made(file, viewer, in_up, drop_invalid)
    out = stdout()
    try:
        with serving(page, host=host, port=port) as address:
            out.print(f"{file} is shown at {address} until Ctrl-C")
            if open_browser:
                webbrowser.open(address)
            wait()
    except KeyboardInterrupt:
        out.print("no longer shown")


def wait() -> None:
    """Until Ctrl-C, which Windows passes on to a waiting thread only now and then."""
    from threading import Event

    while not Event().wait(0.5):
        pass


def made(file: Path, viewer: str, in_up: str | None, drop_invalid: bool) -> bytes:
    """The page that shows a splat."""
    check_source(file)
    node = shutil.which("npx")
    if viewer == "supersplat" and node is None:
        raise Refused("--viewer supersplat needs Node; install it from nodejs.org, or leave it out")
    splats = asset_in(file, in_up, drop_invalid).splats
    if node is None or viewer == "viser":
        from splatdream.export.html import page

        return page(splats)
    from splatdream.export.ply import write_ply

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "splat.ply", Path(folder) / "splat.html"
        write_ply(splats, source)
        command = [node, "--yes", SUPERSPLAT, "-q", "-g", "cpu", str(source), str(target)]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
        if done.returncode or not target.is_file():
            said = [line for line in done.stderr.splitlines() if line.strip()]
            raise RuntimeError(f"{SUPERSPLAT} made no page: {said[-1] if said else 'it says nothing'}")
        return target.read_bytes()
