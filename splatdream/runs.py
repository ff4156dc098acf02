"""A run's folder, NAME.run beside NAME.ply: what was asked, what happened, and what it was made with.

    log.jsonl           one JSON object a line, appended as the run goes on; the first says what the run began with
    recipe.toml         written next, before the first step; `splatdream generate --recipe` repeats the run
    lock                held by the process at work, with its number; the system frees it when that process dies
    state-*.safetensors the last saved states, by their number of finished steps; gone when the run is finished
    manifest.json       written at the end: what the run began with, timing, result

All but later lines of the log appear complete or not at all.
"""

import json
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from splatdream.export import atomic
from splatdream.locks import try_lock
from splatdream.recipe import Recipe

RECIPE, LOCK, LOG, MANIFEST = "recipe.toml", "lock", "log.jsonl", "manifest.json"
ORIGIN = {"versions": dict, "machine": {"threads": int}, "prior": {"sha256": dict}}
BEGUN = {"output": str, "checkpoint_every": int, "origin": ORIGIN}
"""What the first line of every log has, beside more."""


class Busy(RuntimeError):  # noqa: N818
    """Another process works in the folder."""


def run_folder(output: str | Path) -> Path:
    """NAME.run for NAME.ply, in the same folder."""
    return Path(output).with_suffix(".run")


@dataclass(frozen=True)
class Run:
    """A run that was begun, as its folder tells it; `origin` holds what else decides its bytes (`origin_of`)."""

    folder: Path
    recipe: Recipe
    output: Path
    checkpoint_every: int
    origin: dict[str, Any]


def folder_of(path: str | Path) -> Path:
    """The run's folder, for itself or for the output that was asked for."""
    path = Path(path)
    path = path if path.name not in ("", "..") else path.resolve()
    return path if path.is_dir() or path.suffix == ".run" else run_folder(path)


def begin(folder: Path, recipe: Recipe, output: str, checkpoint_every: int, origin: dict[str, Any]) -> None:
    """Writes what `read` needs, in place of what an earlier run left there. Call it with the lock held.

    The recipe goes first and comes last: a folder that has one has all.
    """
    for path in (folder / RECIPE, folder / MANIFEST):
        path.unlink(missing_ok=True)
    drop_states(folder)
    for path in (folder / LOG, *folder.glob(".*.tmp")):
        path.unlink(missing_ok=True)
    log(folder, "begin", output=output, checkpoint_every=checkpoint_every, origin=origin)
    write_text(folder / RECIPE, recipe.to_toml())


def read(path: str | Path) -> Run:
    """The run in a folder, or of an output. FileNotFoundError or ValueError, saying why, where none was begun."""
    folder = folder_of(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no run folder {folder}")
    begun = events(folder, "begin")
    if not begun and states(folder):
        raise ValueError(f"{folder / LOG} is damaged: its line that says what the run began with cannot be read")
    if not begun or not (folder / RECIPE).is_file():
        raise ValueError(f"{folder} holds no run: it was broken off before it began, so generate anew")
    if wrong := misfit(begun[-1], BEGUN):
        raise ValueError(f"{folder / LOG} does not say the run's {wrong}: it is damaged, or of another version")
    name, every, origin = (begun[-1][key] for key in BEGUN)
    if Path(name).name != name or name in ("", ".."):
        raise ValueError(f"{folder / LOG} names the output {name!r}, which would lie outside its folder")
    return Run(folder, Recipe.from_toml(folder / RECIPE), folder.parent / name, every, origin)


def finished(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


def states(folder: Path) -> dict[int, Path]:
    """The saved states by their number of finished steps, the last first."""
    numbers = {path: re.fullmatch(r"state-(\d+)", path.stem) for path in folder.glob("state-*.safetensors")}
    return dict(sorted(((int(match[1]), path) for path, match in numbers.items() if match), reverse=True))


def state_path(folder: Path, step: int) -> Path:
    return folder / f"state-{step:06d}.safetensors"


def drop_states(folder: Path) -> None:
    """Deletes the saved states, and those that were laid aside as damaged."""
    for path in (*states(folder).values(), *folder.glob("state-*.damaged")):
        path.unlink(missing_ok=True)


def forget(folder: Path) -> None:
    """Takes back what `begin` wrote, for a run that came to nothing. Call it with the lock held."""
    drop_states(folder)
    for path in (folder / RECIPE, folder / LOG):
        path.unlink(missing_ok=True)


def sweep(run: Run) -> None:
    """Takes away what a process that was killed while it wrote has left half written. Call it with the lock held."""
    for path in run.folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)
    atomic.sweep(run.output)


def write_text(path: Path, text: str) -> None:
    with atomic.atomic_write(path) as file:
        file.write(text.encode())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The folder, made if need be, to this process alone. Busy, naming the process that has it, when it is taken.

    The system's own file lock, which ends with its process, so that nothing stale can be left; only the empty file.
    """
    folder.mkdir(exist_ok=True)
    path = folder / LOCK
    descriptor = _take(path)
    try:
        note = json.dumps({"pid": os.getpid(), "host": platform.node(), "since": now()})
        with suppress(OSError):  # the lock holds without its note, where the disk is full
            os.ftruncate(descriptor, 0)
            os.write(descriptor, note.encode())
        yield
    finally:
        if os.name == "nt":
            os.close(descriptor)
            with suppress(OSError):  # somebody else may have taken it already
                path.unlink()
        else:
            # Unlinked while it is held: afterwards it could be somebody else's.
            with suppress(OSError):  # the folder may be closed to us by now; an unlocked file harms nobody
                path.unlink()
            os.close(descriptor)
        with suppress(OSError):  # it holds a run
            folder.rmdir()


def holder(folder: Path) -> str | None:
    """Who works in the folder, in words, or None when nobody does."""
    path = folder / LOCK
    if not path.is_file():
        return None
    descriptor = os.open(path, os.O_RDWR)
    try:
        return None if try_lock(descriptor) else _owner(path)
    finally:
        os.close(descriptor)


def _take(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if not try_lock(descriptor):
            os.close(descriptor)
            raise Busy(f"{path.parent} is in use by {_owner(path)}; wait for it, or choose another output")
        # Between opening and locking, its holder may have removed the file: then the lock is on nothing.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                return descriptor
        os.close(descriptor)


def _owner(path: Path) -> str:
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        return f"process {note['pid']} on {note['host']} since {note['since']}"
    except (OSError, ValueError, KeyError):
        return "another process"


def log(folder: Path, event: str, **values: Any) -> None:
    """Appends one line."""
    line = json.dumps({"time": now(), "event": event, **values})
    with (folder / LOG).open("ab+") as file:
        # A process that was killed while it wrote leaves a line without an end.
        if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            line = f"\n{line}"
        file.write(f"{line}\n".encode())
        if event == "begin":  # without it the rest is of no use
            file.flush()
            os.fsync(file.fileno())


def events(folder: Path, event: str) -> list[dict[str, Any]]:
    """The lines of one event in the order of writing; a last line that was cut short does not count."""
    path = folder / LOG
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(json.JSONDecodeError):
            found.append(json.loads(line))
    return [entry for entry in found if isinstance(entry, dict) and entry.get("event") == event]


def misfit(found: Any, wanted: dict[str, Any], name: str = "") -> str | None:
    """The first leaf, in words, that `found` lacks or has of another type than `wanted` says; None where all fits."""
    if not isinstance(found, dict):
        return name or "values"
    for key, kind in wanted.items():
        path, value = f"{name} {key}".strip(), found.get(key)
        wrong = misfit(value, kind, path) if isinstance(kind, dict) else None if type(value) is kind else path
        if wrong:
            return wrong
    return None


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
