"""The cache: one folder for what takes long to make or to fetch, each thing under a hash of all that decides it.

    embeddings/  answers of text encoders: the encoder's weights, its tokens, and how they were computed
    kernels/     compiled kernels: the sources, the compilers and the machine
    weights/     models of the hub, in its client's own layout (blobs by their hash)

Any number of processes may use it at once: files appear complete or not at all, and what is missing, damaged or cleared
while it is read is made anew. Imports no torch.
"""

import hashlib
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, MutableMapping
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from splatdream.export.atomic import atomic_write

if TYPE_CHECKING:
    from torch import Tensor

KINDS = {
    "embeddings": "answers of text encoders",
    "kernels": "compiled kernels",
    "weights": "models fetched from the hub",
}
COMPILERS = {
    "NUMBA_CACHE_DIR": ("numba", "llvmlite"),
    "TORCH_EXTENSIONS_DIR": ("torch", "gsplat"),
}
"""Where each compiler keeps its kernels is said in this variable; the packages decide what it makes."""
LOCK_SUFFIX = ".lock"


def platform_folder(home: Path) -> Path:
    """Where this platform wants caches, under somebody's home."""
    if sys.platform == "win32":
        return home / "AppData" / "Local" / "splatdream" / "Cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "splatdream"
    return home / ".cache" / "splatdream"


def held(folder: Path, kind: str) -> tuple[int, int]:
    """The number of files of a kind and their bytes."""
    files = list(_files(folder / kind))
    return len(files), sum(size for _, size in files)


def clear(folder: Path, kinds: Iterable[str]) -> int:
    """Deletes the files of these kinds, and returns the bytes that this freed.

    Folders and locks stay: another process may be about to write there.
    """
    freed = 0
    for kind in kinds:
        for path, size in _files(folder / kind):
            with suppress(FileNotFoundError):
                path.unlink()
                freed += size
    return freed


def _files(folder: Path) -> Iterable[tuple[Path, int]]:
    for root, _, names in os.walk(folder):
        for path in (Path(root, name) for name in names if not name.endswith(LOCK_SUFFIX)):
            with suppress(FileNotFoundError):
                yield path, path.lstat().st_size


def tell_compilers(folder: Path, environment: MutableMapping[str, str]) -> None:
    """Sends the kernels of this machine's compilers to the cache, each unless it was told of another place."""
    for variable, packages in COMPILERS.items():
        if variable not in environment:
            environment[variable] = str(folder / "kernels" / packages[0] / kernel_key(*packages))


def kernel_key(*packages: str) -> str:
    """A hash of what decides compiled kernels: our sources, Python, these packages' versions, processor and GPUs."""
    parts = [sys.version, platform.machine(), *(_version(package) for package in packages), *_processors(), *_gpus()]
    digest = hashlib.sha256("\n".join(parts).encode())
    package = Path(__file__).parent
    for path in sorted(package.rglob("*.py")):
        content = path.read_bytes()
        if b"numba" in content:
            digest.update(path.relative_to(package).as_posix().encode() + content)
    return digest.hexdigest()[:16]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _processors() -> list[str]:
    """What is told of the instructions that the processor knows; a shared folder may serve machines that differ."""
    listing = Path("/proc/cpuinfo")
    if not listing.is_file():
        return [platform.processor()]
    with listing.open(encoding="utf-8", errors="replace") as lines:
        first = iter(lines.readline, "\n")  # the first processor's part ends with an empty line
        return [line for line in first if line.startswith(("model name", "flags", "Features"))]


def _gpus() -> list[str]:
    """Names of NVIDIA cards where the driver lists them: torch compiles for those it finds."""
    listing = Path("/proc/driver/nvidia/gpus")
    cards = sorted(listing.glob("*/information")) if listing.is_dir() else []
    lines = [line for card in cards for line in card.read_text(encoding="utf-8", errors="replace").splitlines()]
    return sorted({line for line in lines if line.startswith("Model")})


def content_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal; the hub's client already names large ones so."""
    name = path.resolve().name
    if len(name) == 64 and set(name) <= set("0123456789abcdef"):
        return name
    told = path.stat()
    return _hash_of(path.resolve(), told.st_size, told.st_mtime_ns)


@lru_cache(maxsize=256)
def _hash_of(path: Path, size: int, changed: int) -> str:
    """The hash of a file as it was at a time, so that a worker reads gigabytes once and not before every run."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


Answer = dict[str, "Tensor"]


def embedding(folder: Path, decided_by: list[str], compute: Callable[[], Answer]) -> Answer:
    """What `compute` returns, on the CPU, from the cache where it holds an answer to the same question.

    `decided_by` must name everything that the bits of the answer depend on.
    """
    key = hashlib.sha256(json.dumps(decided_by).encode()).hexdigest()
    path = folder / "embeddings" / key[:2] / f"{key}.safetensors"
    kept = _read(path)
    if kept is not None:
        return kept
    answer = {name: value.detach().cpu().contiguous().clone() for name, value in compute().items()}
    with suppress(OSError):  # a full or read-only disk must not end a run
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, answer)
    return answer


def _write(path: Path, answer: Answer) -> None:
    from safetensors.torch import save

    with atomic_write(path) as file:
        file.write(save(answer, metadata={"sha256": _checksum(answer)}))


def _read(path: Path) -> Answer | None:
    """The tensors in a file; None where there is none, or one that is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            # Copied: the file is a memory map, and may be cleared.
            answer = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - no mapping
            return answer if file.metadata().get("sha256") == _checksum(answer) else None
    except (SafetensorError, OSError, RuntimeError):  # the last where it is cleared while it is being opened
        return None


def _checksum(answer: Answer) -> str:
    import torch

    digest = hashlib.sha256()
    for name, value in sorted(answer.items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
