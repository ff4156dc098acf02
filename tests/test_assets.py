"""What ships: within its bounds, loadable by the stock classes, and speaking the words that it lists."""

import pytest
import torch

from splatdream.cameras import orbit
from splatdream.corpus.attributes import choices
from splatdream.corpus.captions import caption
from splatdream.corpus.scenes import Scene, Thing, build
from splatdream.corpus.truth import render_truth
from splatdream.inspect.judge import SIZES, Judge
from splatdream.inspect.yardstick import read_scenes
from splatdream.priors import builtin_folder, load_prior
from splatdream.priors.words import known_words, unknown_words

ASSETS = builtin_folder().parent
MB = 2**20


def test_everything_that_ships_stays_within_its_bounds() -> None:
    sizes = [path.stat().st_size for path in ASSETS.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(sizes) <= 40 * MB
    assert max(sizes) <= 15 * MB


def test_the_built_in_prior_encodes_asks_and_answers_finite_numbers() -> None:
    prior = load_prior("builtin", "a red ball")
    cameras = orbit(2, prior.image_size)
    latents = prior.encode(torch.full((2, prior.image_size, prior.image_size, 3), 0.5))
    condition = prior.condition("a red ball", "", cameras)
    answer = prior.predict(latents, torch.tensor([100, 900]), condition.cond)
    assert answer.x0.shape == latents.shape
    assert answer.x0.isfinite().all()


def test_every_prompt_of_the_yardstick_is_in_the_priors_words() -> None:
    for name in ("trained", "held_out", "tune"):
        for scene in read_scenes(ASSETS / "prompts.toml", name):
            assert unknown_words(caption(scene)) == []
    assert {"red", "snowman", "on", "view"} <= set(known_words())


@pytest.mark.parametrize("words", ["a photo of a red ball", "one ball, red"])
def test_the_judge_ranks_captions_of_a_true_object(words) -> None:
    judge = Judge.load(ASSETS / "judge")
    truth = render_truth(build(Scene(Thing("ball", "red"))), orbit(4, 64)).over(torch.full((3,), 0.6))
    scores = judge.scores(truth, [words, "a blue ball", "a red castle", "a red ball on top of a red castle"])
    assert int(scores.argmax()) == 0
    assert scores.max() <= 0.0  # log likelihoods


def test_the_judge_reads_every_prompt_of_the_yardstick() -> None:
    judge = Judge.load(ASSETS / "judge")
    scenes = [scene for name in ("trained", "held_out") for scene in read_scenes(ASSETS / "prompts.toml", name)]
    meant = judge.read([caption(scene) for scene in scenes]).split(SIZES, 1)
    for scene, *parts in zip(scenes, *meant, strict=True):
        assert [int(part.argmax()) for part in parts] == choices(scene), caption(scene)
