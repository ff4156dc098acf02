"""The engine of processes on this machine: starts workers, and sees to the jobs and the places of those that die."""

import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from splatdream.batch.claims import HOPELESS_CODE, Claims, Hopeless, new_worker

POLL_SECONDS = 0.2
LEAVE_SECONDS = 120.0
"""How long a worker may take to finish its step and save its state."""
FRUITLESS = 3
"""So many errors of workers at each place, with no job done in between, end the batch; who is killed has made none."""


@dataclass(frozen=True)
class Process:
    """A worker with the environment of its place: which device or how many threads it has."""

    name: str
    environment: Mapping[str, str]
    system: subprocess.Popen
    said: Path


class Patience:
    """Counts the errors of so many workers since a job was last done."""

    def __init__(self, claims: Claims, workers: int) -> None:
        self.claims, self.most = claims, FRUITLESS * workers
        self.fruitless, self.done = 0, -1

    def bear(self, how: str, *, killed: bool) -> None:
        """Of the death of a worker, in words, killed over a job or by an error. Hopeless where it is one too many."""
        now = len(self.claims.jobs("done"))
        fruitful = killed or now > self.done
        self.fruitless, self.done = (0, now) if fruitful else (self.fruitless + 1, self.done)
        if self.fruitless >= self.most:
            raise Hopeless(f"workers die and nothing is done, the last one {how}")


def run_local(
    batch: Path, claims: Claims, environments: list[dict[str, str]], cache: Path | None = None
) -> Generator[list[str], None, None]:
    """Works until nothing is left, with a worker in each of the environments, and yields their names as time goes by.

    Leaving the loop stops the workers, which save what they have. Hopeless where they all die at once, or have no room
    to write.
    """
    crew: list[Process] = []
    patience = Patience(claims, len(environments))
    try:
        for environment in environments:
            crew.append(start(batch, claims, environment, cache))
        while crew:
            yield [process.name for process in crew]
            time.sleep(POLL_SECONDS)
            for process in [each for each in crew if each.system.poll() is not None]:
                crew.remove(process)
                if process.system.returncode == 0:
                    continue
                if process.system.returncode == HOPELESS_CODE:
                    raise Hopeless(last_words(process))
                held = claims.bury(process.name, died(process))
                patience.bear(died(process), killed=held > 0 and process.system.returncode < 0)
                if not claims.over():
                    crew.append(start(batch, claims, process.environment, cache))
    finally:
        stop(crew, claims)


def start(batch: Path, claims: Claims, environment: Mapping[str, str], cache: Path | None = None) -> Process:
    """A new worker, whose words go to a file of its name."""
    name = new_worker()
    said = claims.folder / "said" / f"{name}.txt"
    said.parent.mkdir(exist_ok=True)
    # Without -P a file in this folder could take the place of a package.
    words = [sys.executable, "-P", "-m", "splatdream.batch.worker"]
    words += ["--retries", str(claims.retries), "--stale", str(claims.stale_seconds)]
    words += ["--cache", str(cache)] if cache is not None else []
    words += ["--", str(batch), name]
    with said.open("wb") as file:
        system = subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=file, stderr=file)
    return Process(name, environment, system, said)


def stop(crew: list[Process], claims: Claims) -> None:
    """Lets every worker save what it has and go; who does not in time is killed."""
    for process in crew:
        if process.system.stdin is not None:
            with suppress(OSError):
                process.system.stdin.close()
    deadline = time.monotonic() + LEAVE_SECONDS
    for process in crew:
        try:
            process.system.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.system.kill()
            process.system.wait()
        if process.system.returncode != 0:
            claims.bury(process.name, died(process))


def died(process: Process) -> str:
    """How a worker died, with the last that it said."""
    code = process.system.returncode
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    return f"{how}: {last_words(process)}".removesuffix(": ")


def last_words(process: Process) -> str:
    lines = process.said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
