"""Training data and training runs: the same for the same seed, and resumable without a trace."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tiny
import torch

from splatdream.corpus.captions import DEGRADATIONS, vocabulary
from splatdream.schedule import Schedule
from splatdream.train import denoiser
from splatdream.train.autoencoder import CROP, AutoencoderRun, random_crops
from splatdream.train.degrade import degrade
from splatdream.train.denoiser import Denoiser, DenoiserRun, Exercise, Lessons, draw_exercise
from splatdream.train.follow import restore, state_of
from splatdream.train.judges import JudgeRun
from splatdream.train.pictures import load_shard, make_pictures, make_shards
from splatdream.train.text import WINDOW, new_tokenizer, tokens
from splatdream.train.threads import Team, mean_gradients, team
from splatdream.train.weights import OPEN, SAME, SPOILED, weights_of


def test_the_same_seed_draws_the_same_pictures() -> None:
    one, same, other = make_pictures(6, 32, 5), make_pictures(6, 32, 5), make_pictures(6, 32, 6)
    assert np.array_equal(one.images, same.images)
    assert one.captions == same.captions
    assert not np.array_equal(one.images, other.images)


def test_captions_speak_the_vocabulary_and_some_are_empty() -> None:
    captions = make_pictures(300, 8, 1).captions
    words = set(" ".join(captions).replace(",", " ").split())
    assert words <= set(vocabulary())
    # A tenth of 300 with a standard deviation of 5.
    assert 10 < sum(not caption or caption in DEGRADATIONS for caption in captions) < 55


def test_shards_are_kept_and_read_back(tmp_path) -> None:
    (path,) = make_shards(tmp_path, 1, 16, per_shard=4, processes=1)
    stamp = path.stat().st_mtime_ns
    make_shards(tmp_path, 1, 16, per_shard=4, processes=1)
    assert path.stat().st_mtime_ns == stamp
    assert np.array_equal(load_shard(path).images, make_pictures(4, 16, 0).images)


@pytest.mark.parametrize("word", DEGRADATIONS)
def test_every_degradation_changes_the_picture_and_keeps_its_range(word) -> None:
    image = torch.from_numpy(make_pictures(2, 64, 3).images[0]).float() / 255
    spoiled = degrade(image, word, torch.Generator().manual_seed(0))
    assert spoiled.min() >= 0
    assert spoiled.max() <= 1
    assert (spoiled - image).abs().mean() > 0.002


def test_crops_prefer_the_object_to_the_background() -> None:
    images = make_pictures(8, 128, 2).images
    crops = random_crops(images, 32, np.random.default_rng(0))
    assert crops.shape == (32, 3, CROP, CROP)
    assert crops.std((2, 3)).mean() > 0.8 * (torch.from_numpy(images).float() / 127.5).std((1, 2)).mean()


def test_a_word_that_is_not_in_the_vocabulary_is_known_to_be_unknown() -> None:
    tokenizer = new_tokenizer()
    ids = tokens(tokenizer, ["a red mug, front view", "a frobnicated mug"])
    assert ids.shape == (2, WINDOW)
    assert (ids[1] == tokenizer.unk_token_id).sum() == 1
    assert (ids[0] == tokenizer.unk_token_id).sum() == 0


def test_a_run_taken_up_again_trains_as_if_it_had_never_stopped(monkeypatch) -> None:
    monkeypatch.setattr(denoiser, "new_unet", tiny.tiny_unet)
    monkeypatch.setattr(denoiser, "new_text_encoder", lambda tokenizer: tiny.tiny_text_encoder(len(tokenizer)))
    tokenizer = new_tokenizer(tiny.WORDS)
    latents = torch.randn(8, tiny.LATENT_CHANNELS, 4, 4, generator=torch.Generator().manual_seed(0))
    lessons = Lessons(latents, tokens(tokenizer, ["a red mug"] * 8), torch.randn(8, 16), torch.ones(8, 1, 4, 4))
    whole = DenoiserRun.new(tokenizer, 4, 0)
    losses = [loss for _, loss in whole.train(lessons, 8, 0)]
    half = DenoiserRun.new(tokenizer, 4, 0)
    for step, _ in half.train(lessons, 8, 0):
        if step == 2:
            break
    resumed = DenoiserRun.new(tokenizer, 4, 1)
    restore(resumed, state_of(half))
    assert [loss for _, loss in resumed.train(lessons, 8, 0)] == losses[2:]
    assert isinstance(resumed.model, Denoiser)
    for one, other in zip(whole.average.parameters(), resumed.average.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_group_of_views_shows_one_object_at_one_timestep() -> None:
    lessons = Lessons(
        torch.arange(16.0).reshape(16, 1, 1, 1),
        torch.arange(16)[:, None],
        torch.arange(16.0)[:, None] * torch.ones(16),
        torch.ones(16, 1, 1, 1),
    )
    schedule = Schedule.from_alphas_cumprod(denoiser.new_scheduler().alphas_cumprod)
    exercise = draw_exercise(lessons, schedule, 12, torch.Generator().manual_seed(0), views=4)
    scenes, timesteps = exercise.ids.reshape(3, 4) // 4, exercise.timesteps.reshape(3, 4)
    assert torch.equal(exercise.ids.reshape(3, 4) % 4, torch.arange(4).expand(3, 4))
    assert bool((scenes == scenes[:, :1]).all())
    assert bool((timesteps == timesteps[:, :1]).all())
    parts = [exercise.part(k, 2) for k in range(2)]
    assert [len(part.x_t) for part in parts] == [8, 4]
    assert torch.equal(torch.cat([part.ids for part in parts]), exercise.ids.reshape(3, 4)[[0, 2, 1]].reshape(-1, 1))


def test_what_cannot_be_told_counts_less() -> None:
    images = torch.full((5, 64, 64, 3), 200, dtype=torch.uint8)
    images[:, 24:40, 24:40] = 50
    images[:, 0, 1] += SAME  # as far from the corner as a background may be
    weights = weights_of(images, ["a red mug, front view", "a dark mug", "a red mug, noisy", "", "noisy"], (8, 8))
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[2:6, 2:6] = True  # the object's cells and their neighbours
    assert weights.shape == (5, 1, 8, 8)
    for clean in weights[:2]:
        assert torch.equal(clean[0], torch.where(inside, 1.0, OPEN))
    for unclear, flat in zip(weights[2:], (SPOILED, OPEN, OPEN), strict=True):
        assert torch.equal(unclear, torch.full((1, 8, 8), flat))


def test_a_background_of_the_corpus_is_told_from_its_object() -> None:
    pictures = make_pictures(40, 128, 4)
    weights = weights_of(torch.from_numpy(pictures.images), pictures.captions, (16, 16))
    clean = weights[(weights != weights[:, :, :1, :1]).flatten(1).any(1)]
    assert len(clean) > 20
    assert 0.25 < float((clean == 1.0).float().mean()) < 0.75
    assert float((clean[:, :, 7:9, 7:9] == 1.0).float().mean()) > 0.9  # objects stand in the middle


def test_pictures_without_their_camera_count_alike_everywhere() -> None:
    count = 400
    lessons = Lessons(
        torch.zeros(count, 1, 2, 2),
        torch.zeros(count, 1, dtype=torch.long),
        torch.ones(count, 16),
        torch.tensor([[1.0, OPEN], [OPEN, 1.0]]).expand(count, 1, 2, 2),
    )
    schedule = Schedule.from_alphas_cumprod(denoiser.new_scheduler().alphas_cumprod)
    exercise = draw_exercise(lessons, schedule, count, torch.Generator().manual_seed(0))
    told = exercise.cameras[:, 0] > 0
    assert 0 < int((~told).sum()) < count // 2
    assert bool((exercise.weights[~told] == OPEN).all())
    assert torch.equal(exercise.weights[told], lessons.weights[told])


def test_the_loss_weighs_each_latent(monkeypatch) -> None:
    monkeypatch.setattr(denoiser, "new_unet", tiny.tiny_unet)
    monkeypatch.setattr(denoiser, "new_text_encoder", lambda tokenizer: tiny.tiny_text_encoder(len(tokenizer)))
    tokenizer = new_tokenizer(tiny.WORDS)
    model = Denoiser(tokenizer)
    x_t = torch.randn(2, tiny.LATENT_CHANNELS, 4, 4, generator=torch.Generator().manual_seed(0))
    timesteps, ids, cameras = torch.tensor([100, 900]), tokens(tokenizer, ["a red mug"] * 2), torch.randn(2, 16)
    weights = torch.ones(2, 1, 4, 4)
    weights[0, 0, 1, 2], weights[1, 0, 3, 3] = 0.25, 0.0
    v = model(x_t, timesteps, ids, cameras).detach()
    v[0, :, 1, 2] += 2.0
    v[1, :, 3, 3] += 2.0
    loss = Exercise(x_t, v, timesteps, ids, cameras, weights).loss(model)
    assert float(loss.detach()) == pytest.approx(0.25 * 2.0**2 / (2 * 4 * 4), rel=1e-3)


def test_parts_of_a_batch_have_the_gradient_of_the_whole() -> None:
    model = torch.nn.Linear(3, 2)
    inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    whole = torch.autograd.grad(model(inputs).square().mean(), list(model.parameters()))
    with ThreadPoolExecutor(2) as pool:
        loss = mean_gradients(Team(2, pool), lambda k, count: model(inputs[k::count]).square().mean(), model)
    assert loss == pytest.approx(float(model(inputs).detach().square().mean()), rel=1e-6)
    for expected, parameter in zip(whole, model.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected)


def test_a_team_leaves_new_threads_as_many_as_before() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with team(torch.device("cpu"), 2) as both:
            assert list(both.pool.map(lambda k: torch.get_num_threads(), range(both.size))) == [1, 1]
        with ThreadPoolExecutor(1) as new:
            assert new.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(before)


def test_judges_taken_up_again_learn_as_if_they_had_never_stopped() -> None:
    whole = JudgeRun.new(3, 0)
    losses = [loss for _, loss in whole.train(4, 0)]
    half = JudgeRun.new(3, 0)
    next(half.train(4, 0))
    resumed = JudgeRun.new(3, 1)
    restore(resumed, state_of(half))
    assert [loss for _, loss in resumed.train(4, 0)] == losses[1:]
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("what", ["judges", "autoencoder"])
def test_threads_learn_what_one_would(what, tmp_path) -> None:
    before, gradients = torch.get_num_threads(), []
    shards = make_shards(tmp_path, 1, 64, per_shard=8, processes=1)
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            run = JudgeRun.new(1, 0) if what == "judges" else AutoencoderRun.new(1, 0)
            next(run.train(8, 0) if isinstance(run, JudgeRun) else run.train(shards, 8, 0))
            gradients.append([each.grad for each in run.model.parameters()])
    finally:
        torch.set_num_threads(before)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_judges_refuse_a_batch_that_does_not_divide() -> None:
    with pytest.raises(ValueError, match="multiple of 4; got 6"):
        next(JudgeRun.new(1, 0).train(6, 0))
