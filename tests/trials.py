"""Small batches to be disturbed, and what must be true of them afterwards."""

import os
import random
import signal
from collections.abc import Iterable
from pathlib import Path

from splatdream import runs
from splatdream.batch.claims import Claims
from splatdream.batch.prompts import Job, job, write_plan
from splatdream.manifest import read_manifest, sha256
from splatdream.recipe import Recipe

TINY = Recipe("a red mug", renderer="dense", device="cpu", steps=4, views=1, count=20)


def begun(batch: Path, recipes: list[Recipe], **options: float) -> tuple[list[Job], Claims]:
    batch.mkdir(exist_ok=True)
    jobs = [job(recipe) for recipe in recipes]
    write_plan(batch, {each.name: each for each in jobs})
    claims = Claims(batch, **options)  # type: ignore[arg-type]
    claims.add([each.name for each in jobs])
    return jobs, claims


def kill_while_working(ticks: Iterable, claims: Claims, count: int, chance: random.Random) -> int:
    """Goes through the ticks of an engine and kills workers that have a job, not all at once; the number killed."""
    killed: set[int] = set()
    for _ in ticks:
        working = [status for status in claims.workers().values() if status["job"] and status["pid"] not in killed]
        if len(killed) < count and working and chance.random() < 0.5:
            victim = chance.choice(working)["pid"]
            os.kill(victim, getattr(signal, "SIGKILL", signal.SIGTERM))
            killed.add(victim)
    return len(killed)


def whole(batch: Path, jobs: list[Job], claims: Claims) -> list[str]:
    """What was lost or done twice, in words."""
    wrong = [f"{name} is left" for state in ("todo", "taken", "failed") for name in claims.jobs(state)]
    for each in jobs:
        output = each.output(batch)
        manifest = read_manifest(runs.run_folder(output))
        if manifest is None or sha256(output) != manifest["result"]["sha256"]:
            wrong.append(f"{each.name} has no result")
            continue
        begins, ends = (len(runs.events(runs.run_folder(output), event)) for event in ("begin", "end"))
        if (begins, ends) != (1, 1):
            wrong.append(f"{each.name} was begun {begins} times and ended {ends} times")
    return wrong
