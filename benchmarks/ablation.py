"""What w(t), the noise levels and guidance do to a picture: each swept alone in the playground, beside the truth.

    python benchmarks/ablation.py            # about ten minutes on two cores
    python benchmarks/ablation.py --quick    # seconds: both ends of each sweep, one prompt, few steps

What is not swept stays as in `BASE`. The truth is the corpus's picture of the same prompt from the same camera before
the same background. Saturation (inside the truth's mask) and sharpness are shares of the truth's, so 1 is right and
more is too much; `backdrop` is the saturation behind the object, where the truth has none. Floor: the empty picture
that every run starts from. Ceilings: the truth, and the truth through the prior's autoencoder. A sample of the prior
shows what it paints by itself. Every (value, prompt) is a cell kept under --work as JSON with its picture, so a
run can be stopped and taken up again; values that mean the same share a cell.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from math import radians
from pathlib import Path
from statistics import median

import _report as report
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from splatdream.cameras import orbit
from splatdream.catalog import CATALOG, configured
from splatdream.contracts import Prior
from splatdream.corpus.captions import caption
from splatdream.corpus.scenes import Scene, build
from splatdream.corpus.truth import render_truth
from splatdream.distill.denoise import denoised
from splatdream.distill.weights import WEIGHTS
from splatdream.inspect.compare import colour_error, psnr, saturation, sharpness
from splatdream.inspect.yardstick import read_scenes
from splatdream.manifest import weight_hashes
from splatdream.playground import Latents, playground, shown
from splatdream.priors import builtin_folder, load_prior
from splatdream.priors.words import choose_prior
from splatdream.recipe import Recipe
from splatdream.turntable import pictures_of

BASE = Recipe(
    "PROMPT",
    distill="sds:guidance_scale=15",
    steps=120,
    timesteps="linear",
    views=1,
    device="cpu",
    background=(0.6, 0.6),
    background_tint=0.0,
)
AZIMUTH, SPACE = radians(30), Latents()
GUIDANCE = (1, 2, 4, 7.5, 15, 30, 50, 100)
RANGES = ((0.02, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 0.98), (0.02, 0.5), (0.5, 0.98))
REFERENCES = ("empty picture", "truth", "truth through VAE", "sample of the prior")
COLUMNS = ("saturation", "sharpness", "backdrop", "colour_error", "psnr", "psnr_full", "seconds")
SWEPT = {
    "w(t)": {name: {"distill": f"{BASE.distill},weighting={name}"} for name in WEIGHTS},
    "t range": {f"{a:g}..{b:g}": {"timesteps": f"uniform:low={a},high={b}"} for a, b in RANGES},
    "timesteps": {name: {"timesteps": name} for name in CATALOG["timesteps"]},
    "guidance": {f"{scale:g}": {"distill": f"sds:guidance_scale={scale}"} for scale in GUIDANCE},
}
"""Changes to `BASE`, by what is swept and by value."""

Cells = dict[str, dict[str, list[dict]]]


def picture_of(value: str, scene: Scene, recipe: Recipe, prior: Prior) -> Tensor:
    """A reference, or what the recipe leads to."""
    cameras = orbit(1, prior.image_size).turned(AZIMUTH)
    frames = playground(recipe, prior=prior, cameras=cameras, space=SPACE)
    true, _ = truth_of(scene, recipe, prior)

    def sample() -> Tensor:
        noise = torch.randn(prior.encode(true).shape, generator=torch.Generator().manual_seed(recipe.seed))
        last = torch.tensor([len(prior.schedule) - 1])
        condition = prior.condition(recipe.prompt, "", cameras)
        return prior.decode(denoised(prior, noise, last, condition, guidance_scale=5.0, steps=25))

    references: dict[str, Callable[[], Tensor]] = {
        "empty picture": lambda: next(frames).images,
        "truth": lambda: true,
        "truth through VAE": lambda: prior.decode(prior.encode(true)),
        "sample of the prior": sample,
    }
    if value in references:
        return references[value]().clamp(0, 1)
    *_, frame = frames
    return shown(prior, SPACE, frame.state.canvas)


def truth_of(scene: Scene, recipe: Recipe, prior: Prior) -> tuple[Tensor, Tensor]:
    """The true picture before the recipe's background, and where the object is."""
    truth = render_truth(build(scene), orbit(1, prior.image_size).turned(AZIMUTH))
    return truth.over(torch.full((3,), recipe.background[0])), truth.alphas > 0.5


def score(picture: Tensor, truth: Tensor, mask: Tensor) -> dict[str, float]:
    return {
        "saturation": saturation(picture, mask) / max(saturation(truth, mask), 1e-3),
        "sharpness": sharpness(picture) / max(sharpness(truth), 1e-6),
        "backdrop": saturation(picture, ~mask),
        "colour_error": colour_error(picture, truth, mask),
        "psnr": psnr(picture, truth, mask),
        "psnr_full": psnr(picture, truth, torch.ones_like(mask)),
    }


def run_cell(value: str, scene: Scene, recipe: Recipe, prior: Prior, weights: dict[str, str], work: Path) -> dict:
    """The scores of a cell, and under "picture" where it lies; computed unless it was."""
    rule, ladder = configured("distiller", recipe.distill), configured("timesteps", recipe.timesteps)
    meant = asdict(recipe.replace(distill=str(rule), timesteps=str(ladder)))
    told = [value if value in REFERENCES else "", meant, AZIMUTH, str(SPACE), weights]
    key = sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]
    cell = work / f"{recipe.prompt.replace(' ', '-')}-{key}.json"
    if not cell.exists():
        began = time.monotonic()
        picture = picture_of(value, scene, recipe, prior)
        seconds = time.monotonic() - began
        pictures_of(picture)[0].save(cell.with_suffix(".png"))
        cell.write_text(json.dumps(score(picture, *truth_of(scene, recipe, prior)) | {"seconds": seconds}))
    return json.loads(cell.read_text()) | {"prompt": recipe.prompt, "picture": str(cell.with_suffix(".png"))}


def numbers(scores: dict) -> dict:
    """What is kept of a cell beside the table."""
    return {key: value for key, value in scores.items() if key != "picture"}


def middle(scores: list[dict], column: str) -> float:
    return median(score[column] for score in scores)


def table(cells: Cells) -> str:
    """Medians over the prompts, a line for each value."""
    lines = [f"{'swept':<12}{'value':<22}" + "".join(f"{column:>14}" for column in COLUMNS)]
    for axis, values in cells.items():
        for value, scores in values.items():
            middles = "".join(f"{middle(scores, column):>14.3f}" for column in COLUMNS)
            lines.append(f"{axis:<12}{value:<22}{middles}")
    return "\n".join(lines)


def said(axis: str, values: dict[str, list[dict]]) -> str:
    """In words, what the sweep does."""
    parts = []
    for column in ("saturation", "sharpness"):
        ranked = sorted(values, key=lambda value: middle(values[value], column))
        low, high = ((value, middle(values[value], column)) for value in (ranked[0], ranked[-1]))
        parts.append(f"{column} from {low[1]:.2f} ({low[0]}) to {high[1]:.2f} ({high[0]})")
    best = max(values, key=lambda value: middle(values[value], "psnr_full"))
    return f"{axis}: {', '.join(parts)}; nearest to the truth: {best} ({middle(values[best], 'psnr_full'):.1f} dB)"


def sheet(cells: Cells) -> Image.Image:
    """A block for each sweep: a column for each value under its name, a row for each prompt."""
    first = Image.open(next(iter(cells["reference"].values()))[0]["picture"])
    side, head, rows = first.width + 2, 14, max(len(scores) for scores in cells["reference"].values())
    block = head + rows * side
    width = side * max(len(values) for values in cells.values())
    page = Image.new("RGB", (width, block * len(cells)), "white")
    for top, (axis, values) in enumerate(cells.items()):
        for column, (value, scores) in enumerate(values.items()):
            text = value if axis in ("reference", "timesteps") else f"{axis} {value}"
            ImageDraw.Draw(page).text((column * side + 2, top * block + 1), text, fill="black")
            for row, scored in enumerate(scores):
                page.paste(Image.open(scored["picture"]), (column * side, top * block + head + row * side))
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--prompts", type=int, default=3, help="how many of the list `tune`")
    parser.add_argument("--set", nargs="*", default=[], help="changes to the rest of the recipe, key=value")
    parser.add_argument("--prior", default="builtin")
    parser.add_argument("--work", type=Path, default=Path("runs/ablation"), help="where finished cells are kept")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--name", default="ablation")
    options = parser.parse_args()

    base, swept, count = BASE.set(options.set), SWEPT, options.prompts
    out, name = options.out, options.name
    if options.quick:
        base, count, out, name = base.replace(steps=8), 1, options.work, f"{options.name}-quick"
        swept = {
            axis: {value: values[value] for value in [*values][:: len(values) - 1]} for axis, values in SWEPT.items()
        }
    prior = load_prior(options.prior, "", view_words=base.view_words)
    weights = weight_hashes(choose_prior(options.prior, ""))
    options.work.mkdir(parents=True, exist_ok=True)
    scenes = read_scenes(builtin_folder().parent / "prompts.toml", "tune")[:count]
    cells: Cells = {}
    for axis, values in {"reference": {name: {} for name in REFERENCES}, **swept}.items():
        for value, changes in values.items():
            for scene in scenes:
                recipe = base.replace(prompt=caption(scene), **changes)
                scores = run_cell(value, scene, recipe, prior, weights, options.work)
                cells.setdefault(axis, {}).setdefault(value, []).append(scores)
                line = "".join(f"  {column} {scores[column]:.2f}" for column in COLUMNS)
                print(f"{axis:<10}{value:<20}{scores['prompt']:<32}{line}", flush=True)

    words = [said(axis, cells[axis]) for axis in swept]
    text = "\n".join([f"{base.distill}, {base.steps} steps, {len(scenes)} prompts", "", table(cells), "", *words])
    print(f"\n{text}")
    kept = {
        axis: {value: [numbers(score) for score in scores] for value, scores in values.items()}
        for axis, values in cells.items()
    }
    report.save(name, text, {"base": asdict(base), "cells": kept}, out)
    sheet(cells).save(out / f"{name}.png")


if __name__ == "__main__":
    main()
