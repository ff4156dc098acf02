"""Every family on our interface against its own stock pipeline, on tiny random folders."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from families import FAMILIES, sd3_folder
from torch import Tensor

from splatdream import Recipe, dream
from splatdream.cameras import orbit
from splatdream.export import read, write
from splatdream.guidance import guided
from splatdream.priors.diffusion import DiffusionPrior
from splatdream.priors.view_words import NoWords
from splatdream.schedule import ddim_step

PROMPT, NEGATIVE, SCALE = "a red mug with a hat", "blue", 4.0
SIGMAS = [1.0, 0.8, 0.6, 0.4, 0.2]


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory) -> Path:
    return FAMILIES[request.param](tmp_path_factory.mktemp("family") / "model")


@pytest.fixture(scope="module")
def prior(folder) -> DiffusionPrior:
    return DiffusionPrior.load(folder, view_words=NoWords())


def noise(prior: DiffusionPrior) -> Tensor:
    side = prior.image_size // prior.factor
    channels = prior.unet.config.in_channels
    return torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(3))


def stock(folder: Path, prior: DiffusionPrior, negative: str | None) -> tuple[Tensor, list[int], bool]:
    """The stock pipeline's picture, our timesteps of its steps, and whether its last step leaves some noise."""
    lacks_t5 = json.loads((folder / "model_index.json").read_text()).get("text_encoder_3", [""])[0] is None
    pipeline = DiffusionPipeline.from_pretrained(
        folder, **({"text_encoder_3": None, "tokenizer_3": None} if lacks_t5 else {})
    )
    pipeline.set_progress_bar_config(disable=True)
    side = prior.image_size
    flows = prior.family.kind == "flow"
    told = {"sigmas": SIGMAS} if flows else {"num_inference_steps": len(SIGMAS)}
    if type(pipeline).__name__ == "SanaPipeline":
        told |= {"use_resolution_binning": False, "clean_caption": False}
        negative = negative or ""
    images = pipeline(
        PROMPT, negative_prompt=negative, guidance_scale=SCALE, latents=noise(prior), height=side, width=side,
        output_type="pt", **told,
    ).images  # fmt: skip
    if flows:  # the table's entry t is the share (t + 1) / T before the shift, and the last step ends in the clean
        return images, [round(1000 * s) - 1 for s in SIGMAS], False
    return images, pipeline.scheduler.timesteps.tolist(), not pipeline.scheduler.config.set_alpha_to_one


def ours(prior: DiffusionPrior, negative: str, timesteps: list[int], noisy_end: bool) -> Tensor:
    """DDIM, which on a straight path is Euler's method, from nothing but `predict` and `schedule`."""
    condition = prior.condition(PROMPT, negative, orbit(1, prior.image_size))
    x = noise(prior)
    for now, after in zip(timesteps, [*timesteps[1:], None], strict=True):
        prediction = guided(prior, x, torch.tensor([now]), condition, SCALE)
        if after is None and not noisy_end:
            x = prediction.x0
        else:
            x = ddim_step(prior.schedule, prediction, torch.tensor([after or 0]))
    return prior.decode(x).clamp(0, 1).permute(0, 3, 1, 2)


@pytest.mark.parametrize("negative", ["", NEGATIVE])
def test_sampling_on_our_interface_draws_what_the_stock_pipeline_draws(folder, prior, negative) -> None:
    """Prompt encoding, guidance, scaling, shift and the kind of answer are then all right, from pure noise on."""
    images, timesteps, noisy_end = stock(folder, prior, negative or None)
    assert images.std() > 0.01  # not a plain picture, which would prove nothing
    # Five steps of float32 through a random network, whose errors guidance multiplies by its scale.
    torch.testing.assert_close(ours(prior, negative, timesteps, noisy_end), images, atol=5e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["sd zero terminal SNR", "sd3", "sana"])
def test_the_first_of_those_steps_starts_from_nothing_but_noise(name, tmp_path) -> None:
    folder = FAMILIES[name](tmp_path)
    prior = DiffusionPrior.load(folder, view_words=NoWords())
    first = stock(folder, prior, None)[1][0]
    assert (prior.schedule.alphas[first], prior.schedule.sigmas[first]) == (0.0, 1.0)


@pytest.mark.parametrize("folder", ["sd eps", "sdxl", "sd3", "sana"], indirect=True)
def test_scale_and_shift_are_those_of_the_config(prior) -> None:
    """FIELD P13: encoding takes the shift and multiplies by what decoding divides by."""
    side = prior.image_size
    images = torch.rand(1, side, side, 3, generator=torch.Generator().manual_seed(0))
    output = prior.vae.encode(images.permute(0, 3, 1, 2) * 2 - 1)
    raw = output.latent_dist.mode() if "latent_dist" in output else output.latent
    shift = prior.vae.config.get("shift_factor") or 0.0
    torch.testing.assert_close(prior.encode(images), (raw - shift) * prior.vae.config.scaling_factor)
    decoded = prior.vae.decode(raw).sample.permute(0, 2, 3, 1) * 0.5 + 0.5
    torch.testing.assert_close(prior.decode(prior.encode(images)), decoded, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("folder", ["sd eps", "sana"], indirect=True)
def test_the_gradient_through_the_encoder_is_right(folder) -> None:
    prior = DiffusionPrior.load(folder, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    side = prior.image_size
    images = torch.rand(1, side, side, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    direction = torch.randn(images.shape, generator=generator, dtype=torch.float64)
    readout = torch.randn(prior.encode(images).shape, generator=generator, dtype=torch.float64)

    def loss(x: Tensor) -> Tensor:
        return (prior.encode(x) * readout).sum()

    (gradient,) = torch.autograd.grad(loss(images), images)
    # SANA's autoencoder attends in float32, whatever its precision: smaller steps would drown in rounding.
    step, rtol = (1e-4, 2e-3) if type(prior.vae).__name__ == "AutoencoderDC" else (1e-6, 1e-5)
    with torch.no_grad():
        numeric = (loss(images + step * direction) - loss(images - step * direction)) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), numeric, rtol=rtol, atol=1e-7)


@pytest.mark.parametrize("folder", ["sd eps", "sd v", "sdxl", "sd3", "sana"], indirect=True)
def test_a_short_run_ends_with_a_valid_file(folder, prior, tmp_path) -> None:
    recipe = Recipe("a red mug", steps=2, views=2, count=30, renderer="dense", device="cpu", distill="sds")
    *_, last = dream(recipe, prior=prior)
    write(last.state.splats, tmp_path / "mug.ply")
    assert len(read(tmp_path / "mug.ply").splats) == 30
    assert np.isfinite(last.residual)
    assert last.residual > 0


@pytest.mark.parametrize("folder", ["sd3", "sana"], indirect=True)
def test_a_student_of_what_is_no_unet_is_refused_before_the_first_step(prior) -> None:
    recipe = Recipe("a red mug", steps=1, views=1, count=30, renderer="dense", device="cpu", distill="vsd")
    with pytest.raises(ValueError, match=r"made of a UNet only.* or a rule without a student"):
        next(dream(recipe, prior=prior))


@pytest.mark.parametrize("folder", ["sdxl", "sd3", "sana"], indirect=True)
def test_views_are_told_apart_by_all_that_the_network_hears(folder) -> None:
    """Pooled vectors and masks belong to the words of each view as the tokens do."""
    prior = DiffusionPrior.load(folder)
    condition = prior.condition("a red mug", "", orbit(4, 32))
    for name, values in condition.cond.extras.items():
        assert len(values) == 4
        front = prior.embed("a red mug, front view").extras[name]
        torch.testing.assert_close(values[:1], front)
    both = condition.cond + condition.uncond
    assert len(both) == 8
    for name, values in both.extras.items():
        torch.testing.assert_close(values[4:], condition.uncond.extras[name])


def test_sd3_does_without_t5_when_its_files_are_not_there(tmp_path) -> None:
    import shutil

    whole = DiffusionPrior.load(sd3_folder(tmp_path / "model"))
    shutil.rmtree(tmp_path / "model" / "text_encoder_3")
    without = DiffusionPrior.load(tmp_path / "model")
    spoken, silent = whole.embed("a red mug").tokens, without.embed("a red mug").tokens
    assert spoken.shape == silent.shape
    assert not silent[:, -256:].any()
    assert spoken[:, -256:].any()
