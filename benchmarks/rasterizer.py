"""Times the numba renderer against a bare loop of exponentials and against the dense renderer.

The bare loop computes one float32 exp per pixel-Gaussian pair that 16 x 16 tiles list, nothing else, in a numba
`prange` on as many threads. Tiles list pairs either exactly, as the renderer does (the harder comparison), or by
gsplat's bounding boxes. Times that make a ratio are taken in turns in one run; figures are medians of the repeats.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from math import exp
from pathlib import Path

import _report as report

# The bare loop's OpenMP threads would go on spinning on the cores that the renderer is then timed on.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numba
import numpy as np
import torch
from numba import njit, prange

from splatdream.cameras import Cameras, orbit
from splatdream.contracts import Render
from splatdream.render import cpu, dense
from splatdream.render._tiles import TILE
from splatdream.splats import Splats, logit

VIEWS = 4
COUNT, SIZE = 10_000, 128
COUNTS, SIZES = (1_000, 3_000, 10_000, 30_000, 100_000), (64, 128, 256)


def scene(count: int, seed: int = 0) -> Splats:
    """An object-like cloud: points in the unit ball, scales 0.02 to 0.03, opacities uniform, colours of degree 0."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    return Splats(
        means=directions * torch.rand(count, 1, generator=generator) ** (1 / 3),
        quats=torch.randn(count, 4, generator=generator),
        log_scales=(0.02 + 0.01 * torch.rand(count, 3, generator=generator)).log(),
        logit_opacities=logit(torch.rand(count, generator=generator)),
        sh0=torch.randn(count, 1, 3, generator=generator),
        shN=torch.zeros(count, 0, 3),
    ).requires_grad()


@njit(parallel=True)
def bare_loop(numbers, pairs, sums):
    """One exp per pixel of every listed (Gaussian, tile) pair."""
    for p in prange(len(pairs)):
        number, total = numbers[pairs[p]], np.float32(0)
        for pixel in range(TILE * TILE):
            total += exp(-number * np.float32(pixel))
        sums[p] = total


def step(renderer: Callable[..., Render], splats: Splats, cameras: Cameras) -> tuple[float, float]:
    """Seconds of one forward and one backward pass over a white background."""
    upstream = torch.ones(len(cameras), cameras.height, cameras.width, 3)
    for value in splats.parameters().values():
        value.grad = None
    started = time.perf_counter()
    result = renderer(splats, cameras, torch.ones(len(cameras), 3))
    drawn = time.perf_counter()
    result.features.backward(upstream)
    return drawn - started, time.perf_counter() - drawn


def listed_pairs(splats: Splats, cameras: Cameras) -> tuple[int, int]:
    """(Gaussian, tile) pairs over all views: listed exactly, and by bounding boxes."""
    result = cpu.render(splats, cameras)
    exact = len(result.features.grad_fn.lists.pairs)
    radii, means2d = result.radii, result.screen.detach()
    tiles = torch.tensor([-(-cameras.width // TILE), -(-cameras.height // TILE)])
    first = torch.minimum(((means2d - radii) / TILE).floor().clamp_min(0), tiles)
    last = torch.minimum(((means2d + radii) / TILE).ceil().clamp_min(0), tiles)
    return exact, int(((last - first).prod(-1) * (radii > 0).all(-1)).sum())


def median_step(splats: Splats, cameras: Cameras, repeats: int) -> dict[str, float]:
    """Median milliseconds of forward, backward and both."""
    step(cpu.render, splats, cameras)
    times = np.array([step(cpu.render, splats, cameras) for _ in range(repeats)]) * 1e3
    forward, backward = np.median(times, 0)
    return {"forward": forward, "backward": backward, "total": float(np.median(times.sum(1)))}


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


def slope(numbers: tuple[int, ...], times: list[float]) -> float:
    """The exponent of the power law that fits best."""
    return float(np.polyfit(np.log(numbers), np.log(times), 1)[0])


def probe(count: int, size: int) -> None:
    """Prints, in a process of its own, seconds to a first picture with gradients, and megabytes before and at most."""
    before, started = peak_megabytes(), time.perf_counter()
    splats, cameras = scene(count), orbit(VIEWS, size)
    step(cpu.render, splats, cameras)
    print(time.perf_counter() - started, before, peak_megabytes())


def peak_megabytes() -> float:
    """The most memory this process has held; NaN where the system does not tell."""
    status = Path("/proc/self/status")
    if status.exists():  # a child's ru_maxrss begins at its parent's on Linux, VmHWM at nothing
        return float(status.read_text().split("VmHWM:")[1].split()[0]) / 2**10
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def run_probe(count: int, size: int, cache: Path) -> list[float]:
    command = [sys.executable, __file__, "--probe", str(count), str(size)]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    return [float(word) for word in subprocess.check_output(command, env=environment, text=True).split()]


def measure(repeats: int, with_dense: bool) -> dict:
    """All figures, by name."""
    threads = torch.get_num_threads()
    figures = {"bare": [against_bare_loop(number, repeats) for number in sorted({1, threads})]}
    torch.set_num_threads(threads)
    few = max(3, repeats // 3)
    figures["by_count"] = {n: median_step(scene(n), orbit(VIEWS, SIZE), few) for n in COUNTS}
    figures["by_size"] = {s: median_step(scene(COUNT), orbit(VIEWS, s), few) for s in SIZES}
    figures["usual"] = median_step(scene(4_000), orbit(VIEWS, SIZE), repeats)
    figures["slope_count"] = slope(COUNTS, [row["total"] for row in figures["by_count"].values()])
    figures["slope_pixels"] = slope(tuple(s * s for s in SIZES), [r["total"] for r in figures["by_size"].values()])
    with tempfile.TemporaryDirectory() as cache:
        figures["cold_seconds"] = run_probe(100, 32, Path(cache))[0]
        figures["warm_seconds"] = run_probe(100, 32, Path(cache))[0]
        figures["megabytes"] = {n: run_probe(n, SIZE, Path(cache))[1:] for n in (COUNT, COUNTS[-1])}
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
    lines.append("milliseconds forward, backward, together:")
    cases = [(f"{n:,} Gaussians at {SIZE}", row) for n, row in figures["by_count"].items()]
    cases += [(f"{COUNT:,} Gaussians at {s}", row) for s, row in figures["by_size"].items() if s != SIZE]
    cases.append((f"4,000 Gaussians at {SIZE}", figures["usual"]))
    for name, row in cases:
        lines.append(f"  {name:26} {row['forward']:8.1f} {row['backward']:8.1f} {row['total']:8.1f}")
    lines.append(f"slope in Gaussians {figures['slope_count']:.2f}, in pixels {figures['slope_pixels']:.2f} (log-log)")
    lines.append(
        f"first picture with an empty kernel cache {figures['cold_seconds']:.1f} s (target at most 40), "
        f"with a full one {figures['warm_seconds']:.1f} s"
    )
    for count, (before, peak) in figures["megabytes"].items():
        lines.append(
            f"peak memory with {count:,} Gaussians: {peak:.0f} MB, {before:.0f} of them before the first picture"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=report.HERE / "results", help="folder of the kept results")
    parser.add_argument("--repeats", type=int, default=15, help="runs per figure (default: 15)")
    parser.add_argument("--skip-dense", action="store_true", help="leave out the dense renderer, which takes a minute")
    parser.add_argument("--probe", type=int, nargs=2, metavar=("N", "SIZE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.probe:
        probe(*arguments.probe)
        return
    figures = measure(arguments.repeats, not arguments.skip_dense)
    text = table(figures)
    path = report.save("rasterizer", text, figures, arguments.out)
    print(path.read_text())


if __name__ == "__main__":
    main()
