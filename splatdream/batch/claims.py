"""Who does what, told by files in one folder that may lie on several machines' shared disk.

    todo/JOB.0           to be done; the number counts the workers that have died over it
    taken/JOB.0@WORKER   being done
    done/JOB, failed/JOB what became of it, in JSON
    workers/WORKER       what it is at, in JSON, written anew every few seconds: its pulse

A job changes hands by a rename, which succeeds for one process only. A claim whose worker has lost its pulse goes back
to where others find it. A worker that was only asleep may then still write: the lock of the run's folder keeps the two
apart, and the second finds the work of the first. Imports no torch.
"""

import json
import os
import platform
import re
import secrets
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splatdream.export.atomic import atomic_write

STATES = ("todo", "taken", "done", "failed")
FORMS = {"todo": re.compile(r"[^.].*\.\d+"), "taken": re.compile(r"[^.].*\.\d+@.+")}
OTHER_FORM = re.compile(r"[^.].*")
BEAT_SECONDS = 5.0
STALE_SECONDS = 60.0
"""A pulse older than this is that of the dead."""


HOPELESS_CODE = 3
"""With which the process of a worker ends that found so."""


class Hopeless(RuntimeError):  # noqa: N818
    """Nothing can be done until somebody sees to it: workers die before they do anything, or the disk is full."""


@dataclass(frozen=True)
class Claim:
    """A job in one worker's hands; `deaths` workers have died over it."""

    job: str
    deaths: int
    worker: str

    @property
    def token(self) -> str:
        return f"{self.job}.{self.deaths}@{self.worker}"

    @classmethod
    def read(cls, token: str) -> "Claim":
        job, _, worker = token.partition("@")
        name, _, deaths = job.rpartition(".")
        return cls(name, int(deaths), worker)


def new_worker() -> str:
    """A name that no worker has or had, after this machine's."""
    host = re.sub(r"[^A-Za-z0-9-]", "-", platform.node()) or "host"
    return f"{host}-{secrets.token_hex(4)}"


class Claims:
    """The claims of one batch; `retries` is how many workers may die over a job before it counts as failed."""

    def __init__(self, batch: Path, *, retries: int = 2, stale_seconds: float = STALE_SECONDS) -> None:
        self.folder, self.retries, self.stale_seconds = batch / "claims", retries, stale_seconds
        for name in (*STATES, "workers"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._seen: list[str] = []

    def add(self, jobs: list[str]) -> int:
        """Puts up the jobs that are nowhere yet, and returns their number."""
        known = {job for state in STATES for job in self.jobs(state)}
        # Looked at twice: between the first look at `todo` and that at `taken`, a job may have gone back.
        new = [job for job in jobs if job not in known | self.jobs("todo")]
        for job in new:
            (self.folder / "todo" / f"{job}.0").touch()
        return len(new)

    def jobs(self, state: str) -> set[str]:
        names = self._names(state)
        return set(names) if state in ("done", "failed") else {Claim.read(name).job for name in names}

    def retry(self, jobs: Collection[str], state: str = "failed") -> int:
        """Puts up again what of these was filed under "failed", or under "done", and returns its number."""
        filed = sorted(self.jobs(state).intersection(jobs))
        for job in filed:
            self._moved(f"{state}/{job}", f"todo/{job}.0")
        return len(filed)

    def withdraw(self, jobs: Collection[str]) -> int:
        """Takes back those of these jobs that nobody has begun, unless others are at work, and returns their number."""
        if any(self.silence(worker) is None for worker in self.workers()):
            return 0
        put_up = [name for name in self._names("todo") if Claim.read(name).job in jobs]
        for name in put_up:
            (self.folder / "todo" / name).unlink(missing_ok=True)
        return len(put_up)

    def take(self, worker: str) -> Claim | None:
        """The next job in this worker's hands; None where nothing is to be had at the moment."""
        for _ in range(2):
            while self._seen:
                token = self._seen.pop()
                if self._moved(f"todo/{token}", f"taken/{token}@{worker}"):
                    claim = Claim.read(f"{token}@{worker}")
                    with suppress(FileNotFoundError):
                        os.utime(self.folder / "taken" / claim.token)  # as good as a pulse, until there is one
                    return claim
            self._seen = sorted(self._names("todo"), reverse=True)
        return None

    def over(self) -> bool:
        """Whether nothing is left, neither to do nor in anybody's hands."""
        return not (self._names("todo") or self._names("taken"))

    def release(self, claim: Claim) -> None:
        """Gives a job back as it is."""
        self._moved(f"taken/{claim.token}", f"todo/{claim.job}.{claim.deaths}")

    def settle(self, claim: Claim, state: str, result: dict[str, Any]) -> None:
        """Files a job under "done" or "failed". Nothing happens where it was given to another meanwhile."""
        token = self.folder / "taken" / claim.token
        if token.exists():
            with atomic_write(token) as file:
                file.write(json.dumps(result).encode())
            self._moved(f"taken/{claim.token}", f"{state}/{claim.job}")

    def bury(self, worker: str, why: str) -> int:
        """Gives the jobs of a dead worker to the others, or files as failed one that has seen enough deaths.

        Returns how many it held.
        """
        held = [claim for claim in self.taken() if claim.worker == worker]
        for claim in held:
            if claim.deaths < self.retries:
                self._moved(f"taken/{claim.token}", f"todo/{claim.job}.{claim.deaths + 1}")
            else:
                reason = f"{claim.deaths + 1} workers died over it, the last one {why}"
                self.settle(claim, "failed", {"name": claim.job, "error": reason})
        self.leave(worker)
        for half_written in (*self.folder.glob(f"taken/.*@{worker}.*.tmp"), *self.folder.glob(f"workers/.{worker}.*")):
            half_written.unlink(missing_ok=True)
        return len(held)

    def bury_stale(self) -> int:
        """Buries every worker without a pulse, and returns how many there were."""
        workers = {claim.worker for claim in self.taken()} | {*self._names("workers")}
        stale = [worker for worker in workers if self.silence(worker) is not None]
        for worker in stale:
            self.bury(worker, f"without a sign of life for {self.stale_seconds:.0f} s")
        return len(stale)

    def silence(self, worker: str) -> float | None:
        """For how many seconds a worker has been silent, where that is too long; else None."""
        signs = [self.folder / "workers" / worker]
        signs += [self.folder / "taken" / claim.token for claim in self.taken() if claim.worker == worker]
        heard = 0.0
        for path in signs:
            with suppress(FileNotFoundError):
                heard = max(heard, path.stat().st_mtime)
        silent = self.clock() - heard
        return silent if silent > self.stale_seconds else None

    def clock(self) -> float:
        """The time by the clock of the disk, which stamps the files of all machines."""
        path = self.folder / "clock"
        path.touch()
        return path.stat().st_mtime

    def taken(self) -> list[Claim]:
        return [Claim.read(token) for token in self._names("taken")]

    def results(self, state: str) -> dict[str, dict[str, Any]]:
        """What was filed under "done" or "failed", by job; without what cannot be read, which `mend` puts up again."""
        filed = {job: _table(self.folder / state / job) for job in self.jobs(state)}
        return {job: table for job, table in filed.items() if table is not None}

    def mend(self) -> int:
        """Puts up again the jobs whose files are damaged, and returns their number; a finished run is only read."""
        damaged = [
            (state, job) for state in ("done", "failed") for job in self.jobs(state) - self.results(state).keys()
        ]
        for state, job in damaged:
            self._moved(f"{state}/{job}", f"todo/{job}.0")
        return len(damaged)

    def beat(self, worker: str, status: dict[str, Any]) -> None:
        """Writes what a worker is at; nothing is flushed, since only the living matter."""
        path = self.folder / "workers" / worker
        temporary = path.with_name(f".{worker}.{secrets.token_hex(4)}.tmp")
        temporary.write_text(json.dumps(status), encoding="utf-8")
        os.replace(temporary, path)

    def workers(self) -> dict[str, dict[str, Any]]:
        """What every worker is at."""
        found = {}
        for name in sorted(self._names("workers")):
            status = _table(self.folder / "workers" / name)
            if status is not None:
                found[name] = status
        return found

    def leave(self, worker: str) -> None:
        """Takes a worker off the list that holds nothing any more."""
        (self.folder / "workers" / worker).unlink(missing_ok=True)

    def _names(self, state: str) -> list[str]:
        """Without what is half written, and what others have laid there."""
        form = FORMS.get(state, OTHER_FORM)
        return [name for name in os.listdir(self.folder / state) if form.fullmatch(name)]

    def _moved(self, old: str, new: str) -> bool:
        try:
            os.replace(self.folder / old, self.folder / new)
        except FileNotFoundError:
            # Over a network a rename may be asked for twice: the second is told that nothing is there, and it is done.
            return (self.folder / new).exists()
        return True


def _table(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None where there is none, whole."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None
