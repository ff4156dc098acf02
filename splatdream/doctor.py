"""What this machine can do, found out one thing at a time: software, devices, memory, folders, the hub, and a trial."""

import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from http.client import HTTPException
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import torch

from splatdream import cache
from splatdream.cameras import orbit
from splatdream.catalog import find
from splatdream.contracts import Renderer
from splatdream.init.sphere import Sphere
from splatdream.loop import dream, pick_device, pick_renderer
from splatdream.machine import memory
from splatdream.manifest import cpu_name, versions
from splatdream.priors import builtin_folder
from splatdream.priors.words import cached_model, known_words
from splatdream.recipe import Recipe, preset
from splatdream.render import dense
from splatdream.render._threads import available_cores
from splatdream.render.gsplat_build import Kernels, job_count, kernels

ANY = Recipe("a red ball")
RUN_BYTES = 1_300_000_000
"""What a run of the built-in prior holds at its peak."""
TRIAL_SECONDS = 10.0
TRIAL_STEPS = 20
AGREEMENT = 1e-2
"""How far a pixel may lie from the reference; gsplat's fast arithmetic moves one at alpha = 1/255 by 0.004."""
HUB_SECONDS = 4.0


@dataclass(frozen=True)
class Finding:
    """`state` is "good", "note" (cannot be done here, and need not be) or "bad"; `facts` are for programs."""

    name: str
    state: str
    text: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Surroundings:
    """What only the environment tells: where the cache and the hub's models lie, and how to reach the hub."""

    cache: Path
    hub_cache: Path
    endpoint: str
    offline: bool = False


def examine(around: Surroundings) -> Iterator[Finding]:
    """Everything but the trial, one finding after the other."""
    built = kernels()
    yield software()
    yield from devices()
    yield gsplat(built, torch.cuda.is_available())
    yield renderer()
    yield main_memory()
    yield disk(Path.cwd())
    yield cached(around.cache)
    yield prior(around.hub_cache)
    yield hub(around.endpoint, around.offline)
    yield extras()


def software() -> Finding:
    found = versions()
    text = f"splatdream {found['splatdream']}, Python {found['python']}, {cpu_name()}, {available_cores()} cores"
    return Finding("software", "good", text, {"versions": found, "cores": available_cores()})


def devices() -> Iterator[Finding]:
    threads = torch.get_num_threads()
    yield Finding("torch", "good", f"{torch.__version__}, threads: {threads}", {"threads": threads})
    built = torch.version.cuda
    if not torch.cuda.is_available():
        why = f"torch, built for CUDA {built}, finds no device" if built else "this torch was built without it"
        yield Finding("CUDA", "note", f"{why}; runs use the processor", {"devices": []})
        return
    cards = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    listed = [
        {"name": card.name, "memory": card.total_memory, "capability": f"{card.major}.{card.minor}"} for card in cards
    ]
    text = "; ".join(f"{card['name']}, {card['memory'] / 1e9:.0f} GB, sm {card['capability']}" for card in listed)
    yield Finding("CUDA", "good", f"{built}: {text}", {"version": built, "devices": listed})


def gsplat(built: Kernels, has_cuda: bool) -> Finding:
    """Whether gsplat can draw here, and what is missing if not."""
    facts = {"kernels": built.state, "folder": str(built.folder), "has_cuda": has_cuda}
    if built.state == "absent":
        return Finding("gsplat", "bad" if has_cuda else "note", "not installed: pip install gsplat", facts)
    name = version("gsplat")
    if not has_cuda:
        return Finding("gsplat", "note", f"{name}; it needs a CUDA device", facts)
    if built.state == "no folder":
        return Finding("gsplat", "bad", f"{name}, whose kernels cannot be kept: {built.folder} cannot be made", facts)
    if built.state == "no compiler":
        text = f"{name} without kernels, and no nvcc to build them: install the CUDA toolkit, or a wheel with kernels"
        return Finding("gsplat", "bad", text, facts)
    if built.state == "unbuilt":
        facts |= {"compiler": built.compiler, "jobs": job_count(), "minutes": round(built.minutes, 1)}
        text = (
            f"{name}, kernels not built yet: about {built.minutes:.0f} min, once, with {built.compiler} and "
            f"MAX_JOBS={job_count()}; `splatdream doctor --build` does it now"
        )
        return Finding("gsplat", "note", text, facts)
    return Finding("gsplat", "good", f"{name}, kernels {built.state}, in {built.folder}", facts)


def renderer() -> Finding:
    device = pick_device(ANY)
    chosen = pick_renderer(ANY, device)
    why = "there is a CUDA device" if device.type == "cuda" else "there is no CUDA device"
    return Finding("renderer", "good", f"{chosen}, since {why}", {"chosen": chosen, "device": str(device)})


def main_memory() -> Finding:
    found = memory()
    text = f"{found.free / 1e9:.1f} GB free of {found.total / 1e9:.1f} GB; a run of the built-in prior needs "
    state = "good" if found.free > RUN_BYTES else "bad"
    return Finding("memory", state, f"{text}{RUN_BYTES / 1e9:.1f} GB", asdict(found))


def disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    return Finding("disk", "good" if free > 1e9 else "bad", f"{free / 1e9:.1f} GB free in {folder}", {"free": free})


def cached(folder: Path) -> Finding:
    """Where the cache is, what it holds, and whether it can be written to."""
    held = {kind: cache.held(folder, kind)[1] for kind in cache.KINDS}
    facts = {"folder": str(folder), "bytes": held}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        text = f"{folder} cannot be written to ({error.strerror}): kernels are compiled anew by every process"
        return Finding("cache", "bad", text, facts)
    return Finding("cache", "good", f"{folder}, {sum(held.values()) / 1e6:.1f} MB", facts)


def prior(hub_cache: Path) -> Finding:
    full = cached_model(hub_cache)
    facts = {"builtin": str(builtin_folder()), "words": len(known_words()), "full": str(full) if full else None}
    more = f"for any words {full}" if full else "no full model at hand"
    return Finding("prior", "good", f"built-in, {facts['words']} words; {more}", facts)


def hub(endpoint: str, offline: bool) -> Finding:
    """Whether the model hub answers; only fetching a model needs it."""
    facts = {"endpoint": endpoint, "offline": offline, "reachable": False}
    if offline:
        return Finding("hub", "note", "not asked: offline mode is on", facts)
    begun = time.perf_counter()
    try:
        urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=HUB_SECONDS).close()
    except urllib.error.HTTPError:
        pass  # an answer
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        return Finding("hub", "note", f"{endpoint} cannot be reached ({reason}); the built-in prior needs none", facts)
    seconds = time.perf_counter() - begun
    return Finding("hub", "good", f"{endpoint} answers in {seconds:.1f} s", facts | {"reachable": True})


def extras() -> Finding:
    """Which optional parts are installed, by the names of our own extras."""
    lacking = {name: missing(needs) for name, needs in optional().items()}
    texts = [
        f"{name} lacks {', '.join(lacks)} (pip install 'splatdream[{name}]')" if lacks else f"{name} is there"
        for name, lacks in lacking.items()
    ]
    state = "note" if any(lacking.values()) else "good"
    return Finding("extras", state, "; ".join(texts) or "none", {"missing": lacking})


def optional() -> dict[str, list[str]]:
    """The packages of every extra but the developers'."""
    from packaging.requirements import Requirement

    found: dict[str, list[str]] = {}
    for text in requires("splatdream") or []:
        needed, _, marker = text.partition(";")
        extra = marker.rpartition("extra ==")[2].strip().strip("\"'")
        if extra and extra != "dev":
            found.setdefault(extra, []).append(Requirement(needed).name)
    return found


def missing(packages: list[str]) -> list[str]:
    lacks = []
    for package in packages:
        try:
            version(package)
        except PackageNotFoundError:
            lacks.append(package)
    return lacks


def trial() -> Finding:
    """A picture and its gradient beside the reference renderer's, then steps of the built-in prior, in ten seconds.

    What a first run compiles comes on top.
    """
    device = pick_device(ANY)
    chosen = pick_renderer(ANY, device)
    try:
        begun = time.perf_counter()
        draw: Renderer = find("renderer", chosen)
        error = disagreement(draw, device)
        compiled = time.perf_counter() - begun
        pace = steps(draw)
    except (RuntimeError, ValueError, ArithmeticError, OSError, MemoryError, ImportError) as failure:
        return Finding("self-test", "bad", f"{type(failure).__name__}: {failure}", {"error": str(failure)})
    facts = {"renderer": chosen, "error": error, "render_seconds": compiled, "seconds_per_step": pace}
    if error > AGREEMENT:
        return Finding("self-test", "bad", f"{chosen} draws a picture or gradient that is off by {error:.2g}", facts)
    whole = preset("normal", ANY.prompt).steps * pace
    text = f"{chosen} draws as the reference does (within {error:.0e}); {pace:.2f} s a step: a normal run takes "
    return Finding("self-test", "good", f"{text}about {whole / 60:.1f} min", facts)


def disagreement(draw: Renderer, device: torch.device) -> float:
    """The farthest that a pixel, or a gradient of the means over its largest, lies from the reference renderer's."""
    splats = Sphere()(200, torch.Generator().manual_seed(0)).to(device)
    cameras = orbit(2, 48).to(splats.means)
    found = []
    for each in (draw, dense.render):
        leaves = splats.requires_grad()
        images = each(leaves, cameras, splats.means.new_ones(2, 3)).images
        images.square().sum().backward()
        gradients = leaves.means.grad if leaves.means.grad is not None else torch.zeros_like(splats.means)
        found.append((images.detach(), gradients / gradients.abs().max()))
    return max(float((mine - other).abs().max()) for mine, other in zip(*found, strict=True))


def steps(draw: Renderer, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of the fastest of a few steps of a normal run, after one that loads and compiles."""
    turns = dream(preset("normal", ANY.prompt), renderer=draw)
    next(turns)
    begun = before = clock()
    pace = float("inf")
    for step in turns:
        now = clock()
        pace = min(pace, now - before)
        if step.index == TRIAL_STEPS or now - begun > TRIAL_SECONDS:
            break
        before = now
    return pace
