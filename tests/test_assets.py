"""What ships: within its bounds, loadable by the stock classes, and speaking the words that it lists."""

import torch

from splatdream.cameras import orbit
from splatdream.corpus.captions import caption
from splatdream.inspect.judge import Judge
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


def test_the_judge_reads_every_prompt_of_the_yardstick() -> None:
    judge = Judge.load(ASSETS / "judge")
    captions = [caption(scene) for scene in read_scenes(ASSETS / "prompts.toml", "trained")]
    scores = judge.scores(torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(0)), captions)
    assert scores.shape == (12,)
    assert scores.abs().max() <= 1.0 + 1e-5
