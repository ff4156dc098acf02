"""Throughput of `splatdream batch` by its number of workers, which share the machine's cores.

The same jobs are done by one worker, by two, and so on. Efficiency is the throughput over that of the first row, whose
worker has all the cores to itself: above 1 where threads serve better as workers. Start-up is the time until the first
finished step, the compiling of kernels left out; the pace of steps is the median over all jobs.
"""

import argparse
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import _report as report

from splatdream import runs
from splatdream.batch.claims import Claims
from splatdream.batch.local import run_local
from splatdream.batch.prompts import job, write_plan
from splatdream.recipe import Recipe
from splatdream.render._threads import available_cores

RECIPE = Recipe("a red mushroom", prior="builtin", device="auto", count=2000)


@dataclass(frozen=True)
class Figures:
    """Seconds, and bytes a finished job."""

    workers: int
    jobs: int
    start: float
    whole: float
    step: float
    size: float

    @property
    def per_hour(self) -> float:
        return 3600 * self.jobs / (self.whole - self.start)


def measure(folder: Path, recipes: list[Recipe], workers: int) -> Figures:
    jobs = [job(recipe) for recipe in recipes]
    write_plan(folder, {each.name: each for each in jobs})
    claims = Claims(folder)
    claims.add([each.name for each in jobs])
    threads = {"OMP_NUM_THREADS": str(max(1, available_cores() // workers))}
    begun, start = time.monotonic(), 0.0
    for _ in run_local(folder, claims, [{**os.environ, **threads}] * workers):
        if not start and any(status.get("step") for status in claims.workers().values()):
            start = time.monotonic() - begun
    whole = time.monotonic() - begun
    failed = claims.results("failed")
    if failed:
        raise RuntimeError(f"{len(failed)} jobs failed: {next(iter(failed.values()))['error']}")
    pace = median(result["seconds_per_step"] for result in claims.results("done").values())
    return Figures(workers, len(jobs), start, whole, pace, sum(size(each.output(folder)) for each in jobs) / len(jobs))


def size(output: Path) -> int:
    """Bytes of a splat with its film and its run."""
    files = [output, output.with_suffix(".gif"), *runs.run_folder(output).iterdir()]
    return sum(path.stat().st_size for path in files if path.is_file())


def table(rows: list[Figures]) -> str:
    lines = [f"{'workers':>7} {'threads':>7} {'start-up s':>10} {'step s':>7} {'jobs/h':>8} {'efficiency':>10}"]
    for row in rows:
        threads, efficiency = max(1, available_cores() // row.workers), row.per_hour / rows[0].per_hour
        lines.append(
            f"{row.workers:7} {threads:7} {row.start:10.1f} {row.step:7.3f} {row.per_hour:8.0f} {efficiency:10.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2], help="numbers of workers, one after another")
    parser.add_argument("--set", nargs="*", default=["steps=40"], help="keys of the recipe, key=value")
    parser.add_argument("--out", type=Path, default=report.HERE / "results", help="folder of the kept results")
    options = parser.parse_args()
    recipes = [RECIPE.set(options.set).replace(seed=seed) for seed in range(options.jobs)]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        warm = Path(folder, "warm")
        warm.mkdir()
        measure(warm, [RECIPE.set(options.set).replace(steps=1)], 1)  # compiles
        for workers in options.workers:
            place = Path(folder, str(workers))
            place.mkdir()
            rows.append(measure(place, recipes, workers))
            print(table(rows), flush=True)
    steps, kilobytes = recipes[0].steps, rows[0].size / 1e3
    text = f"{options.jobs} jobs of {steps} steps, {kilobytes:.0f} kB each\n\n{table(rows)}"
    path = report.save("batch", text, {"rows": [vars(row) for row in rows]}, options.out)
    print(path.read_text())


if __name__ == "__main__":
    main()
