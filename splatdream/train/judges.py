"""Training of the judges: each tower learns to name the attributes of the scene that it sees or reads of.

Contrastive training, with near misses of each caption as further negatives, was tried first: with the same pictures
the right caption of a true object then won 0.74 of the time among 65, and 0.57 where training had held its words out.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d, cross_entropy, nll_loss

from splatdream.cameras import CameraSampler, random_backgrounds, view_word
from splatdream.corpus.attributes import choices
from splatdream.corpus.captions import caption, random_scene, vocabulary
from splatdream.corpus.scenes import build
from splatdream.corpus.truth import render_truth
from splatdream.inspect.judge import LOOK, SIDES, SIZES, Judge
from splatdream.train.follow import follow, step_seed
from splatdream.train.muon import Optimiser
from splatdream.train.rate import falling_rate
from splatdream.train.threads import mean_gradients, team

PARTS = 4
"""Of a batch, each with its own seed and loss, so that threads which share them learn what one thread would."""


@dataclass(frozen=True)
class Lesson:
    """Pictures of B scenes with captions, the scenes' attributes, and the side that each shows (-1: no front)."""

    images: Float[Tensor, "B H W 3"]
    captions: list[str]
    choices: Int[Tensor, "B heads"]
    sides: Int[Tensor, " B"]


def draw_lesson(count: int, seed: int) -> Lesson:
    """Scenes, each from one side, on one background and in some words.

    Held-out ones too: they test what the prior makes of new combinations, and a judge that has never met a blue ball
    either takes it for another kind. No picture is ever drawn again: few that are seen often are learnt by heart.
    """
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    sampler = CameraSampler()
    images, captions, chosen, sides = [], [], [], []
    for _ in range(count):
        scene, camera = random_scene(rng), sampler(1, LOOK, generator)
        images.append(render_truth(build(scene), camera).over(random_backgrounds(1, generator)[:, None, None]))
        captions.append(caption(scene, rng))
        chosen.append(choices(scene))
        side = view_word(float(camera.azimuths[0]), 0.0)
        sides.append(SIDES.index(side) if scene.has_front() else -1)
    seen = jitter(torch.cat(images).clamp(0, 1), generator)
    return Lesson(seen, captions, torch.tensor(chosen), torch.tensor(sides))


def jitter(images: Tensor, generator: torch.Generator) -> Tensor:
    """A little noise and blur, so that the judges do not lean on the corpus's perfectly sharp pictures."""
    noisy = images + 0.04 * torch.rand(len(images), 1, 1, 1, generator=generator) * torch.randn(
        images.shape, generator=generator
    )
    blurred = avg_pool2d(noisy.permute(0, 3, 1, 2), 5, 1, 2, count_include_pad=False)
    share = 0.7 * torch.rand(len(images), 1, 1, 1, generator=generator)
    return (noisy.lerp(blurred.permute(0, 2, 3, 1), share)).clamp(0, 1)


def judge_loss(judge: Judge, lesson: Lesson) -> Tensor:
    """What naming the attributes costs the eye and the reader, and naming the side the other eye, in nats a picture."""
    loss = _surprise(judge.look(lesson.images), lesson.choices) + _surprise(judge.read(lesson.captions), lesson.choices)
    fronted = lesson.sides >= 0
    if bool(fronted.any()):
        loss = loss + cross_entropy(judge.side_eye(lesson.images[fronted]), lesson.sides[fronted])
    return loss


def _surprise(said: Float[Tensor, "B A"], chosen: Int[Tensor, "B heads"]) -> Tensor:
    return torch.stack([nll_loss(part, chosen[:, i]) for i, part in enumerate(said.split(SIZES, 1))]).sum()


@dataclass
class JudgeRun:
    """A training run that can be stopped and taken up again."""

    parts: ClassVar[tuple[str, ...]] = ("model", "optimiser")

    model: Judge
    optimiser: Optimiser
    total: int
    rate: float
    step: int = 0

    @classmethod
    def new(cls, total: int, seed: int, rate: float = 2e-3) -> "JudgeRun":
        torch.manual_seed(seed)  # torch initialises its layers from the global generator
        judge = Judge(vocabulary())
        return cls(judge, Optimiser(judge, rate), total, rate)

    def train(self, batch: int, seed: int) -> Iterator[tuple[int, float]]:
        """Yields (step, loss) until `total`. ValueError for a batch that is no multiple of `PARTS`."""
        if batch % PARTS:
            raise ValueError(f"the judges' batch is a multiple of {PARTS}; got {batch}")
        with team(torch.device("cpu"), PARTS) as together:
            while self.step < self.total:
                loss = mean_gradients(together, partial(self._loss, batch // PARTS, seed), self.model)
                self.optimiser.step(self.rate_now(), together.pool)
                self.step += 1
                yield self.step, loss

    def rate_now(self) -> float:
        return falling_rate(self.step, self.total, peak=self.rate, warmup=100, floor=0.02)

    def _loss(self, size: int, seed: int, k: int, count: int) -> Tensor:
        """Of the k-th of `count` equal shares of the batch's parts, `size` pictures each; every part has its seed."""
        first = step_seed(seed, self.step) * PARTS
        parts = [judge_loss(self.model, draw_lesson(size, first + part)) for part in range(k, PARTS, count)]
        return torch.stack(parts).mean()


def teach_judges(options: argparse.Namespace, deadline: float) -> bool:
    """Trains the judges from a seed of their own and writes them, unfinished too; False when time ran out first."""
    run = JudgeRun.new(options.steps, options.seed + 77)
    steps = run.train(2 * options.batch, options.seed + 77)
    finished = follow("judges", run, steps, options.work / "judges.pt", deadline)
    run.model.save(options.out / "judge")
    return finished
