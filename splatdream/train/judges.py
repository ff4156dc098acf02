"""Training of the judges: contrastive, with near misses of each caption as extra negatives."""

import argparse
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from splatdream.cameras import CameraSampler, random_backgrounds, view_word
from splatdream.corpus.captions import caption, training_scene, vocabulary
from splatdream.corpus.distractors import near_scenes
from splatdream.corpus.scenes import Scene, build
from splatdream.corpus.truth import Solid, render_truth
from splatdream.inspect.judge import LOOK, SIDES, Judge
from splatdream.train.follow import follow, step_seed
from splatdream.train.rate import descend, falling_rate

NEAR = 6
"""Near misses per picture in the contrastive loss."""
LOOKS, APART = 4, 40
"""In how many steps each scene is shown, from another side and in other words each time, and how far they lie apart."""


@dataclass(frozen=True)
class Lesson:
    """Pictures with their captions, NEAR wrong captions each, and the side that each shows (-1: it has no front)."""

    images: Tensor  # B H W 3
    captions: list[str]
    near: list[list[str]]
    sides: Tensor  # B


def draw_scenes(count: int, seed: int) -> list[tuple[Scene, Solid]]:
    """`count` scenes that the held-out rule leaves to training, with their bodies, the same for the same seed."""
    rng = np.random.default_rng(seed)
    scenes = [training_scene(rng) for _ in range(count)]
    return [(scene, build(scene)) for scene in scenes]


def make_lesson(drawn: list[tuple[Scene, Solid]], seed: int) -> Lesson:
    """A picture of each scene from a side, on a background and in words that follow from the seed."""
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    sampler = CameraSampler()
    images, captions, near, sides = [], [], [], []
    for scene, solid in drawn:
        camera = sampler(1, LOOK, generator)
        images.append(render_truth(solid, camera).over(random_backgrounds(1, generator)[:, None, None]))
        captions.append(caption(scene, rng))
        misses = [caption(edit, rng) for edit in near_scenes(scene, rng)]
        near.append([str(rng.choice(misses)) for _ in range(NEAR)])
        word = view_word(float(camera.azimuths[0]), 0.0)
        sides.append(SIDES.index(word) if scene.has_front() else -1)
    return Lesson(torch.cat(images).clamp(0, 1), captions, near, torch.tensor(sides))


def jitter(images: Tensor, generator: torch.Generator) -> Tensor:
    """A little noise and blur, so that the judges do not lean on the corpus's perfectly sharp pictures."""
    noisy = images + 0.04 * torch.rand(len(images), 1, 1, 1, generator=generator) * torch.randn(
        images.shape, generator=generator
    )
    blurred = torch.nn.functional.avg_pool2d(noisy.permute(0, 3, 1, 2), 3, 1, 1, count_include_pad=False)
    share = 0.7 * torch.rand(len(images), 1, 1, 1, generator=generator)
    return (noisy.lerp(blurred.permute(0, 2, 3, 1), share)).clamp(0, 1)


def judge_loss(judge: Judge, lesson: Lesson, generator: torch.Generator) -> tuple[Tensor, float]:
    """The symmetric contrastive loss with near misses plus the side loss, and how often the right caption wins."""
    images = jitter(lesson.images, generator)
    loss, right = caption_loss(judge, images, lesson)
    fronted = lesson.sides >= 0
    if bool(fronted.any()):
        loss = loss + cross_entropy(judge.side_eye(images[fronted]), lesson.sides[fronted])
    return loss, right


def caption_loss(judge: Judge, images: Tensor, lesson: Lesson) -> tuple[Tensor, float]:
    count = len(images)
    seen = judge.look(images)
    read = judge.read(lesson.captions + [words for row in lesson.near for words in row])
    right, wrong = read[:count], read[count:].reshape(count, NEAR, -1)
    scale = torch.exp(-judge.log_temperature).clamp(max=100.0)
    logits = scale * torch.cat([seen @ right.T, torch.einsum("be,bne->bn", seen, wrong)], dim=1)
    target = torch.arange(count)
    loss = cross_entropy(logits, target) + cross_entropy(logits[:, :count].T, target)
    return loss, float((logits.argmax(1) == target).float().mean())


@dataclass
class JudgeRun:
    """A training run that can be stopped and taken up again; of each step's scenes one in LOOKS is new.

    Few pictures seen often are learnt by heart: on 12,480 of them the judges came to 96 % there and 50 % elsewhere, and
    pictures shown four times within 120 steps were still learnt for those steps alone. Scenes are slow to build (15 ms)
    and quick to draw (1 ms), so no picture is ever shown twice.
    """

    parts: ClassVar[tuple[str, ...]] = ("model", "optimiser")

    model: Judge
    optimiser: torch.optim.AdamW
    total: int
    rate: float
    step: int = 0

    @classmethod
    def new(cls, total: int, seed: int, rate: float = 1.5e-3) -> "JudgeRun":
        torch.manual_seed(seed)  # torch initialises its layers from the global generator
        judge = Judge(vocabulary())
        return cls(judge, torch.optim.AdamW(judge.parameters(), lr=rate, weight_decay=0.02), total, rate)

    def train(self, batch: int, seed: int) -> Iterator[tuple[int, float]]:
        """Yields (step, loss) until `total`."""
        generator, fresh = torch.Generator(), -(-batch // LOOKS)
        back = (LOOKS - 1) * APART
        drawn = deque(
            (draw_scenes(fresh, step_seed(seed + 1, s)) for s in range(self.step - back, self.step)), maxlen=back + 1
        )
        while self.step < self.total:
            drawn.append(draw_scenes(fresh, step_seed(seed + 1, self.step)))
            shown = [each for k in range(LOOKS) for each in drawn[k * APART]]
            lesson = make_lesson(shown, step_seed(seed + 2, self.step))
            generator.manual_seed(step_seed(seed, self.step))
            self.optimiser.param_groups[0]["lr"] = falling_rate(
                self.step, self.total, peak=self.rate, warmup=100, floor=0.02
            )
            loss, _ = judge_loss(self.model, lesson, generator)
            descend(self.model, self.optimiser, loss)
            self.step += 1
            yield self.step, float(loss.detach())


def teach_judges(options: argparse.Namespace, deadline: float) -> bool:
    """Trains the judges from a seed of their own and writes them, unfinished too; False when time ran out first."""
    run = JudgeRun.new(options.steps, options.seed + 77)
    steps = run.train(2 * options.batch, options.seed + 77)
    finished = follow("judges", run, steps, options.work / "judges.pt", deadline)
    run.model.save(options.out / "judge")
    return finished
