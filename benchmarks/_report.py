"""What every kept benchmark result says about its origin, and where it is kept: `header()` and `save(...)`."""

import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent


def header() -> dict[str, str | int]:
    """Script with options, machine, cores, date, commit ("+" where the tree has changes), versions, torch's threads."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {
        "script": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "machine": f"{_processor()}, {platform.system()}",
        "cores": usable,
        "date": datetime.datetime.now().astimezone().isoformat(timespec="minutes"),
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "threads": torch.get_num_threads(),
    }


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def save(name: str, text: str, data: dict, out: Path = HERE / "results") -> Path:
    """Writes `text` as NAME.txt and `data` as NAME.json, both under a header; returns the text's path."""
    out.mkdir(parents=True, exist_ok=True)
    stamp = header()
    lines = "\n".join(f"{key:8} {value}" for key, value in stamp.items())
    (out / f"{name}.json").write_text(json.dumps({"header": stamp, **data}, indent=2) + "\n")
    path = out / f"{name}.txt"
    path.write_text(f"{lines}\n\n{text.rstrip()}\n")
    return path


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].split(":", 1)[1].strip() if names else platform.processor() or platform.machine()


def _commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=HERE, capture_output=True, text=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except FileNotFoundError:
        return "unknown"
