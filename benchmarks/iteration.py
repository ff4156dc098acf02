"""Times one optimisation step, part by part, against its floor, against its kernels alone and against a naive step.

The loop itself runs, between parts that tell the clock when they begin and end: CUDA's events on a GPU, the monotonic
clock elsewhere. Weights are random but for the built-in prior's. The ceilings are measured in the same run, and the
naive step (one view at a time, each decoded, in float16 on a GPU, on torch's own threads elsewhere) in turns with ours.
Figures are medians over the repeats; the first steps, which warm up, are left out and counted. `alone` is the best time
of a part run by itself on the arguments of the last step, times the calls that a step makes of it.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import _report as report

# Read when torch loads, as the command line sets it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from _archs import ARCHS, RESOLUTIONS, untrained
from _curves import peak_megabytes
from _floor import Layer, best_seconds, ceilings, floor_seconds, layers_of, operations_seconds
from _naive import naive

from splatdream import session
from splatdream.catalog import configured, find
from splatdream.checkpoint import snapshot
from splatdream.contracts import Embedding, Prior, Renderer
from splatdream.loop import begin, dream, pick_device, pick_renderer
from splatdream.priors.diffusion import DiffusionPrior
from splatdream.priors.tuning import compile_blocks
from splatdream.recipe import Recipe, preset

PARTS = (
    "render", "encode", "UNet", "decode", "backward through encoder", "backward through rasteriser", "optimiser",
    "densify", "rest",
)  # fmt: skip
KERNELS = PARTS[:6]
WARM_UP = 3
MANY = 1200
"""Steps of a run on a GPU, for which a time is asked."""


@dataclass
class Clock:
    """Seconds of each part of a step: the time from each mark to the next belongs to the part that it names."""

    device: torch.device
    marks: list[tuple[str, Any]] = field(default_factory=list)
    last: dict[str, tuple] = field(default_factory=dict)

    def mark(self, part: str) -> None:
        if self.device.type == "cuda":
            moment = torch.cuda.Event(enable_timing=True)
            moment.record(torch.cuda.current_stream(self.device))
        else:
            moment = time.perf_counter()
        self.marks.append((part, moment))

    def seconds(self) -> tuple[dict[str, float], Counter]:
        """Of each part since the first mark, and how often it was begun; the marks are then forgotten."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        spent, marks, self.marks = defaultdict(float), self.marks, []
        for (part, begun), (_, ended) in pairwise(marks):
            spent[part] += begun.elapsed_time(ended) / 1e3 if self.device.type == "cuda" else ended - begun
        return dict(spent), Counter(part for part, _ in marks[:-1])

    def during(self, part: str, function: Callable, *args, **kwargs):
        self.last[part] = args
        self.mark(part)
        result = function(*args, **kwargs)
        self.mark("rest")
        return result


class TimedPrior:
    def __init__(self, prior: DiffusionPrior, clock: Clock) -> None:
        self.inner, self.clock = prior, clock
        self.schedule, self.image_size = prior.schedule, prior.image_size
        self.group, self.condition, self.student = prior.group, prior.condition, prior.student

    def encode(self, images):
        latents = self.clock.during("encode", self.inner.encode, images)
        if latents.requires_grad:
            latents.register_hook(lambda gradient: self.clock.mark("backward through encoder"))
        return latents

    def decode(self, latents):
        return self.clock.during("decode", self.inner.decode, latents)

    def predict(self, latents, timesteps, embedding):
        return self.clock.during("UNet", self.inner.predict, latents, timesteps, embedding)


def timed_renderer(renderer: Renderer, clock: Clock) -> Renderer:
    """The renderer; the backward pass marks where it comes to the pictures and where it leaves the Gaussians."""

    def draw(splats, cameras, backgrounds=None, **options):
        render = clock.during("render", renderer, splats, cameras, backgrounds, **options)
        if render.features.requires_grad:
            render.features.register_hook(lambda gradient: clock.mark("backward through rasteriser"))
            for leaf in splats.parameters().values():
                leaf.register_post_accumulate_grad_hook(lambda leaf: clock.mark("optimiser"))
        return render

    return draw


class TimedDensifier:
    def __init__(self, densifier: Any, clock: Clock) -> None:
        self.init, self.inner, self.clock = densifier.init, densifier, clock

    def step(self, *args):
        return self.clock.during("densify", self.inner.step, *args)


def steps_of(recipe: Recipe, prior: Prior, clock: Clock) -> Iterator[tuple[dict[str, float], Counter]]:
    """The seconds of each step's parts; they make up the whole step."""
    device = pick_device(recipe)
    parts = {
        "prior": TimedPrior(prior, clock),
        "renderer": timed_renderer(find("renderer", pick_renderer(recipe, device)), clock),
        "densifier": TimedDensifier(configured("densifier", recipe.densify), clock),
    }
    steps = dream(recipe, **parts)
    while True:
        clock.mark("rest")
        if next(steps, None) is None:
            return
        clock.mark("rest")
        yield clock.seconds()


def naive_steps(recipe: Recipe, prior: Prior, clock: Clock) -> Iterator[float]:
    """The seconds of each naive step."""
    device = pick_device(recipe)
    rule, growth = configured("distiller", recipe.distill), configured("densifier", recipe.densify)
    state = begin(recipe, prior, rule, growth, None, device)
    draw = find("renderer", pick_renderer(recipe, device))
    parts = {"prior": prior, "renderer": draw, "distiller": rule}
    steps = naive(recipe, snapshot(state), timesteps=configured("timesteps", recipe.timesteps), **parts)
    while True:
        clock.mark("naive")
        if next(steps, None) is None:
            return
        clock.mark("rest")
        yield clock.seconds()[0]["naive"]


def alone(prior: DiffusionPrior, renderer: Renderer, clock: Clock, repeats: int) -> dict[str, float]:
    """The best seconds of one call of each kernel by itself, on the arguments of the last step."""
    splats, *rest = clock.last["render"]
    (images,) = clock.last["encode"]
    leaves, pixels = splats.requires_grad(), images.detach().requires_grad_()
    best = partial(best_seconds, device=clock.device, repeats=repeats)
    drawn, encoded = renderer(leaves, *rest).features, prior.encode(pixels)
    upstream = torch.ones_like(drawn), torch.ones_like(encoded)
    given = [value for value in leaves.parameters().values() if value.numel()]
    back = partial(torch.autograd.grad, retain_graph=True, allow_unused=True)
    seconds = {
        "render": best(lambda: renderer(leaves, *rest)),
        "backward through rasteriser": best(lambda: back(drawn, given, upstream[0])),
        "encode": best(lambda: prior.encode(pixels)),
        "UNet": best(lambda: prior.predict(*clock.last["UNet"])),
    }
    both = best(lambda: torch.autograd.grad(prior.encode(pixels), pixels, upstream[1]))
    seconds["backward through encoder"] = max(both - seconds["encode"], 0.0)  # its graph serves one backward only
    if "decode" in clock.last:
        seconds["decode"] = best(lambda: prior.decode(clock.last["decode"][0].detach()))
    return seconds


def counted(meta: DiffusionPrior, clock: Clock) -> dict[str, list[Layer]]:
    """The layers of one call of each network, by shapes alone."""

    def here(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().to("meta")

    latents, timesteps, told = clock.last["UNet"]
    cameras = None if told.cameras is None else here(told.cameras)
    embedding = Embedding(here(told.tokens), cameras, {name: here(value) for name, value in told.extras.items()})
    pixels = here(clock.last["encode"][0]).requires_grad_()
    asked = here(latents).to(meta.unet.dtype)
    with torch.no_grad():
        layers = {"UNet": layers_of(lambda: meta.family.answer(asked, here(timesteps), embedding))}
        if "decode" in clock.last:
            layers["decode"] = layers_of(lambda: meta._decode(here(clock.last["decode"][0])))
    encoded: list[torch.Tensor] = []
    layers["encode"] = layers_of(lambda: encoded.append(meta._encode(pixels)))
    back = partial(torch.autograd.grad, encoded[0], pixels, torch.empty_like(encoded[0]))
    layers["backward through encoder"] = layers_of(back)
    return layers


def outside(recipe: Recipe, prior: Prior) -> float:
    """The share of a whole run's time, from the first step to the file, that no kernel takes."""
    clock = Clock(pick_device(recipe))

    def found(kind: str, name: str):
        part = find(kind, name)
        return timed_renderer(part, clock) if kind == "renderer" else part

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(session, "find", found):
        clock.mark("rest")
        for _ in session.start(recipe, Path(folder) / "splat.ply", prior=TimedPrior(prior, clock)):
            pass
        clock.mark("rest")
    spent, _ = clock.seconds()
    return 1.0 - sum(spent.get(part, 0.0) for part in KERNELS) / sum(spent.values())


def rivals(options: argparse.Namespace, recipe: Recipe, made: Callable[..., DiffusionPrior]) -> dict[str, Iterator]:
    """What is timed in turns with our step: other ways to the same, each the seconds of its steps."""
    device, found = recipe.device, {}
    if options.naive:
        plain = made(device=device, dtype=torch.float16 if device.startswith("cuda") else torch.float32)
        plain.unet.to(memory_format=torch.contiguous_format)
        plain.vae.to(memory_format=torch.contiguous_format)
        plain.portions.threaded = False
        found["naive"] = naive_steps(recipe, plain, Clock(torch.device(device)))
    if options.compile:
        steps = steps_of(
            recipe, made(device=device, dtype=precision(options.arch, device)), Clock(torch.device(device))
        )
        found["uncompiled"] = (sum(spent.values()) for spent, _ in steps)
    return found


def precision(arch: str, device: str) -> torch.dtype:
    return torch.bfloat16 if device.startswith("cuda") and arch != "builtin" else torch.float32


def recipe_of(options: argparse.Namespace) -> Recipe:
    """The steps to time, their device named. ValueError or, for no device at all, torch's RuntimeError."""
    resolution = options.resolution or RESOLUTIONS[options.arch]
    if resolution % 64:
        raise ValueError(f"--resolution is a multiple of 64; got {resolution}")
    if options.whole and options.arch != "builtin":
        raise ValueError(f"--whole is a run of the built-in prior, not of {options.arch}")
    device = pick_device(Recipe("a red ball", device=options.device))
    recipe = Recipe("a red ball", device=str(device), distill=options.distill, views=options.views, size=resolution,
                    count=options.gaussians, densify=options.densify, steps=WARM_UP + options.repeats)  # fmt: skip
    configured("distiller", recipe.distill)
    configured("densifier", recipe.densify)
    return recipe


def measure(options: argparse.Namespace, recipe: Recipe) -> dict[str, Any]:
    """All figures, by name; seconds and megabytes."""
    device, dtype = torch.device(recipe.device), precision(options.arch, recipe.device)
    made = partial(untrained, options.arch, recipe.size, encoder=options.encoder)
    prior, clock = made(device=recipe.device, dtype=dtype), Clock(device)
    if options.compile:
        compile_blocks(prior)
    steps = steps_of(recipe, prior, clock)
    ours, theirs = [next(steps) for _ in range(WARM_UP)], []
    megabytes = peak_megabytes(device)  # before anything else takes some
    limits, others = ceilings(device, dtype), rivals(options, recipe, made)
    for their in others.values():
        for _ in range(WARM_UP):
            next(their)
    for row in steps:
        ours.append(row)
        theirs.append({name: next(their) for name, their in others.items()})
    spent, calls = zip(*ours, strict=True)
    totals = [sum(parts.values()) for parts in spent]
    renderer = find("renderer", pick_renderer(recipe, device))
    layers = counted(made(device="meta", dtype=dtype), clock)
    figures: dict[str, Any] = {
        "dtype": str(dtype),
        "resolution": recipe.size,
        "peak": limits.peak,
        "bandwidth": limits.bandwidth,
        "megabytes": megabytes,
        "first_step": totals[0],
        "step": statistics.median(totals[WARM_UP:]),
        "calls": {part: calls[-1][part] for part in KERNELS},
        "parts": {part: statistics.median(each.get(part, 0.0) for each in spent[WARM_UP:]) for part in PARTS},
        "rivals": {name: statistics.median(each[name] for each in theirs) for name in others},
        "alone": alone(prior, renderer, clock, max(5, options.repeats)),
        "operations": {part: sum(layer.operations for layer in each) for part, each in layers.items()},
        "floor": {part: floor_seconds(each, limits) for part, each in layers.items()},
        "arithmetic": {part: operations_seconds(each, limits) for part, each in layers.items()},
    }
    if options.whole:
        figures["outside"] = outside(preset(options.whole, "a red ball", device=recipe.device), prior)
    return figures


def table(figures: dict[str, Any], options: argparse.Namespace) -> str:
    """The figures for people."""
    calls, parts, step = figures["calls"], figures["parts"], figures["step"]
    lines = [
        f"{options.arch}, {options.encoder} encoder, {figures['dtype']}, {options.distill}: {options.views} views of "
        f"{figures['resolution']} x {figures['resolution']}, {options.gaussians:,} Gaussians",
        f"ceilings: {figures['peak'] / 1e12:.3g} TFLOP/s in a matrix product, {figures['bandwidth'] / 1e9:.3g} GB/s in "
        "a copy",
        f"median of {options.repeats} steps after {WARM_UP} for warming up; milliseconds",
        "",
        f"{'':28}{'calls':>6}{'step':>10}{'share':>7}{'alone':>10}{'TFLOP':>9}{'floor':>10}{'arithmetic':>11}"
        f"{'of floor':>9}",
    ]
    for part in PARTS:
        count = calls.get(part, 0)
        line = f"{part:28}{count or '':>6}{parts[part] * 1e3:10.2f}{parts[part] / step:7.1%}"
        if count:
            line += f"{count * figures['alone'][part] * 1e3:10.2f}"
        if count and part in figures["floor"]:
            floor, arithmetic = (count * figures[name][part] for name in ("floor", "arithmetic"))
            line += f"{count * figures['operations'][part] / 1e12:9.4f}{floor * 1e3:10.2f}{arithmetic * 1e3:11.2f}"
            line += f"{parts[part] / floor:9.2f}"
        lines.append(line)
    kernels, floor, arithmetic = (
        sum(calls[part] * seconds for part, seconds in figures[name].items())
        for name in ("alone", "floor", "arithmetic")
    )
    drawn = parts["render"] + parts["backward through rasteriser"]
    lines += [
        "",
        f"a step takes {step * 1e3:.1f} ms: {step / kernels:.2f} of its kernels alone, {kernels * 1e3:.1f} ms "
        "(asked on two cores: at most 1.3)",
        f"floor of the networks {floor * 1e3:.1f} ms, by operations alone {arithmetic * 1e3:.1f} ms; the step takes "
        f"{step / floor:.2f} and {step / arithmetic:.2f} of them, without its render {(step - drawn) / floor:.2f} of "
        "the floor (asked on a GPU: at most 1.6)",
        f"the first step took {figures['first_step']:.2f} s, so that {MANY:,} take "
        f"{figures['first_step'] + (MANY - 1) * step:.0f} s (asked on a GPU: 75 with start-up); peak memory "
        f"{figures['megabytes']:,.0f} MB",
    ]
    for name, seconds in figures["rivals"].items():
        lines.append(f"{name}, in turns with it: {seconds * 1e3:.1f} ms, {seconds / step:.2f} times as long")
    saved = figures["rivals"].get("uncompiled", step) - step
    if saved > 0:
        lines.append(f"compiling has paid back after {figures['first_step'] / saved:.0f} steps")
    if "outside" in figures:
        lines.append(f"a whole run of {options.whole}: {figures['outside']:.1%} outside its kernels (asked: under 5 %)")
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--arch", choices=ARCHS, default="builtin", help="whose networks (default: builtin)")
    made.add_argument("--encoder", choices=("full", "tiny"), default="full", help="builtin has its own, a tiny one")
    made.add_argument("--distill", default="sds:guidance_scale=7.5", metavar="RULE", help="default: %(default)s")
    made.add_argument("--densify", default="fixed", metavar="RULE", help="default: %(default)s")
    made.add_argument("--views", type=report.positive, default=4, help="default: 4")
    made.add_argument("--resolution", type=report.positive, help="a multiple of 64 (default: the networks' own)")
    made.add_argument("--gaussians", type=report.positive, default=4000, help="default: 4000")
    made.add_argument("--device", default="auto", help="default: a GPU where there is one")
    made.add_argument("--repeats", type=report.positive, default=10, help="steps that are timed (default: 10)")
    made.add_argument("--compile", action="store_true", help="torch.compile for repeated blocks and the encoder")
    made.add_argument("--no-naive", dest="naive", action="store_false", help="leave out the naive step")
    made.add_argument("--whole", choices=("draft", "normal"), help="also a whole run of the built-in prior")
    made.add_argument("--out", type=Path, default=report.HERE / "results", help="folder of the kept results")
    return made


def main() -> None:
    known = parser()
    options = known.parse_args()
    try:
        recipe = recipe_of(options)
    except (ValueError, RuntimeError) as error:
        known.error(str(error))
    figures = measure(options, recipe)
    name = f"iteration-{options.arch}{'-tiny' if options.encoder == 'tiny' else ''}"
    path = report.save(name, table(figures, options), figures, options.out)
    print(path.read_text())


if __name__ == "__main__":
    main()
