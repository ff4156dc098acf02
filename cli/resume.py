"""`splatdream resume`: a run that was broken off goes on."""

from pathlib import Path
from typing import Annotated

import typer

from splatdream import runs
from splatdream_cli.cache import cache_folder
from splatdream_cli.console import Refused, refusing, stdout, teaching
from splatdream_cli.follow import Preview, Watch, check_live, follow
from splatdream_cli.generate import quieten


@teaching
def resume(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="A run that was broken off: its folder NAME.run, or its output.")
    ],
    preview_every: Preview = 0,
    live: Watch = False,
) -> None:
    """Go on with a run as if it had never stopped."""
    quieten()
    check_live(live)
    with refusing():
        run = runs.read(path)
        if runs.finished(run.folder):
            raise Refused(f"{run.folder} is finished: there is nothing left to do")
        owner = runs.holder(run.folder)
        if owner:
            raise Refused(f"{run.folder} is in use by {owner}; wait for it")
    from splatdream import session

    steps = session.resume(run.folder, say=stdout().print, cache=cache_folder())
    done = next(iter(runs.states(run.folder)), 0)
    follow(steps, run.recipe, run.output, preview_every, done, live=live, folder=run.folder)
