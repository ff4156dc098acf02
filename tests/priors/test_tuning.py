"""Fine-tunes: what a LoRA and a new word do here is what they do in the stock pipeline."""

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from families import sana_folder, sd_folder, sdxl_folder
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from tiny import WIDTH, tiny_autoencoder

from splatdream.cameras import orbit
from splatdream.priors import load_prior
from splatdream.priors.diffusion import DiffusionPrior
from splatdream.priors.models import Wanted
from splatdream.priors.tuning import tune


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return sd_folder(tmp_path_factory.mktemp("tuning"))


@pytest.fixture(scope="module")
def lora(folder, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("lora")
    unet = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None).unet
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet.add_adapter(LoraConfig(r=2, init_lora_weights=False, target_modules=["to_q", "to_v"]))
    layers = get_peft_model_state_dict(unet)
    StableDiffusionPipeline.save_lora_weights(path, unet_lora_layers=layers, weight_name="style.safetensors")
    return path / "style.safetensors"


def answer(prior) -> torch.Tensor:
    condition = prior.condition("a red mug", "", orbit(1, 32))
    latents = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    return prior.predict(latents, torch.tensor([500]), condition.cond).value


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_a_lora_does_what_it_does_in_the_stock_pipeline(folder, lora, scale) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.load_lora_weights(lora.parent, weight_name=lora.name)
    pipeline.set_adapters(pipeline.get_active_adapters(), scale)
    prior = load_prior(f"{folder};lora={lora}:{scale}", "a red mug")
    tokens = prior.embed("a red mug, front view").tokens
    latents = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = pipeline.unet(latents, torch.tensor([500]), encoder_hidden_states=tokens).sample
    torch.testing.assert_close(answer(prior), expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(answer(prior), answer(DiffusionPrior.load(folder)), atol=1e-3)


def test_a_folder_with_a_lora_and_several_loras_add_up(folder, lora, tmp_path) -> None:
    shutil.copy(lora, tmp_path / "pytorch_lora_weights.safetensors")
    twice = load_prior(f"{folder};lora={lora}:0.25;lora={tmp_path}:0.75", "a red mug")
    once = load_prior(f"{folder};lora={lora}", "a red mug")
    torch.testing.assert_close(answer(twice), answer(once), atol=1e-5, rtol=1e-4)


def test_of_several_files_in_a_folder_the_one_of_diffusers_name_is_the_lora(folder, lora, tmp_path) -> None:
    for name in ("a", "b"):
        save_file({key: 5 * value for key, value in load_file(lora).items()}, tmp_path / f"{name}.safetensors")
    with pytest.raises(ValueError, match=r"holds 2 files of \.safetensors: say which one is the LoRA"):
        load_prior(f"{folder};lora={tmp_path}", "a red mug")
    shutil.copy(lora, tmp_path / "pytorch_lora_weights.safetensors")
    found = answer(load_prior(f"{folder};lora={tmp_path}", "a red mug"))
    torch.testing.assert_close(found, answer(load_prior(f"{folder};lora={lora}", "a red mug")))


def test_a_lora_of_another_architecture_is_refused(lora, folder, tmp_path) -> None:
    with pytest.raises(ValueError, match="does not fit a StableDiffusionXLPipeline") as error:
        load_prior(f"{sdxl_folder(tmp_path / 'xl')};lora={lora}", "a red mug")
    assert "\n" not in str(error.value)
    save_file({"nothing.known": torch.zeros(1)}, tmp_path / "odd.safetensors")
    with pytest.raises(ValueError, match=r"odd\.safetensors does not fit a StableDiffusionPipeline"):
        load_prior(f"{folder};lora={tmp_path / 'odd.safetensors'}", "a red mug")
    with pytest.raises(FileNotFoundError, match="there is no LoRA"):
        load_prior(f"{folder};lora={tmp_path / 'none.safetensors'}", "a red mug")
    (tmp_path / "style.bin").touch()
    with pytest.raises(ValueError, match=r"is no \.safetensors; weights in other files could run code"):
        load_prior(f"{folder};lora={tmp_path / 'style.bin'}", "a red mug")


def test_a_lora_with_other_peoples_names_fits_as_well(folder, lora, tmp_path) -> None:
    """The names of kohya's trainer, with a scale beside each pair of matrices."""
    theirs = {}
    for key, value in load_file(lora).items():
        layer, _, which = key.removesuffix(".weight").rpartition(".")
        name = "lora_unet_" + layer.removeprefix("unet.").replace(".", "_")
        theirs[f"{name}.{'lora_down' if which == 'lora_A' else 'lora_up'}.weight"] = value
        theirs[f"{name}.alpha"] = torch.tensor(2.0)  # the rank: a scale of 1
    save_file(theirs, tmp_path / "theirs.safetensors")
    found = answer(load_prior(f"{folder};lora={tmp_path / 'theirs.safetensors'}", "a red mug"))
    torch.testing.assert_close(found, answer(load_prior(f"{folder};lora={lora}", "a red mug")))


def test_a_lora_that_hardly_fits_is_refused(folder, lora, tmp_path) -> None:
    weights = load_file(lora)
    strange = {
        key if k < 2 else key.replace("unet.", "unet.other."): value for k, (key, value) in enumerate(weights.items())
    }
    save_file(strange, tmp_path / "strange.safetensors")
    with pytest.raises(ValueError, match=r"does not fit a StableDiffusionPipeline: of its \d+ weights 2 belong there"):
        load_prior(f"{folder};lora={tmp_path / 'strange.safetensors'}", "a red mug")
    save_file({key: value * torch.nan for key, value in weights.items()}, tmp_path / "nan.safetensors")
    with pytest.raises(ValueError, match=r"does not fit a StableDiffusionPipeline: NaNs detected"):
        load_prior(f"{folder};lora={tmp_path / 'nan.safetensors'}", "a red mug")
    save_file({}, tmp_path / "empty.safetensors")
    with pytest.raises(ValueError, match="does not fit a StableDiffusionPipeline: of its 0 weights 0 belong there"):
        load_prior(f"{folder};lora={tmp_path / 'empty.safetensors'}", "a red mug")


@pytest.mark.parametrize("rows", [1, 2])
def test_a_new_word_means_what_the_stock_pipeline_takes_it_to_mean(folder, tmp_path, rows) -> None:
    file = tmp_path / "cat.safetensors"
    save_file({"<cat>": torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(1))}, file)
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.load_textual_inversion(str(file))
    prior = DiffusionPrior.load(folder)
    ignorant = prior.embed("a red <cat>").tokens

    taught = DiffusionPrior.load(folder)
    tune(taught, Wanted("x", words=((str(file), ""),)))
    expected = pipeline.encode_prompt("a red <cat>", "cpu", 1, False)[0]
    torch.testing.assert_close(taught.embed("a red <cat>").tokens, expected)
    assert not torch.allclose(ignorant, expected)


def test_new_words_that_do_not_fit_are_refused(folder, lora, tmp_path) -> None:

    wide, nameless = tmp_path / "wide.safetensors", tmp_path / "nameless.safetensors"
    save_file({"<cat>": torch.zeros(1, WIDTH + 1)}, wide)
    save_file({"emb_params": torch.zeros(1, WIDTH)}, nameless)
    prior = DiffusionPrior.load(folder)
    with pytest.raises(ValueError, match=r"wide\.safetensors do not fit a StableDiffusionPipeline"):
        tune(prior, Wanted("x", words=((str(wide), ""),)))
    with pytest.raises(ValueError, match="does not say which word it teaches"):
        tune(prior, Wanted("x", words=((str(nameless), ""),)))
    tune(prior, Wanted("x", words=((str(nameless), "<cat>"),)))
    empty, broken = tmp_path / "empty.safetensors", tmp_path / "broken.safetensors"
    save_file({}, empty)
    save_file({"<dog>": torch.full((1, WIDTH), torch.nan)}, broken)
    with pytest.raises(ValueError, match=r"empty\.safetensors holds no word for a StableDiffusionPipeline"):
        tune(prior, Wanted("x", words=((str(empty), "<dog>"),)))
    with pytest.raises(ValueError, match=r"the word in .*broken\.safetensors has no meaning"):
        tune(prior, Wanted("x", words=((str(broken), ""),)))
    with pytest.raises(ValueError, match=r"style\.safetensors holds no word for a StableDiffusionPipeline"):
        tune(prior, Wanted("x", words=((str(lora), "<dog>"),)))
    with pytest.raises(ValueError, match="a SanaPipeline cannot be taught new words"):
        tune(DiffusionPrior.load(sana_folder(tmp_path / "sana")), Wanted("x", words=((str(wide), ""),)))


def test_a_tiny_encoder_takes_the_place_of_the_priors_own(folder, tmp_path) -> None:
    tiny_autoencoder().save_pretrained(tmp_path / "taesd")
    prior = load_prior(f"{folder};encoder={tmp_path / 'taesd'}", "a red mug")
    assert prior.family.pipeline.vae is prior.vae  # nothing holds the other one any more
    images = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    latents = prior.encode(images)
    expected = prior.vae.encode(images.permute(0, 3, 1, 2) * 2 - 1).latents * prior.vae.config.scaling_factor
    torch.testing.assert_close(latents, expected)
    latents.sum().backward()
    assert images.grad is not None
    assert prior.image_size == 32
    from diffusers import AutoencoderTiny

    AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8), latent_channels=16
    ).save_pretrained(tmp_path / "taesd3")  # fmt: skip
    with pytest.raises(ValueError, match="makes latents of 16 channels, and the network reads 4"):
        load_prior(f"{folder};encoder={tmp_path / 'taesd3'}", "a red mug")


def gradient_of(prior) -> torch.Tensor:
    """Of an image, through the prior's encoder and back, towards what it answers."""
    images = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    prior.encode(images).backward(answer(prior))
    assert images.grad is not None
    return images.grad


@pytest.fixture
def fresh_torch(monkeypatch, tmp_path):
    """Torch that has compiled nothing yet, and keeps nothing."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    with torch._dynamo.config.patch(suppress_errors=False):
        yield
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_compiled_prior_answers_as_a_plain_one(folder, fresh_torch) -> None:
    compiled = load_prior(f"{folder};compile=blocks", "a red mug")
    gradient = gradient_of(compiled)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    torch.testing.assert_close(gradient, gradient_of(load_prior(str(folder), "a red mug")), rtol=1e-3, atol=1e-5)


def test_without_a_compiler_a_prior_answers_as_a_plain_one(folder, fresh_torch) -> None:
    compiled = load_prior(f"{folder};compile=blocks", "a red mug")
    with torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}):
        gradient = gradient_of(compiled)
    assert torch.equal(gradient, gradient_of(load_prior(str(folder), "a red mug")))


def test_a_student_learns_of_a_compiled_prior(folder) -> None:
    compiled = load_prior(f"{folder};compile=blocks", "a red mug")
    assert compiled.student(2).init(torch.Generator().manual_seed(0))


def test_compilation_stands_behind_the_priors_name() -> None:
    wanted = Wanted.parse("builtin;compile=blocks")
    assert wanted.compiled
    assert wanted.settled(Path("x"), Path("x")) == "builtin;compile=blocks"
    with pytest.raises(ValueError, match="says nothing of a prior"):
        Wanted.parse("builtin;compile=all")
