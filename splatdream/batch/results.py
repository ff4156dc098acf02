"""What became of a batch: the best seed of every prompt kept, the others archived, and a line for every job.

Imports no torch. All of it may be done again at any time, and by whoever comes to it.
"""

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splatdream import runs
from splatdream.batch.claims import Claims
from splatdream.batch.prompts import Job
from splatdream.export.atomic import atomic_write

RESULTS = "results.jsonl"


@dataclass(frozen=True)
class Outcome:
    """A job and what became of it; `best` of its prompt's seeds.

    `state` is "done", "failed", "open" or, of one that is asked for no more, "withdrawn".
    """

    job: Job
    state: str
    told: dict[str, Any]
    best: bool = False

    @property
    def score(self) -> float:
        return float(self.told.get("score", 0.0))


def outcomes(plan: dict[str, Job], claims: Claims) -> list[Outcome]:
    """Of every job, in the plan's order."""
    # Looked at before what is filed, and `todo` twice, since jobs are on their way.
    due = claims.jobs("todo") | claims.jobs("taken") | claims.jobs("todo")
    done, failed = claims.results("done"), claims.results("failed")
    best = best_of([job for name, job in plan.items() if name in done], done)
    found = []
    for name, job in plan.items():
        state = "done" if name in done else "failed" if name in failed else "open" if name in due else "withdrawn"
        found.append(Outcome(job, state, done.get(name) or failed.get(name) or {}, name in best))
    return found


def best_of(jobs: list[Job], done: dict[str, dict[str, Any]]) -> set[str]:
    """The names of the jobs with the highest score of their prompt's; of equals the first seed."""
    best: dict[str, Job] = {}
    for job in jobs:
        rival = best.get(job.folder)
        if rival is None or done[job.name].get("score", 0.0) > done[rival.name].get("score", 0.0):
            best[job.folder] = job
    return {job.name for job in best.values()}


def archive(found: list[Outcome], batch: Path) -> None:
    """Moves the seeds of finished prompts to where they belong: the best up, the others into the archive."""
    unfinished = {outcome.job.folder for outcome in found if outcome.state == "open"}
    for outcome in found:
        if outcome.state == "done" and outcome.job.folder not in unfinished:
            up, down = outcome.job.output(batch), outcome.job.archived(batch)
            move(*((down, up) if outcome.best else (up, down)))


def move(source: Path, target: Path) -> None:
    """A splat with its run folder and its film; the splat itself goes last, so that a move can be taken up again."""
    if not source.is_file():
        return
    target.parent.mkdir(exist_ok=True)
    for old, new in (
        (runs.run_folder(source), runs.run_folder(target)),
        (source.with_suffix(".gif"), target.with_suffix(".gif")),
        (source, target),
    ):
        with suppress(FileNotFoundError):
            os.replace(old, new)


def table(outcome: Outcome, batch: Path) -> dict[str, Any]:
    """One line of the results."""
    job = outcome.job
    place = {"file": job.place(batch).relative_to(batch).as_posix()} if outcome.state == "done" else {}
    said = {"name": job.name, "prompt": job.recipe.prompt, "seed": job.recipe.seed, "state": outcome.state}
    return said | {"best": outcome.best} | place | {key: value for key, value in outcome.told.items() if key != "name"}


def write_results(found: list[Outcome], batch: Path) -> None:
    lines = (json.dumps(table(outcome, batch), ensure_ascii=False) for outcome in found)
    with atomic_write(batch / RESULTS) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())
