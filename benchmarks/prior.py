"""How good the built-in prior and its judges are, on scenes that training may see and on held-out ones.

    python benchmarks/prior.py --count 64

Each random scene gives a true picture and a sample (50 DDIM steps) of its caption from each of four sides; the first
alone, and all four together, are judged against 64 wrong captions, half of which differ by one word or a swap of
colours. Few pictures do not tell all that a caption says, so truth itself is not always named; the yardstick's prompts
are therefore judged as its splats are, by twelve views together. The judges are judged first: on the truth, on true
views from behind, and on a planted two-faced object. The autoencoder's error on true pictures is the ceiling.
"""

import argparse
from functools import reduce
from itertools import product
from math import pi, radians
from operator import add
from pathlib import Path

import _report as report
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from splatdream.cameras import Cameras, CameraSampler, around, random_backgrounds
from splatdream.contracts import Condition
from splatdream.corpus.captions import caption, random_scene
from splatdream.corpus.scenes import Scene, Thing, build
from splatdream.corpus.truth import render_truth
from splatdream.guidance import guided
from splatdream.inspect.judge import Judge
from splatdream.inspect.yardstick import janus_rate, judging_cameras, r_precision, read_scenes
from splatdream.priors import builtin_folder
from splatdream.priors.diffusion import DiffusionPrior
from splatdream.priors.words import unknown_words
from splatdream.schedule import ddim_step, ddim_timesteps

SIDES = 4


def scenes(count: int, held_out: bool, seed: int) -> list[Scene]:
    """Random scenes that the prior has words for, on one side of the held-out rule."""
    rng, found = np.random.default_rng(seed), []
    while len(found) < count:
        scene = random_scene(rng)
        if scene.held_out() == held_out and not unknown_words(caption(scene)):
            found.append(scene)
    return found


@torch.no_grad()
def sample(
    prior: DiffusionPrior, texts: list[str], cameras: Cameras, guidance_scale: float, steps: int, seed: int
) -> Tensor:
    """One picture a text, each from its camera, by deterministic DDIM from the schedule's noisiest end."""
    condition = together([prior.condition(text, "", cameras[k]) for k, text in enumerate(texts)])
    side = prior.image_size // prior.factor
    shape = (len(texts), prior.unet.config.in_channels, side, side)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    times = ddim_timesteps(steps, len(prior.schedule))
    for now, after in zip(times, [*times[1:], None], strict=True):
        prediction = guided(prior, x, torch.full((len(x),), now), condition, guidance_scale)
        x = prediction.x0 if after is None else ddim_step(prior.schedule, prediction, torch.full((len(x),), after))
    return prior.decode(x).clamp(0, 1)


def together(conditions: list[Condition]) -> Condition:
    cond, uncond = zip(*((each.cond, each.uncond) for each in conditions), strict=True)
    return Condition(reduce(add, cond), reduce(add, uncond))


def front_cameras(count: int, seed: int) -> Cameras:
    """Random cameras that see the front half."""
    azimuths = (torch.rand(count, generator=torch.Generator().manual_seed(seed)) - 0.5) * pi / 2
    one = torch.ones(count)
    return around(azimuths, radians(20) * one, 3.4 * one, radians(40) * one, 128)


def truths(chosen: list[Scene], cameras: Cameras, seed: int) -> Tensor:
    """One true picture a scene, each from its camera."""
    generator = torch.Generator().manual_seed(seed)
    pictures = [
        render_truth(build(scene), cameras[k]).over(random_backgrounds(1, generator)[:, None, None])
        for k, scene in enumerate(chosen)
    ]
    return torch.cat(pictures)


def true_and_drawn(
    prior: DiffusionPrior, chosen: list[Scene], views: list[Cameras], guidance_scale: float, steps: int
) -> dict[str, Tensor]:
    """True pictures and samples of the scenes, S V H W 3 each; each of the V `views` holds one camera a scene."""
    texts = [caption(scene) for scene in chosen]
    true = [truths(chosen, cameras, seed=5 + k) for k, cameras in enumerate(views)]
    drawn = [sample(prior, texts, cameras, guidance_scale, steps, seed=3 + 10 * k) for k, cameras in enumerate(views)]
    return {"truth": torch.stack(true, 1), "samples": torch.stack(drawn, 1)}


def two_faced(cameras: Cameras, judge: Judge, kind: str) -> float:
    """The Janus rate of an object that shows its front to every camera."""
    front = Cameras(
        around(
            torch.zeros(len(cameras)), cameras.elevations, 3.4 * torch.ones(len(cameras)),
            radians(40) * torch.ones(len(cameras)), cameras.height,
        ).viewmats, cameras.Ks, cameras.width, cameras.height, cameras.azimuths, cameras.elevations,
    )  # fmt: skip
    return janus_rate(judge, render_truth(build(Scene(Thing(kind))), front).over(torch.full((3,), 0.7)), cameras)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", type=Path, default=builtin_folder())
    parser.add_argument("--judge", type=Path, default=builtin_folder().parent / "judge")
    parser.add_argument("--count", type=int, default=64, help="scenes of each side")
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    judge, prior = Judge.load(options.judge), DiffusionPrior.load(options.prior)

    lines, figures, strips = [], {}, []
    columns, twelve, front = min(options.count, 12), judging_cameras(), front_cameras(options.count, seed=5)
    for name, held_out in (("trained", False), ("held out", True)):
        random = scenes(options.count, held_out, seed=11 + held_out)
        sides = [front.turned(k * pi / 2) for k in range(SIDES)]
        listed = read_scenes(builtin_folder().parent / "prompts.toml", name.replace(" ", "_"))
        full_turn = [twelve[[k] * len(listed)] for k in range(len(twelve))]
        for chosen, views, asked in (
            (random, sides, {1: "one picture", SIDES: f"{SIDES} sides"}),
            (listed, full_turn, {len(twelve): f"the yardstick's prompts, {len(twelve)} views"}),
        ):
            shown = true_and_drawn(prior, chosen, views, options.guidance, options.steps)
            for (kind, pictures), (count, words) in product(shown.items(), asked.items()):
                hits = [r_precision(judge, pictures[k, :count], scene) for k, scene in enumerate(chosen)]
                figures[f"{kind} {name}, {words}"] = float(np.mean(hits))
                lines.append(f"R-precision of {kind}, {name}, {words}: {np.mean(hits):.3f} of {len(chosen)}")
                if chosen is listed and not all(hits):
                    missed = [caption(scene) for scene, hit in zip(chosen, hits, strict=True) if not hit]
                    lines.append(f"    missed: {'; '.join(missed)}")
            strips += [torch.cat(list(shown[kind][:columns, 0]), 1) for kind in ("samples", "truth")]

    fronted = ("snowman", "duck", "robot", "house", "car", "cat", "penguin")
    truth_rates = [
        janus_rate(judge, render_truth(build(Scene(Thing(kind))), twelve).over(torch.full((3,), 0.7)), twelve)
        for kind in fronted
    ]
    figures["janus truth"] = float(np.mean(truth_rates))
    figures["janus two-faced"] = float(np.mean([two_faced(twelve, judge, kind) for kind in fronted]))
    lines.append(f"Janus rate of truth {figures['janus truth']:.3f}, two-faced {figures['janus two-faced']:.3f}")

    generator = torch.Generator().manual_seed(9)
    errors = []
    for scene in scenes(32, False, seed=21):
        views = CameraSampler()(2, 128, generator)
        true = render_truth(build(scene), views).over(random_backgrounds(2, generator)[:, None, None])
        with torch.no_grad():
            errors.append(float((prior.decode(prior.encode(true)).clamp(0, 1) - true).square().mean()))
    figures["autoencoder psnr"] = float(-10 * np.log10(np.mean(errors)))
    lines.append(f"autoencoder on true pictures: {figures['autoencoder psnr']:.1f} dB")

    print("\n".join(lines))
    report.save("prior", "\n".join(lines), figures, options.out)
    sheet = (torch.cat(strips) * 255).byte().numpy()
    Image.fromarray(sheet).save(options.out / "prior.png")


if __name__ == "__main__":
    main()
