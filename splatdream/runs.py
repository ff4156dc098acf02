"""A run's folder, NAME.run beside NAME.ply: what was asked, what happened, and what it was made with.

    recipe.toml         written before the first step; `splatdream generate --recipe` repeats the run
    lock                held by the process at work, with its number; the system frees it when that process dies
    log.jsonl           one JSON object a line, appended as the run goes on
    state.safetensors   the last saved state; gone when the run is finished
    manifest.json       written at the end: versions, machine, weights, timing, result

All but the log appear complete or not at all.
"""

import errno
import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import splatdream
from splatdream.export.atomic import atomic_write
from splatdream.recipe import Recipe

RECIPE, LOCK, LOG, STATE, MANIFEST = "recipe.toml", "lock", "log.jsonl", "state.safetensors", "manifest.json"
PACKAGES = ("torch", "diffusers", "transformers", "numba", "gsplat", "numpy", "safetensors")


class Busy(RuntimeError):  # noqa: N818
    """Another process works in the folder."""


def run_folder(output: str | Path) -> Path:
    """NAME.run for NAME.ply, in the same folder."""
    return Path(output).with_suffix(".run")


def begin(folder: Path, recipe: Recipe) -> None:
    """Makes the folder with its recipe, and takes away what an earlier run left there. Call it with the lock held."""
    for name in (STATE, MANIFEST, LOG):
        (folder / name).unlink(missing_ok=True)
    write_text(folder / RECIPE, recipe.to_toml())


def write_text(path: Path, text: str) -> None:
    with atomic_write(path) as file:
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
            path.unlink(missing_ok=True)
            os.close(descriptor)


def holder(folder: Path) -> str | None:
    """Who works in the folder, in words, or None when nobody does."""
    path = folder / LOCK
    if not path.is_file():
        return None
    descriptor = os.open(path, os.O_RDWR)
    try:
        return None if _lock(descriptor) else _owner(path)
    finally:
        os.close(descriptor)


def _take(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if not _lock(descriptor):
            os.close(descriptor)
            raise Busy(f"{path.parent} is in use by {_owner(path)}; wait for it, or choose another output")
        # Between opening and locking, its holder may have removed the file: then the lock is on nothing.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                return descriptor
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Whether the file could be locked; True also where the file system has no locks."""
    try:
        if sys.platform == "win32":
            import msvcrt

            # Far behind the text: Windows lets nobody read a locked byte.
            os.lseek(descriptor, 2**30, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            return False
        if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
            raise
    return True


def _owner(path: Path) -> str:
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        return f"process {note['pid']} on {note['host']} since {note['since']}"
    except (OSError, ValueError, KeyError):
        return "another process"


def log(folder: Path, event: str, **values: Any) -> None:
    """Appends one line."""
    line = json.dumps({"time": now(), "event": event, **values})
    with (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def events(folder: Path, event: str) -> list[dict[str, Any]]:
    """The lines of one event in the order of writing; a last line that was cut short does not count."""
    path = folder / LOG
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(json.JSONDecodeError):
            found.append(json.loads(line))
    return [entry for entry in found if entry["event"] == event]


def finish(folder: Path, recipe: Recipe, output: Path, count: int, prior: Path | None) -> dict[str, Any]:
    """Writes the manifest, returns it, and removes the state, which nothing needs any more.

    `prior` is the folder of the prior's weights, None where they were an object.
    """
    steps = events(folder, "step")
    seconds = [entry["seconds"] for entry in steps]
    manifest = {
        "prompt": recipe.prompt,
        "seed": recipe.seed,
        "result": {"file": output.name, "sha256": sha256(output), "bytes": output.stat().st_size, "gaussians": count},
        "timing": {
            "started": next((entry["time"] for entry in events(folder, "begin")), None),
            "finished": now(),
            "sessions": len(events(folder, "begin")) + len(events(folder, "resume")),
            "steps": recipe.steps,
            "seconds": round(sum(seconds), 3),
            "seconds_per_step": round(sorted(seconds)[len(seconds) // 2], 4) if seconds else None,
        },
        "versions": versions(),
        "machine": machine(recipe),
        "prior": {"folder": str(prior), "sha256": weight_hashes(prior)} if prior else None,
    }
    write_text(folder / MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
    (folder / STATE).unlink(missing_ok=True)
    return manifest


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a finished run, or None where there is none."""
    path = folder / MANIFEST
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"splatdream": splatdream.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def machine(recipe: Recipe) -> dict[str, Any]:
    """What the run ran on; `memory` is the peak of this process in bytes."""
    import torch

    cuda = recipe.device != "cpu" and torch.cuda.is_available()
    return {
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": recipe.device,
        "renderer": recipe.renderer,
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "cuda": torch.version.cuda,
        "memory": peak_memory(),
        "gpu_memory": torch.cuda.max_memory_allocated() if cuda else None,
    }


def cpu_name() -> str:
    """The processor's name where Linux tells it, else the architecture."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(encoding="utf-8", errors="replace").splitlines() if listing.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def peak_memory() -> int | None:
    """The most bytes this process has held at once; None where Python cannot tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, the others kilobytes


def weight_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every weight file of a diffusers folder, by its path within."""
    files = sorted(folder.rglob("*.safetensors"))
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
