"""A run's manifest, NAME.run/manifest.json: what the run began with, timing, result, by which it can be repeated.

What a run begins with beside its recipe, its origin, is noted in the log's first line and in the manifest alike.
"""

import hashlib
import json
import os
import platform
import sys
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

import splatdream
from splatdream import runs
from splatdream.cache import content_hash
from splatdream.catalog import configured
from splatdream.priors.models import Wanted
from splatdream.recipe import Recipe
from splatdream.runs import ORIGIN, Run

PACKAGES = (
    *("torch", "diffusers", "transformers", "tokenizers", "peft", "numba", "llvmlite", "gsplat", "numpy"),
    "safetensors",
)
DECIDING = (".safetensors", ".json", ".txt", ".model")
"""Suffixes of the files of a model that decide what it answers: weights, configurations, words."""
MANIFEST_HAS = {
    "recipe": dict,
    "checkpoint_every": int,
    "result": {"file": str, "sha256": str, "gaussians": int},
    "timing": dict,
    **ORIGIN,
}
"""What every manifest has, beside more."""


def finish(run: Run, count: int, check: dict[str, Any] | None = None) -> dict[str, Any]:
    """Writes the manifest, returns it, and removes the states, which nothing needs any more.

    `count` Gaussians were written, and `check` says how they fare by the criteria.
    """
    recipe, output, resumed = run.recipe, run.output, runs.events(run.folder, "resume")
    seconds = [entry["seconds"] for entry in runs.events(run.folder, "step")]
    changes = {change for entry in resumed for change in entry.get("changes", [])}
    changes |= {entry["change"] for entry in runs.events(run.folder, "portions") if "change" in entry}
    manifest = {
        "prompt": recipe.prompt,
        "seed": recipe.seed,
        "recipe": asdict(recipe),
        "checkpoint_every": run.checkpoint_every,
        "result": {"file": output.name, "sha256": sha256(output), "bytes": output.stat().st_size, "gaussians": count},
        "check": check,
        "timing": {
            "started": runs.events(run.folder, "begin")[0]["time"],
            "finished": runs.now(),
            "sessions": 1 + len(resumed),
            "steps": recipe.steps,
            "seconds": round(sum(seconds), 3),
            "seconds_per_step": round(sorted(seconds)[len(seconds) // 2], 4) if seconds else None,
        },
        **run.origin,
        "changes": sorted(changes),
        "memory": memory(recipe),
    }
    runs.write_text(run.folder / runs.MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
    runs.drop_states(run.folder)
    return manifest


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a finished run, or None where there is none. ValueError for a file that is no manifest."""
    path = folder / runs.MANIFEST
    return manifest_in(path) if path.is_file() else None


def manifest_beside(file: Path) -> dict[str, Any] | None:
    """The manifest of the run beside a file, where its result has the file's name; `speaks_of` asks for the bytes."""
    manifest = read_manifest(runs.run_folder(file))
    return manifest if manifest is not None and manifest["result"]["file"] == file.name else None


def speaks_of(manifest: dict[str, Any], file: Path) -> bool:
    """Whether these very bytes are the result."""
    return manifest["result"]["sha256"] == sha256(file)


def manifest_in(path: Path) -> dict[str, Any]:
    """The manifest in a file. ValueError where it is none, or lacks what a run is repeated by."""
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no manifest: {error}") from error
    if wrong := runs.misfit(manifest, MANIFEST_HAS):
        raise ValueError(f"{path} is no manifest of this version: it does not say the run's {wrong}")
    return manifest


def origin_of(recipe: Recipe, prior: Path) -> dict[str, Any]:
    """What decides a result beside its recipe: versions, machine, the weights in the folder `prior`, and the files
    of the first cloud where it comes of some.
    """
    first = first_cloud_hashes(recipe)
    return {
        "versions": versions(),
        "machine": machine(recipe),
        "prior": {"folder": str(prior), "sha256": weight_hashes(prior) | changes_of(recipe.prior)},
        **({"init": {"sha256": first}} if first else {}),
    }


def differences(then: dict[str, Any], now: dict[str, Any], name: str = "") -> list[str]:
    """The leaves in which two origins differ, in words: "versions torch: 2.12.0, now 2.13.0"."""
    found = []
    for key in sorted({*then, *now}):
        old, new, path = then.get(key), now.get(key), f"{name} {key}".strip()
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, path)
        elif old != new and path != "prior folder":
            found.append(f"{path}: {old}, now {new}")
    return found


def versions() -> dict[str, str | None]:
    """Of this project, with the hash of its source, Python, and the packages that compute."""
    found: dict[str, str | None] = {
        "splatdream": splatdream.__version__,
        "source": source_hash(),
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


@cache
def source_hash() -> str:
    """SHA-256 of the library's own source and of the tables it ships, as this process found them."""
    digest = hashlib.sha256()
    for root, pattern in ((Path(__file__).parent, "*.py"), (Path(str(files("splatdream_assets"))), "*.toml")):
        for name, path in sorted((path.relative_to(root).as_posix(), path) for path in root.rglob(pattern)):
            digest.update(f"{name}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def machine(recipe: Recipe) -> dict[str, Any]:
    """What the run runs on, as far as it can decide a result's last bits."""
    import torch

    cuda = recipe.device != "cpu" and torch.cuda.is_available()
    return {
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "device": recipe.device,
        "renderer": recipe.renderer,
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "cuda": torch.version.cuda,
    }


def memory(recipe: Recipe) -> dict[str, int | None]:
    """The peaks of this process in bytes."""
    import torch

    cuda = recipe.device != "cpu" and torch.cuda.is_available()
    return {"main": peak_memory(), "gpu": torch.cuda.max_memory_allocated() if cuda else None}


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
    """SHA-256 of all that decides a diffusers folder's answers, by its path within: weights, configurations, words."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in DECIDING and path.is_file())
    return {path.relative_to(folder).as_posix(): content_hash(path) for path in files}


def changes_of(prior: str) -> dict[str, str]:
    """SHA-256 of every file that changes the prior: LoRAs, new words, another encoder."""
    return {str(path): content_hash(path) for path in Wanted.parse(prior).files()}


def first_cloud_hashes(recipe: Recipe) -> dict[str, str]:
    """SHA-256 of every file that the first cloud is made of and that is still there."""
    return {name: content_hash(path) for name, path in configured("init", recipe.init).files().items()}


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
