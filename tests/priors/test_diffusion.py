"""Latent diffusion from a diffusers folder: the real classes with random weights, loaded by the real code."""

import pytest
import torch
from diffusers import StableDiffusionPipeline
from tiny import tiny_prior_folder

from splatdream.cameras import orbit
from splatdream.guidance import guided
from splatdream.priors import diffusion
from splatdream.priors.diffusion import DiffusionPrior
from splatdream.priors.view_words import NoWords
from splatdream.schedule import ddim_step


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("prior")
    tiny_prior_folder(path)
    return path


@pytest.fixture(scope="module")
def prior(folder) -> DiffusionPrior:
    return DiffusionPrior.load(folder)


def test_every_view_is_asked_for_with_its_own_word(prior) -> None:
    """FIELD P4: computing view-dependent texts and never using them."""
    cameras = orbit(4, 32)
    condition = prior.condition("a red mug", "blurry", cameras)
    for k, word in enumerate(("front", "side", "back", "side")):
        torch.testing.assert_close(condition.cond.tokens[k : k + 1], prior.embed(f"a red mug, {word} view").tokens)
    assert not torch.equal(condition.cond.tokens[0], condition.cond.tokens[2])
    torch.testing.assert_close(condition.uncond.tokens, prior.embed("blurry", negative=True).tokens.expand(4, -1, -1))


def test_a_prior_that_knows_cameras_is_told_them_with_both_prompts(tmp_path) -> None:
    prior = DiffusionPrior.load(tiny_prior_folder(tmp_path, cameras=True))
    cameras = orbit(4, 32)
    condition = prior.condition("a red mug", "blurry", cameras)
    assert condition.cond.cameras is not None
    assert condition.uncond.cameras is not None
    torch.testing.assert_close(condition.cond.cameras, condition.uncond.cameras)
    latents = torch.zeros(2, 4, 4, 4)
    front, back = prior.predict(latents, torch.tensor([500, 500]), condition.uncond[[0, 2]]).value
    assert not torch.allclose(front, back)


def test_view_words_can_be_left_out(folder) -> None:
    plain = DiffusionPrior.load(folder, view_words=NoWords())
    condition = plain.condition("a red mug", "", orbit(2, 32))
    assert torch.equal(condition.cond.tokens[0], condition.cond.tokens[1])


def test_the_gradient_through_the_encoder_is_right(folder) -> None:
    prior = DiffusionPrior.load(folder, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, 32, 32, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    direction = torch.randn(images.shape, generator=generator, dtype=torch.float64)
    readout = torch.randn(prior.encode(images).shape, generator=generator, dtype=torch.float64)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return (prior.encode(x) * readout).sum()

    (gradient,) = torch.autograd.grad(loss(images), images)
    step = 1e-6
    with torch.no_grad():
        numeric = (loss(images + step * direction) - loss(images - step * direction)) / (2 * step)
    # The encoder is piecewise smooth: central differences in float64 agree to about step^2 away from its kinks.
    torch.testing.assert_close((gradient * direction).sum(), numeric, rtol=1e-5, atol=1e-7)


def test_pictures_of_another_size_are_brought_to_the_priors_own(prior) -> None:
    grey = torch.full((1, 48, 48, 3), 0.3)
    small = torch.full((1, prior.image_size, prior.image_size, 3), 0.3)
    torch.testing.assert_close(prior.encode(grey), prior.encode(small), atol=1e-4, rtol=1e-4)


def test_ddim_on_our_interface_draws_what_the_stock_pipeline_draws(folder, prior) -> None:
    """Prompt encoding, guidance, scaling and prediction kind are then all right."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, feature_extractor=None)
    pipeline.set_progress_bar_config(disable=True)
    size = prior.image_size // prior.factor
    channels = prior.unet.config.in_channels
    noise = torch.randn(1, channels, size, size, generator=torch.Generator().manual_seed(3))
    side = prior.image_size
    stock = pipeline(
        "a red mug, front view", guidance_scale=4.0, num_inference_steps=5, latents=noise, height=side, width=side,
        output_type="pt",
    ).images  # fmt: skip

    condition = prior.condition("a red mug", "", orbit(1, side))
    timesteps = pipeline.scheduler.timesteps.tolist()
    x = noise
    for now, after in zip(timesteps, [*timesteps[1:], None], strict=True):
        prediction = guided(prior, x, torch.tensor([now]), condition, 4.0)
        x = prediction.x0 if after is None else ddim_step(prior.schedule, prediction, torch.tensor([after]))
    ours = prior.decode(x).clamp(0, 1).permute(0, 3, 1, 2)
    torch.testing.assert_close(ours, stock, atol=2e-4, rtol=1e-3)


def test_the_decoded_mean_is_kept_by_scale_and_shift(prior) -> None:
    """Scale and shift are read from the config (FIELD P13): encoding divides what decoding multiplies."""
    images = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        pixels = images.permute(0, 3, 1, 2) * 2 - 1
        raw = prior.vae.encode(pixels).latents
        torch.testing.assert_close(prior.encode(images), raw * prior.vae.config.scaling_factor)
        decoded = prior.vae.decode(raw).sample.permute(0, 2, 3, 1) * 0.5 + 0.5
        torch.testing.assert_close(prior.decode(prior.encode(images)), decoded, atol=1e-5, rtol=1e-4)


def test_a_folder_that_is_no_prior_is_named(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="model_index"):
        DiffusionPrior.load(tmp_path)
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(ValueError, match=r"FluxPipeline, which cannot serve as a prior: .* choose one of StableDiff"):
        DiffusionPrior.load(tmp_path)


def test_texts_of_prompts_that_came_and_went_are_not_kept_for_ever(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(diffusion, "KEPT", 3)
    prior = DiffusionPrior.load(tiny_prior_folder(tmp_path / "tiny"))
    first = prior.condition("a red mug", "", orbit(2, 32)).cond.tokens
    for prompt in ("a ball", "a red ball", "a blue mug", "a blue ball"):
        prior.condition(prompt, "", orbit(2, 32))
    assert len(prior._texts) <= 5
    assert torch.equal(prior.condition("a red mug", "", orbit(2, 32)).cond.tokens, first)
