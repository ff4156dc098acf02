"""Times the numba renderer against a bare loop of exponentials and against the dense renderer.

The bare loop computes one float32 exp per pixel-Gaussian pair that 16 x 16 tiles list, nothing else, in a numba
`prange` on as many threads. Tiles list pairs either exactly, as the renderer does (the harder comparison), or by
gsplat's bounding boxes. Times that make a ratio are taken in turns in one run; figures are medians of the repeats.
Curves follow: time and peak memory over Gaussians, pixels and views, on a GPU of gsplat in its two forms.
"""

import argparse
import os
import tempfile
import time
from math import exp
from pathlib import Path

import _report as report

# The bare loop's OpenMP threads would go on spinning on the cores that the renderer is then timed on.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numba
import numpy as np
import torch
from _curves import COUNT, SIZE, VIEWS, curves, measured, median_step, scene, step
from _curves import table as table_of_curves
from numba import njit, prange

from splatdream.cameras import Cameras, orbit
from splatdream.render import cpu, dense
from splatdream.render._tiles import TILE
from splatdream.splats import Splats


@njit(parallel=True)
def bare_loop(numbers, pairs, sums):
    """One exp per pixel of every listed (Gaussian, tile) pair."""
    for p in prange(len(pairs)):
        number, total = numbers[pairs[p]], np.float32(0)
        for pixel in range(TILE * TILE):
            total += exp(-number * np.float32(pixel))
        sums[p] = total


def listed_pairs(splats: Splats, cameras: Cameras) -> tuple[int, int]:
    """(Gaussian, tile) pairs over all views: listed exactly, and by bounding boxes."""
    result = cpu.render(splats, cameras)
    exact = len(result.features.grad_fn.lists.pairs)
    radii, means2d = result.radii, result.screen.detach()
    tiles = torch.tensor([-(-cameras.width // TILE), -(-cameras.height // TILE)])
    first = torch.minimum(((means2d - radii) / TILE).floor().clamp_min(0), tiles)
    last = torch.minimum(((means2d + radii) / TILE).ceil().clamp_min(0), tiles)
    return exact, int(((last - first).prod(-1) * (radii > 0).all(-1)).sum())


def against_bare_loop(threads: int, repeats: int) -> dict[str, float]:
    """The renderer and the bare loop over both kinds of lists, timed in turns."""
    torch.set_num_threads(threads)
    numba.set_num_threads(threads)
    splats, cameras = scene(COUNT), orbit(VIEWS, SIZE)
    numbers = np.random.default_rng(0).uniform(0.0, 0.02, COUNT).astype(np.float32)
    lists = {}
    for name, count in zip(("exact", "boxes"), listed_pairs(splats, cameras), strict=True):
        lists[name] = (np.arange(count) % COUNT, np.empty(count, np.float32))
        bare_loop(numbers, *lists[name])
    step(cpu.render, splats, cameras)
    times = {"exact": [], "boxes": [], "forward": [], "backward": []}
    for _ in range(repeats):
        for name, arguments in lists.items():
            started = time.perf_counter()
            bare_loop(numbers, *arguments)
            times[name].append(time.perf_counter() - started)
        torch.set_num_threads(threads)  # numba's OpenMP layer sets the count that torch shares
        forward, backward = step(cpu.render, splats, cameras)
        times["forward"].append(forward)
        times["backward"].append(backward)
    columns = {name: np.array(values) * 1e3 for name, values in times.items()}
    total = columns["forward"] + columns["backward"]
    return {
        "threads": threads,
        "pairs_exact": len(lists["exact"][0]) * TILE * TILE,
        "pairs_boxes": len(lists["boxes"][0]) * TILE * TILE,
        **{f"ms_{name}": float(np.median(values)) for name, values in columns.items()},
        "ms_total": float(np.median(total)),
        "ratio_exact": float(np.median(total / columns["exact"])),
        "ratio_boxes": float(np.median(total / columns["boxes"])),
    }


def measure(repeats: int, with_dense: bool) -> dict:
    """All figures, by name."""
    threads = torch.get_num_threads()
    figures = {"bare": [against_bare_loop(number, repeats) for number in sorted({1, threads})]}
    torch.set_num_threads(threads)
    figures["usual"] = median_step(scene(4_000), orbit(VIEWS, SIZE), repeats)
    with tempfile.TemporaryDirectory() as cache:
        figures["cold_seconds"] = measured(1, Path(cache), count=100, size=32)["first"]
        figures["warm_seconds"] = measured(1, Path(cache), count=100, size=32)["first"]
        figures["curves"] = curves(max(3, repeats // 3), Path(cache))
    if with_dense:
        splats, cameras = scene(COUNT), orbit(VIEWS, SIZE)
        fast = sum(step(cpu.render, splats, cameras))
        slow = sum(step(dense.render, splats, cameras))
        fast = min(fast, sum(step(cpu.render, splats, cameras)))
        figures["dense_seconds"], figures["dense_ratio"] = slow, slow / fast
    return figures


def table(figures: dict) -> str:
    """The figures for people."""
    lines = [f"{COUNT:,} Gaussians, {VIEWS} views of {SIZE} x {SIZE}, forward + backward, in turns with the bare loop:"]
    for row in figures["bare"]:
        lines.append(
            f"  {row['threads']} threads: forward {row['ms_forward']:.1f} + backward {row['ms_backward']:.1f} = "
            f"{row['ms_total']:.1f} ms, {row['ms_total'] * 1e6 / row['pairs_exact']:.2f} ns per listed pair"
        )
        for kind in ("exact", "boxes"):
            pairs = row["pairs_" + kind] / 1e6
            lines.append(
                f"      bare loop over {kind} lists, {pairs:.1f} M pairs: {row['ms_' + kind]:.1f} ms; "
                f"ratio {row['ratio_' + kind]:.2f} (target at most 1.5)"
            )
    first, last = figures["bare"][0], figures["bare"][-1]
    if first is not last:
        lines.append(f"  {last['threads']} threads are {first['ms_total'] / last['ms_total']:.2f}x as fast as one")
    if "dense_ratio" in figures:
        lines.append(
            f"  dense takes {figures['dense_seconds']:.1f} s: {figures['dense_ratio']:.0f}x (target at least 50)"
        )
    usual = figures["usual"]
    lines.append(
        f"4,000 Gaussians: forward {usual['forward']:.1f} + backward {usual['backward']:.1f} = {usual['total']:.1f} ms"
    )
    lines.append(
        f"first picture with an empty kernel cache {figures['cold_seconds']:.1f} s (target at most 40), "
        f"with a full one {figures['warm_seconds']:.1f} s"
    )
    return "\n".join(lines) + "\n" + table_of_curves(figures["curves"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=report.HERE / "results", help="folder of the kept results")
    parser.add_argument("--repeats", type=report.positive, default=15, help="runs per figure (default: 15)")
    parser.add_argument("--skip-dense", action="store_true", help="leave out the dense renderer, which takes a minute")
    arguments = parser.parse_args()
    figures = measure(arguments.repeats, not arguments.skip_dense)
    text = table(figures)
    path = report.save("rasterizer", text, figures, arguments.out)
    print(path.read_text())


if __name__ == "__main__":
    main()
