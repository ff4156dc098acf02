"""Times what a user waits before anything happens: the program's help, `info`, a first step, and imports by their cost.

Each command runs in a process of its own. Cold is with the installed files taken out of the system's memory, where the
system can be asked, and with no compiled kernels; warm is the same again, the median of the repeats.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from sysconfig import get_path

import _report as report
import torch

from splatdream.export import write
from splatdream.init.sphere import Sphere

PROGRAM = (sys.executable, "-m", "splatdream_cli.main")
FIRST_STEP = """
from splatdream import Recipe, dream
next(dream(Recipe("a red ball", steps=1)))
"""
MODULES = 12
"""How many imports are listed."""


def commands(splat: Path) -> dict[str, tuple[str, ...]]:
    return {
        "python -c pass": (sys.executable, "-c", "pass"),
        "splatdream --help": (*PROGRAM, "--help"),
        "splatdream info SPLAT": (*PROGRAM, "info", str(splat)),
        "import torch": (sys.executable, "-c", "import torch"),
        "first step of dream()": (sys.executable, "-c", FIRST_STEP),
    }


def seconds(command: tuple[str, ...], cache: Path) -> float:
    """Wall clock of the command, with its kernels and embeddings in this cache. CalledProcessError where it fails."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache / "kernels"), "SPLATDREAM_CACHE": str(cache)}
    begun = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.perf_counter() - begun


def forget_installed() -> bool:
    """Takes the installed files out of the system's memory, and says whether the system could be asked."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for folder in {get_path("purelib"), get_path("platlib"), get_path("stdlib")}:
        for path in Path(folder).rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def cold_and_warm(command: tuple[str, ...], repeats: int, forget: Callable[[], bool]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as cache:
        forget()
        cold = seconds(command, Path(cache))
        warm = [seconds(command, Path(cache)) for _ in range(repeats)]
    return {"cold": cold, "warm": statistics.median(warm)}


def imports(statement: str) -> list[tuple[str, float, float]]:
    """Every module that a statement imports: its name, its own seconds, and those with what it imports in turn."""
    command = (sys.executable, "-X", "importtime", "-c", statement)
    return parsed(subprocess.run(command, check=True, capture_output=True, text=True).stderr)


def parsed(text: str) -> list[tuple[str, float, float]]:
    """What `python -X importtime` prints, in microseconds, as (name, own seconds, seconds with all below)."""
    rows = re.findall(r"^import time:\s+(\d+) \|\s+(\d+) \|\s*(\S+)$", text, re.MULTILINE)
    return [(name, int(own) / 1e6, int(whole) / 1e6) for own, whole, name in rows]


def by_package(rows: list[tuple[str, float, float]]) -> dict[str, float]:
    """Own seconds of each package's modules, the costliest first."""
    spent: dict[str, float] = {}
    for name, own, _ in rows:
        package = name.partition(".")[0]
        spent[package] = spent.get(package, 0.0) + own
    return dict(sorted(spent.items(), key=lambda item: -item[1]))


def table(figures: dict) -> str:
    """The figures for people."""
    lines = [f"{'seconds':28}{'cold':>8}{'warm':>8}"]
    lines += [f"{name:28}{row['cold']:8.2f}{row['warm']:8.2f}" for name, row in figures["commands"].items()]
    if not figures["forgets"]:
        lines.append("(cold: this system cannot be asked to forget files, so that only the kernels are)")
    for statement, packages in figures["imports"].items():
        lines += ["", f"{statement}: {sum(packages.values()):.2f} s, by package"]
        lines += [f"  {name:26}{spent:8.3f}" for name, spent in list(packages.items())[:MODULES]]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=report.HERE / "results", help="folder of the kept results")
    parser.add_argument("--repeats", type=report.positive, default=5, help="warm runs of each command (default: 5)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        splat = Path(folder) / "splat.ply"
        write(Sphere()(4000, torch.Generator().manual_seed(0)), splat)
        rows = {
            name: cold_and_warm(command, arguments.repeats, forget_installed)
            for name, command in commands(splat).items()
        }
    modules = ("splatdream", "splatdream_cli.main", "splatdream.loop", "splatdream.priors.diffusion")
    statements = [f"import {module}" for module in modules]
    figures = {
        "commands": rows,
        "forgets": hasattr(os, "posix_fadvise"),
        "imports": {statement: by_package(imports(statement)) for statement in statements},
    }
    path = report.save("startup", table(figures), figures, arguments.out)
    print(path.read_text())


if __name__ == "__main__":
    main()
