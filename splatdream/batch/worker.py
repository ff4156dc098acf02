"""A worker: takes one job after the other until nothing is left, and keeps its prior loaded.

`python -m splatdream.batch.worker BATCH NAME` is one, which ends when its standard input does: the death of whoever
started it, however sudden, stops it too.
"""

import argparse
import os
import platform
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from splatdream import runs, session
from splatdream.batch.claims import BEAT_SECONDS, HOPELESS_CODE, STALE_SECONDS, Claim, Claims, Hopeless
from splatdream.batch.prompts import Job, read_plan
from splatdream.cameras import orbit
from splatdream.catalog import find
from splatdream.check import check_splats
from splatdream.contracts import Prior
from splatdream.export import read
from splatdream.export.atomic import disk_full, sweep
from splatdream.init.sphere import Sphere
from splatdream.locks import alone
from splatdream.manifest import read_manifest
from splatdream.recipe import Recipe
from splatdream.turntable import turntable, write_gif

POLL_SECONDS = 1.0
ITS_OWN = (ValueError, ArithmeticError, LookupError, MemoryError)
"""What goes wrong with a job itself, wherever it is done."""
VIEWS, PIXELS = 12, 128


def work(
    batch: Path,
    name: str,
    stop: threading.Event,
    *,
    retries: int,
    stale_seconds: float = STALE_SECONDS,
    cache: Path | None = None,
) -> None:
    """Does jobs until all are done or failed, by whomever, or `stop` is set: then the job at hand is given back.

    Hopeless where the disk is full; the job at hand is given back then too.
    """
    claims = Claims(batch, retries=retries, stale_seconds=stale_seconds)
    worker = Worker(batch, claims, name, stop, cache)
    with worker.pulse():
        while not stop.is_set():
            claim = claims.take(name)
            if claim is not None:
                worker.attend(claim)
                continue
            if claims.over():
                break
            worker.tell(job=None)
            stop.wait(POLL_SECONDS)
            claims.bury_stale()
    claims.leave(name)


class Worker:
    """What stays from job to job: the prior, the plan, and what is told to others."""

    def __init__(self, batch: Path, claims: Claims, name: str, stop: threading.Event, cache: Path | None) -> None:
        self.batch, self.claims, self.name, self.stop, self.cache = batch, claims, name, stop, cache
        self.status: dict[str, Any] = {"pid": os.getpid(), "host": platform.node(), "job": None, "done": 0, "failed": 0}
        self.plan: dict[str, Job] = {}
        self.loaded: tuple[tuple, Prior] | None = None
        self.warm: set[str] = set()

    def attend(self, claim: Claim) -> None:
        """Does one job, and files what became of it."""
        self.tell(job=claim.job, step=0, steps=0)
        try:
            job = self.job(claim.job)
            done = self.finish(job)
            if not done:
                self.claims.release(claim)
                return
            result = result_of(job, self.batch) | {"worker": self.name, "deaths": claim.deaths}
            self.claims.settle(claim, "done", result)
            self.tell(done=self.status["done"] + 1)
        except Exception as error:
            if disk_full(error):
                self.claims.release(claim)
                raise Hopeless(f"the disk of {self.batch} is full: make room, and begin the batch again") from error
            if not isinstance(error, ITS_OWN):
                raise  # the machine's, it may be: another worker shall try, and this one ends
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            self.claims.settle(claim, "failed", {"name": claim.job, "error": reason, "worker": self.name})
            self.tell(failed=self.status["failed"] + 1)

    def job(self, name: str) -> Job:
        if name not in self.plan:
            self.plan = read_plan(self.batch)  # somebody may have added to it
        return self.plan[name]

    def finish(self, job: Job) -> bool:
        """Brings the job's run to its end, from wherever it is; False where it was stopped, with its state saved."""
        output = job.place(self.batch)
        folder = runs.run_folder(output)
        output.parent.mkdir(parents=True, exist_ok=True)
        while not (runs.finished(folder) and output.is_file()):
            prior = self.prior(job.recipe)
            begun = (folder / runs.RECIPE).is_file() and not runs.finished(folder)
            steps = session.resume(folder, prior=prior) if begun else session.start(job.recipe, output, prior=prior)
            try:
                with closing(steps):
                    for step in steps:
                        self.tell(False, step=step.index + 1, steps=step.total)
                        if self.stop.is_set():
                            return False
            except runs.Busy:  # its last worker was only asleep
                if self.stop.wait(POLL_SECONDS):
                    return False
        return True

    def prior(self, recipe: Recipe) -> Prior:
        """The recipe's prior, kept while jobs want the same; before the first step, kernels are compiled."""
        settled, _ = session.settled(recipe)
        key = (settled.prior, settled.device, settled.view_words)
        if self.loaded is None or self.loaded[0] != key:
            self.loaded = None  # there may be no room for two
            self.loaded = key, session.loaded(settled, self.cache)
        if settled.renderer not in self.warm:
            compile_kernels(settled, self.claims.folder / f"kernels-{platform.node()}.lock")
            self.warm.add(settled.renderer)
        return self.loaded[1]

    def tell(self, now: bool = True, **values: Any) -> None:
        self.status |= values
        if now:
            with suppress(OSError):  # a full disk, or one that is away for a while
                self.claims.beat(self.name, dict(self.status))

    @contextmanager
    def pulse(self) -> Iterator[None]:
        """The block with a thread beside it that tells every few seconds that this worker lives."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(BEAT_SECONDS):
                self.tell()

        self.tell()
        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def compile_kernels(recipe: Recipe, lock: Path) -> None:
    """Draws a little forward and backward: one worker of a machine compiles, and the others find what it made."""
    import torch

    with alone(lock):
        splats = Sphere()(8, torch.Generator().manual_seed(0)).to(recipe.device).requires_grad()
        cameras = orbit(1, 16).to(splats.means)
        find("renderer", recipe.renderer)(splats, cameras, splats.means.new_ones(1, 3)).images.sum().backward()


def result_of(job: Job, batch: Path) -> dict[str, Any]:
    """What is known of a finished job, after a look at it: its turntable is written, its score measured."""
    output = job.place(batch)
    asset = read(output)
    report = check_splats(asset.splats)
    recipe, _ = session.settled(job.recipe)
    images = turntable(asset.splats.to(recipe.device), find("renderer", recipe.renderer), views=VIEWS, size=PIXELS)
    sweep(output.with_suffix(".gif"))
    write_gif(images, output.with_suffix(".gif"))
    manifest = read_manifest(runs.run_folder(output)) or {}
    return {
        "name": job.name,
        "score": round(report.score, 4),
        "passed": report.passed,
        "failures": [finding.name for finding in report.failures],
        "gaussians": manifest["result"]["gaussians"],
        "sha256": manifest["result"]["sha256"],
        "steps": manifest["timing"]["steps"],
        "seconds": manifest["timing"]["seconds"],
        "seconds_per_step": manifest["timing"]["seconds_per_step"],
        "sessions": manifest["timing"]["sessions"],
    }


def stop_with_input(stop: threading.Event) -> None:
    """Sets `stop` when standard input ends or a signal asks for it.

    Ctrl-C and the closing of a terminal are for who started this process, and then ends its input.
    """
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: stop.set())

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 1024):  # `sys.stdin` itself would be locked when Python ends
            pass
        stop.set()

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("batch", type=Path)
    parser.add_argument("name")
    parser.add_argument("--retries", type=int, default=2)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--stale", type=float, default=STALE_SECONDS)
    options = parser.parse_args()
    stop = threading.Event()
    stop_with_input(stop)
    numbers = {"retries": options.retries, "stale_seconds": options.stale}
    try:
        work(options.batch, options.name, stop, **numbers, cache=options.cache)
    except Hopeless as error:
        print(error, file=sys.stderr)
        sys.exit(HOPELESS_CODE)


if __name__ == "__main__":
    main()
