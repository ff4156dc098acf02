"""The rows of the quality table: ours, what a trivial answer scores (floors) and what a perfect input does (ceilings).

A row's answer to a prompt is a `Look`: what it shows to any cameras.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from splatdream.cameras import Cameras
from splatdream.catalog import find
from splatdream.check.criteria import read_criteria
from splatdream.check.tidy import tidied
from splatdream.contracts import Condition, Embedding, Gradient, View
from splatdream.corpus.scenes import Scene, build
from splatdream.corpus.truth import Solid, render_truth
from splatdream.export.ply import read_ply, write_ply
from splatdream.first_cloud import first_cloud
from splatdream.inspect.compare import GREY, silhouette_iou
from splatdream.inspect.yardstick import Look, turning_cameras
from splatdream.loop import dream
from splatdream.manifest import peak_memory
from splatdream.recipe import Recipe
from splatdream.schedule import Prediction, Schedule
from splatdream.splats import Splats

FLOORS = ("initial cloud", "sphere", "other truth")
CEILINGS = ("truth", "truth through VAE", "fitted splats")


class PixelPrior:
    """No prior at all: latents are pixels. For rows that are fitted to pictures."""

    image_size = 128
    schedule = Schedule(torch.ones(1000), torch.zeros(1000))

    def condition(self, prompt: str, negative_prompt: str, cameras: Cameras) -> Condition:
        nothing = Embedding(torch.zeros(len(cameras), 1, 1))
        return Condition(nothing, nothing)

    def encode(self, images: Tensor) -> Tensor:
        return images.permute(0, 3, 1, 2)

    def decode(self, latents: Tensor) -> Tensor:
        return latents.permute(0, 2, 3, 1)

    def predict(self, latents: Tensor, timesteps: Tensor, embedding: Embedding) -> Prediction:
        raise NotImplementedError("a pixel prior predicts nothing")


class TowardsTruth:
    """A rule that knows the answer: every view moves towards its true picture."""

    def __init__(self, solid: Solid) -> None:
        self.solid = solid

    def init(self, prior: PixelPrior, generator: torch.Generator) -> None:
        return None

    def __call__(self, view: View, prior: PixelPrior, state: None, generator: torch.Generator):
        truth = render_truth(self.solid, view.cameras)
        return Gradient(targets=truth.over(view.backgrounds[:, None, None])), None


def look_at_splats(splats: Splats, renderer) -> Look:
    def look(cameras: Cameras) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            render = renderer(splats, cameras, torch.zeros(len(cameras), 3))
        return render.images, render.alphas

    return look


def look_at_truth(scene: Scene) -> Look:
    solid = build(scene)

    def look(cameras: Cameras) -> tuple[Tensor, Tensor]:
        truth = render_truth(solid, cameras)
        return truth.images, truth.alphas

    return look


def look_through_autoencoder(scene: Scene, prior) -> Look:
    """The truth encoded and decoded; its mask stays the truth's, since an autoencoder has no mask."""

    def look(cameras: Cameras) -> tuple[Tensor, Tensor]:
        colours, alphas = look_at_truth(scene)(cameras)
        with torch.no_grad():
            decoded = prior.decode(prior.encode(colours + (1 - alphas) * GREY)).clamp(0, 1)
        # A prior of another size than the yardstick's enlarged the pictures before it looked.
        decoded = interpolate(decoded.permute(0, 3, 1, 2), alphas.shape[1:3], mode="bilinear", antialias=True)
        return decoded.permute(0, 2, 3, 1) - (1 - alphas) * GREY, alphas

    return look


def disc(cameras: Cameras, centre: float, radius: float) -> Tensor:
    """The exact mask of a ball at height `centre` on the vertical axis."""
    size = cameras.height
    focal = cameras.Ks[:, 0, 0][:, None, None]
    line = torch.arange(size) + 0.5 - 0.5 * size
    rays = torch.stack(
        [line[None, None] / focal + 0 * line[None, :, None], line[None, :, None] / focal + 0 * line[None, None]], -1
    )
    rays = torch.nn.functional.normalize(torch.cat([rays, torch.ones_like(rays[..., :1])], -1), dim=-1)
    middle = cameras.viewmats[:, :3, :3] @ torch.tensor([0.0, 0.0, centre]) + cameras.viewmats[:, :3, 3]
    along = torch.einsum("bhwc,bc->bhw", rays, middle)
    apart = middle.square().sum(-1)[:, None, None] - along.square()
    return (apart < radius**2).float()[..., None]


def look_at_sphere(scene: Scene) -> Look:
    """The best floor that knows the answer: the ball of one colour whose mask and mean colour fit the truth best."""
    solid, cameras = build(scene), turning_cameras()
    truth = render_truth(solid, cameras)
    tries = [(float(c), float(r)) for c in np.linspace(-0.5, 0.5, 11) for r in np.linspace(0.25, 1.0, 31)]
    centre, radius = max(tries, key=lambda t: silhouette_iou(disc(cameras, *t), truth.alphas))
    colour = truth.images.sum((0, 1, 2)) / truth.alphas.sum()

    def look(cameras: Cameras) -> tuple[Tensor, Tensor]:
        alphas = disc(cameras, centre, radius)
        return alphas * colour, alphas

    return look


def fitted_splats(scene: Scene, recipe: Recipe) -> Splats:
    """Splats that were shown the truth itself, by the same loop with the same cloud, cameras and steps."""
    *_, step = dream(recipe, prior=PixelPrior(), distiller=TowardsTruth(build(scene)))
    return step.state.splats


def make_look(row: str, scenes: list[Scene], index: int, recipe: Recipe, prior, kept: Path) -> tuple[Look, dict]:
    """The row's answer to one prompt and, of splats that took time, seconds, peak memory, evaluations of the prior.

    Such splats are kept as `kept` and taken from there the next time.
    """
    scene = scenes[index]
    renderer = find("renderer", "cpu")
    makers: dict[str, Callable[[], Look]] = {
        "truth": lambda: look_at_truth(scene),
        "truth through VAE": lambda: look_through_autoencoder(scene, prior),
        "sphere": lambda: look_at_sphere(scene),
        "other truth": lambda: look_at_truth(scenes[(index + 5) % len(scenes)]),
        "initial cloud": lambda: look_at_splats(unseen(recipe), renderer),
    }
    if row in makers:
        return makers[row](), {}
    record = kept.with_suffix(".made.json")
    if not record.exists():
        began, meter = time.monotonic(), Meter(prior)
        splats = fitted_splats(scene, recipe) if row == "fitted splats" else dreamt(recipe, meter)
        made = {"seconds": time.monotonic() - began, "memory": peak_memory(), "evaluations": meter.count}
        write_ply(splats, kept)
        record.write_text(json.dumps(made))
    return look_at_splats(read_ply(kept), renderer), json.loads(record.read_text())


class Meter:
    """A prior that counts what it is asked, by the latents it sees."""

    def __init__(self, prior) -> None:
        self.count, self._prior = 0, prior

    def __getattr__(self, name: str):
        return getattr(self._prior, name)

    def predict(self, latents, timesteps, embedding):
        self.count += len(latents)
        return self._prior.predict(latents, timesteps, embedding)


def dreamt(recipe: Recipe, prior) -> Splats:
    """What `splatdream generate` writes: the last step's cloud, tidied."""
    *_, step = dream(recipe, prior=prior)
    return tidied(step.state.splats, read_criteria("splats"))


def unseen(recipe: Recipe) -> Splats:
    """The cloud that a run begins with."""
    return first_cloud(recipe, torch.Generator().manual_seed(recipe.seed), torch.device("cpu"))
