"""How good the results are: prompts of the frozen yardstick, generated, rendered and compared with the truth.

    python benchmarks/quality.py                         # our row, floors and ceilings, 24 prompts
    python benchmarks/quality.py --list tune --rows ours # the list to tune on
    python benchmarks/quality.py --set distill=sds:guidance_scale=30

Every (row, prompt) is a cell kept under --work as JSON with its pictures, so a run can be stopped and taken up again;
a changed recipe, and other weights of the prior or of the judges, make another cell. The table says machine, date and
commit; the contact sheet stands beside the truth.
"""

import argparse
import json
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from statistics import mean, median

import _report as report
import numpy as np
import torch
from _rows import CEILINGS, FLOORS, make_look
from PIL import Image

from splatdream.corpus.captions import caption
from splatdream.corpus.scenes import Scene
from splatdream.inspect.judge import Judge
from splatdream.inspect.yardstick import judging_cameras, read_scenes, score
from splatdream.manifest import weight_hashes
from splatdream.priors import builtin_folder, load_prior
from splatdream.priors.words import choose_prior
from splatdream.recipe import Recipe, preset

ASSETS = builtin_folder().parent
LISTS = ("trained", "held_out")
COLUMNS = ("iou", "psnr", "psnr_full", "colour_error", "r_precision", "attributes", "saturation", "sharpness", "janus")


def run_cell(row: str, scenes: list[Scene], index: int, recipe: Recipe, prior, judge, cell: Path, kept: Path) -> dict:
    """Computes and keeps one cell: scores as JSON, four pictures as PNG; `kept` is where its splats are."""
    look, made = make_look(row, scenes, index, recipe, prior, kept)
    scores = score(look, scenes[index], judge) | made | {"prompt": caption(scenes[index])}
    colours, alphas = look(judging_cameras()[[0, 4, 7, 11]])
    strip = torch.cat(list((colours + (1 - alphas) * 0.75).clamp(0, 1)), dim=1)
    Image.fromarray((strip * 255).byte().numpy()).save(cell.with_suffix(".png"))
    cell.write_text(json.dumps(scores))
    return scores


def fingerprint(*parts) -> str:
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]


def summary(cells: dict[tuple[str, str], list[dict]], rows: list[str]) -> str:
    """Medians of the continuous columns, means of the rates; one line a row and list."""
    lines = [f"{'row':<22}{'list':<10}" + "".join(f"{column:>13}" for column in (*COLUMNS, "seconds"))]
    for row in rows:
        for name in LISTS + ("tune",):
            scores = cells.get((row, name), [])
            if not scores:
                continue
            texts = []
            for column in (*COLUMNS, "seconds"):
                values = [score[column] for score in scores if column in score]
                middle = mean if column in ("r_precision", "attributes", "janus") else median
                texts.append(f"{middle(values):>13.3f}" if values else f"{'-':>13}")
            lines.append(f"{row:<22}{name:<10}" + "".join(texts))
    return "\n".join(lines)


def way_to_ceiling(cells: dict, row: str, name: str, column: str) -> str:
    """How far a row's median is from the best-fitting sphere (0 %) to the fitted splats (100 %)."""
    try:
        low, mid, high = (median(c[column] for c in cells[r, name]) for r in ("sphere", row, "fitted splats"))
    except KeyError:
        return ""
    share = 100 * (mid - low) / (high - low)
    return f"{name} {column}: sphere {low:.3f}, {row} {mid:.3f}, fitted {high:.3f}: {share:.0f} % of the way"


def contact_sheet(ours: list[Path], truths: list[Path], path: Path) -> None:
    """One line a prompt: our four views, then the same four of the truth."""
    lines = [
        np.concatenate([np.asarray(Image.open(file)) for file in pair], axis=1)
        for pair in zip(ours, truths, strict=True)
    ]
    Image.fromarray(np.concatenate(lines, axis=0)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", nargs="+", default=list(LISTS), help="prompt lists: trained, held_out, tune")
    parser.add_argument("--rows", nargs="+", default=["ours", *FLOORS, *CEILINGS])
    parser.add_argument("--quality", default="normal", help="the preset of our row and of the fitted splats")
    parser.add_argument("--set", nargs="*", default=[], help="changes to the recipe, key=value")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prior", default="builtin")
    parser.add_argument("--prompts", type=Path, default=ASSETS / "prompts.toml")
    parser.add_argument("--work", type=Path, default=Path("runs/quality"), help="where finished cells are kept")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--name", default="quality")
    options = parser.parse_args()

    judge = Judge.load(ASSETS / "judge") if (ASSETS / "judge").exists() else None
    first = preset(options.quality, "PROMPT", seed=options.seed).set(options.set)
    prior = load_prior(options.prior, "", device="cpu", view_words=first.view_words)
    prior_weights, judge_weights = (
        weight_hashes(folder) for folder in (choose_prior(options.prior, ""), ASSETS / "judge")
    )
    options.work.mkdir(parents=True, exist_ok=True)
    cells: dict[tuple[str, str], list[dict]] = {}
    strips: dict[tuple[str, str], list[Path]] = {}
    for name in options.list:
        scenes = read_scenes(options.prompts, name)
        for row in options.rows:
            for index, scene in enumerate(scenes):
                recipe = preset(options.quality, caption(scene), seed=options.seed).set(options.set)
                what = [row, name, asdict(recipe), options.prior, prior_weights]
                stem = f"{name}-{index:02d}-{row.replace(' ', '-')}-"
                cell = options.work / f"{stem}{fingerprint(*what, judge_weights)}.json"
                if cell.exists():
                    scores = json.loads(cell.read_text())
                else:
                    kept = options.work / f"{stem}{fingerprint(*what)}.ply"
                    scores = run_cell(row, scenes, index, recipe, prior, judge, cell, kept)
                cells.setdefault((row, name), []).append(scores)
                strips.setdefault((row, name), []).append(cell.with_suffix(".png"))
                print(
                    f"{row:<20}{name:<10}{scores['prompt']:<40}iou {scores['iou']:.3f} psnr {scores['psnr']:.1f}",
                    flush=True,
                )

    text = [f"recipe: {options.quality} {options.set}", "", summary(cells, options.rows), ""]
    ours = options.rows[0]
    text += [way_to_ceiling(cells, ours, name, column) for name in options.list for column in ("iou", "psnr")]
    worst = sorted((c for name in options.list for c in cells.get((ours, name), [])), key=lambda c: c["iou"])[:3]
    text += [
        "",
        "worst three: " + "; ".join(f"{c['prompt']} (iou {c['iou']:.2f}, psnr {c['psnr']:.1f})" for c in worst),
    ]
    peaks = [c["memory"] for name in options.list for c in cells.get((ours, name), []) if c.get("memory")]
    if peaks:
        text += [f"peak memory of the process that computed {ours}: {max(peaks) / 1e9:.2f} GB"]
    print("\n".join(text))
    data = {"recipe": asdict(first), "cells": {f"{row}|{name}": scores for (row, name), scores in cells.items()}}
    report.save(options.name, "\n".join(text), data, options.out)
    for name in options.list:
        if ("truth", name) in strips and (ours, name) in strips:
            contact_sheet(strips[ours, name], strips["truth", name], options.out / f"{options.name}-{name}.png")


if __name__ == "__main__":
    main()
