"""Every score distillation beside every other, on the frozen yardstick: which rule makes what.

    python benchmarks/distillation.py                           # every rule, 6 prompts, 2 seeds, draft
    python benchmarks/distillation.py --rules sds ism sdi       # some of them
    python benchmarks/distillation.py --equal evaluations       # as many steps as SDS's evaluations of the UNet pay for

Two comparisons: equal steps (turns of the loop, in which rules that paint targets take `inner_steps` of the optimiser),
and equal evaluations of the prior's UNet (a step of sdi costs about five of SDS's; what vsd asks its student, and the
student's lessons, come on top and are not counted). A cell is kept under --work, so a run can be
stopped and taken up again. A run whose numbers stop being finite counts as diverged and has no other score.
"""

import argparse
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import _report as report
import numpy as np
import torch
from _rows import CEILINGS, FLOORS
from PIL import Image
from quality import ASSETS, COLUMNS, fingerprint, run_cell

from splatdream.catalog import CATALOG
from splatdream.contracts import Prior
from splatdream.corpus.captions import caption
from splatdream.corpus.scenes import Scene
from splatdream.inspect.judge import Judge
from splatdream.inspect.yardstick import SIZE, read_scenes
from splatdream.manifest import weight_hashes
from splatdream.priors import choose_prior, load_prior
from splatdream.recipe import Recipe, preset

PROMPTS = (
    "a snowman with a red hat", "a yellow duck", "a purple car",
    "a blue mug", "a red mushroom", "a red ball on top of a blue cube",
)  # fmt: skip
"""Of the yardstick's; the first three have a front."""
NEGATIVE = "blurry, oversaturated, ugly"
"""What rules hear that compare with a negative prompt, and no other rule."""
HELD: dict[str, Any] = {"timesteps": "linear", "largest_scale": 0.0, "weight_position": 1.0}
"""Of every row, as when the table was made: presets leave out more of the clean end, and bound widths and places."""
VARIANTS: dict[str, dict[str, Any]] = {
    "sdedit falling": {"distill": "sdedit:guidance_scale=5..2"},
    "sds perp-neg": {"distill": "sds", "view_words": "perp-neg"},
    "csd annealed": {"distill": "csd:negative_weight=1..0.5", "negative_prompt": NEGATIVE},
    "sds shaded": {"distill": "sds", "shading": 0.5},
    "sds untold": {"distill": "sds"},
    "sds untold wordless": {"distill": "sds", "view_words": "none"},
    "sds untold perp-neg": {"distill": "sds", "view_words": "perp-neg"},
    "sds four views": {"distill": "sds", "prior": "builtin-mv"},
    "recon": {"distill": "recon:group=1"},
    "recon four views": {"distill": "recon", "prior": "builtin-mv"},
}
"""Rows beside the catalogue's rules at their defaults, and for `recon` where the prior sees views one by one.

The prior of rows called "untold" is not told the camera, as it was taught to bear: the words alone say which side it
sees, as for Stable Diffusion, so that there are second faces for view words and Perp-Neg to lower the rate of.
"""
RATES = ("r_precision", "attributes", "janus", "diverged")


def recipe_of(row: str, prompt: str, seed: int, quality: str, steps: int | None) -> Recipe:
    changes = VARIANTS.get(row, {"distill": row}) if row not in (*FLOORS, *CEILINGS) else {}
    recipe = preset(quality, prompt, seed=seed, **HELD | changes)
    return recipe.replace(steps=steps) if steps else recipe


def cell_of(row: str, scene: Scene, scenes: list[Scene], recipe: Recipe, kept: Path, tools: tuple) -> dict:
    """The scores of one run, from the folder of kept cells where they are there."""
    priors, judge, prior_weights, judge_weights = tools
    prior = priors(recipe.prior, recipe.view_words, "untold" in row)
    stem = f"{row.replace(' ', '-')}-{caption(scene).replace(' ', '-')}-{recipe.seed}-"
    what = [row, caption(scene), asdict(recipe), prior_weights]
    cell = kept / f"{stem}{fingerprint(*what, judge_weights)}.json"
    if not cell.exists():
        splats = kept / f"{stem}{fingerprint(*what)}.ply"
        try:
            scores = run_cell(row, scenes, scenes.index(scene), recipe, prior, judge, cell, splats)
        except FloatingPointError as error:
            scores = {"prompt": caption(scene), "diverged": 1.0, "error": str(error)}
        scores = {"diverged": 0.0, "steps": recipe.steps} | scores
        cell.write_text(json.dumps(scores))
    return json.loads(cell.read_text()) | {"picture": str(cell.with_suffix(".png")), "seed": recipe.seed}


def table(rows: dict[str, list[dict]]) -> str:
    """Medians, means of the rates, and how far the seeds' means lie apart in IoU."""
    columns = (*COLUMNS, "diverged", "steps", "evaluations", "seconds")
    lines = [f"{'rule':<20}{'spread':>8}" + "".join(f"{column:>13}" for column in columns)]
    for row, cells in rows.items():
        texts = []
        for column in columns:
            values = [cell[column] for cell in cells if column in cell]
            middle = mean if column in RATES else median
            texts.append(f"{middle(values):>13.3f}" if values else f"{'-':>13}")
        lines.append(f"{row:<20}{spread(cells):>8}" + "".join(texts))
    return "\n".join(lines)


def spread(cells: list[dict]) -> str:
    """The standard deviation over seeds of the mean IoU over prompts."""
    seeds = {cell["seed"] for cell in cells}
    means = [mean(c["iou"] for c in cells if c["seed"] == seed and "iou" in c) for seed in seeds]
    return f"{stdev(means):.3f}" if len(means) > 1 else "-"


def sheet(rows: list[list[dict]], path: Path) -> None:
    """One line a row, one column a prompt: the first view of each; grey where a run diverged."""

    def picture(cell: dict) -> np.ndarray:
        file = Path(cell["picture"])
        return np.asarray(Image.open(file))[:, :SIZE] if file.exists() else np.full((SIZE, SIZE, 3), 127, np.uint8)

    Image.fromarray(np.concatenate([np.concatenate([picture(c) for c in cells], 1) for cells in rows])).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", nargs="+", default=list(dict.fromkeys([*CATALOG["distiller"], *VARIANTS])))
    parser.add_argument("--bounds", nargs="*", default=[*FLOORS, *CEILINGS], help="floors and ceilings")
    parser.add_argument("--prompts", nargs="+", default=list(PROMPTS), help="prompts of the yardstick")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--quality", default="draft")
    parser.add_argument("--equal", choices=("steps", "evaluations"), default="steps")
    parser.add_argument("--prior", default="builtin")
    parser.add_argument("--work", type=Path, default=Path("runs/distillation"), help="where finished cells are kept")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()

    known = {caption(s): s for name in ("trained", "held_out") for s in read_scenes(ASSETS / "prompts.toml", name)}
    scenes = [known[prompt] for prompt in options.prompts]

    @cache
    def priors(name: str, view_words: str, untold: bool) -> Prior:
        prior: Any = load_prior(options.prior if name == "auto" else name, "", device="cpu", view_words=view_words)
        if untold:
            prior.family.cameras = lambda cameras: torch.zeros(len(cameras), 16)
        return prior

    weights = (weight_hashes(folder) for folder in (choose_prior(options.prior, ""), ASSETS / "judge"))
    tools = (priors, Judge.load(ASSETS / "judge"), *weights)
    options.work.mkdir(parents=True, exist_ok=True)

    def run(row: str, steps: int | None = None, seeds: list[int] | None = None) -> list[dict]:
        cells = []
        for seed in seeds or options.seeds:
            for scene in scenes:
                recipe = recipe_of(row, caption(scene), seed, options.quality, steps)
                cells.append(cell_of(row, scene, scenes, recipe, options.work, tools))
                print(f"{row:<20}{seed}  {caption(scene):<36}iou {cells[-1].get('iou', float('nan')):.3f}", flush=True)
        return cells

    first = options.seeds[:1]
    rows = {row: run(row, seeds=first) for row in options.bounds}
    budget = run("sds", seeds=first)[0]["evaluations"] if options.equal == "evaluations" else 0
    for rule in options.rules:
        steps = None
        if budget:
            tried = run(rule, seeds=first)[0]
            steps = max(1, round(tried["steps"] * budget / tried["evaluations"])) if "evaluations" in tried else None
        rows[rule] = run(rule, steps)
    text = f"equal {options.equal}, {options.quality}, seeds {options.seeds}\n\n{table(rows)}"
    print(text)
    name = f"distillation-{options.equal}"
    report.save(name, text, {"cells": rows}, options.out)
    shown = [row for row in ("truth", *options.rules) if row in rows]
    sheet([[cell for cell in rows[row] if cell["seed"] == first[0]] for row in shown], options.out / f"{name}.png")


if __name__ == "__main__":
    main()
