"""How a renderer's time and memory grow with Gaussians, pixels and views; as a script, one point of such a curve.

Each point is measured in a process of its own, so that its peak of memory is its own too.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

# Read when torch loads, as the command line sets it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from _floor import synchronise

from splatdream.cameras import Cameras, orbit
from splatdream.contracts import Render
from splatdream.render import cpu
from splatdream.render import gsplat as on_cuda
from splatdream.splats import Splats, logit

VIEWS, COUNT, SIZE = 4, 10_000, 128
"""What stays when another number varies."""
AXES = {
    "count": (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000),
    "size": (64, 128, 256, 512, 1024),
    "views": (1, 2, 4, 8, 16),
}
SLOPES = {"count": "Gaussians", "size": "pixels", "views": "views"}


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


def step(renderer: Callable[..., Render], splats: Splats, cameras: Cameras) -> tuple[float, float]:
    """Seconds of one forward and one backward pass over a white background."""
    device = splats.means.device
    upstream = torch.ones(len(cameras), cameras.height, cameras.width, 3, device=device)
    for value in splats.parameters().values():
        value.grad = None
    synchronise(device)
    started = time.perf_counter()
    result = renderer(splats, cameras, torch.ones(len(cameras), 3, device=device))
    synchronise(device)
    drawn = time.perf_counter()
    result.features.backward(upstream)
    synchronise(device)
    return drawn - started, time.perf_counter() - drawn


def median_step(splats: Splats, cameras: Cameras, repeats: int, renderer=cpu.render) -> dict[str, float]:
    """Median milliseconds of forward, backward and both, the first run left out."""
    step(renderer, splats, cameras)
    times = np.array([step(renderer, splats, cameras) for _ in range(repeats)]) * 1e3
    forward, backward = np.median(times, 0)
    return {"forward": forward, "backward": backward, "total": float(np.median(times.sum(1)))}


def slope(numbers: tuple[int, ...], times: list[float]) -> float:
    """The exponent of the power law that fits best."""
    return float(np.polyfit(np.log(numbers), np.log(times), 1)[0])


def renderers() -> list[str]:
    """What can be measured here."""
    return ["gsplat", "gsplat packed"] if torch.cuda.is_available() else ["cpu"]


def chosen(name: str) -> Callable[..., Render]:
    if name == "cpu":
        return cpu.render
    if name == "gsplat packed":  # the form that keeps only what a view sees; ours keeps all, for densification
        rasterization = on_cuda.rasterizer()
        on_cuda.rasterizer = lambda: lambda *args, **options: rasterization(*args, **options | {"packed": True})
    return on_cuda.render


def point(renderer: str, count: int, size: int, views: int, repeats: int) -> dict[str, float]:
    """In a process that has done nothing else: seconds to a first picture with gradients, medians, megabytes."""
    device = torch.device("cpu" if renderer == "cpu" else "cuda")
    draw, before, started = chosen(renderer), peak_megabytes(device), time.perf_counter()
    splats, cameras = scene(count).to(device).requires_grad(), orbit(views, size).to(device)
    step(draw, splats, cameras)
    first = time.perf_counter() - started
    times = median_step(splats, cameras, repeats, draw)
    return {"first": first, "before": before, "megabytes": peak_megabytes(device), **times}


def peak_megabytes(device: torch.device) -> float:
    """The most memory this process has held there; NaN where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.exists():  # a child's ru_maxrss begins at its parent's on Linux, VmHWM at nothing
        return float(status.read_text().split("VmHWM:")[1].split()[0]) / 2**10
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measured(
    repeats: int, cache: Path, *, renderer: str = "cpu", count: int = COUNT, size: int = SIZE, views: int = VIEWS
) -> dict[str, float]:
    """One point, from a process of its own that keeps its kernels in this cache."""
    arguments = [renderer, *map(str, (count, size, views, repeats))]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    return json.loads(subprocess.check_output([sys.executable, __file__, *arguments], env=environment, text=True))


def curves(repeats: int, cache: Path) -> dict[str, dict]:
    """By renderer and by what varies: the points, and the slopes of time in it (of size: in pixels)."""
    found: dict[str, dict] = {}
    for renderer in renderers():
        for axis, numbers in AXES.items():
            points = {n: measured(repeats, cache, renderer=renderer, **{axis: n}) for n in numbers}
            unit = tuple(n * n for n in numbers) if axis == "size" else numbers
            slopes = {part: slope(unit, [row[part] for row in points.values()]) for part in ("forward", "backward")}
            found.setdefault(renderer, {})[axis] = {"points": points, "slopes": slopes}
    return found


def table(found: dict[str, dict]) -> str:
    lines = ["", f"where nothing else is said: {COUNT:,} Gaussians, {VIEWS} views of {SIZE} x {SIZE}; milliseconds"]
    for renderer, axes in found.items():
        lines += ["", f"{renderer:20}{'forward':>10}{'backward':>10}{'together':>10}{'peak MB':>10}"]
        for axis, curve in axes.items():
            for number, row in curve["points"].items():
                name = f"{number:,} {axis}" if axis != "size" else f"{number} x {number}"
                times = "".join(f"{row[part]:10.1f}" for part in ("forward", "backward", "total", "megabytes"))
                lines.append(f"{name:20}{times}")
            forward, backward = curve["slopes"]["forward"], curve["slopes"]["backward"]
            lines.append(f"  log-log slope in {SLOPES[axis]}: forward {forward:.2f}, backward {backward:.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    name, *numbers = sys.argv[1:]
    print(json.dumps(point(name, *map(int, numbers))))
