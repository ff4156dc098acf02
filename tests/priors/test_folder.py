"""Folders that are no pipelines, or broken ones: named in a sentence, and nothing is loaded by half."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EDMDPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UNet2DConditionModel,
)
from families import sana_folder, sd3_folder, sd_folder
from safetensors.torch import load_file, save_file
from tiny import WORDS

from splatdream.cameras import orbit
from splatdream.priors import precision
from splatdream.priors.diffusion import DiffusionPrior
from splatdream.priors.models import parts
from splatdream.priors.noise import flow
from splatdream.train.text import new_tokenizer

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return sd_folder(tmp_path_factory.mktemp("folder"))


@pytest.fixture
def folder(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def edit(path: Path, change) -> None:
    weights = load_file(path)
    change(weights)
    save_file(weights, path)


def lose(path: Path) -> None:
    edit(path / "unet" / WEIGHTS, lambda weights: weights.pop("conv_out.bias"))


def gain(path: Path) -> None:
    edit(path / "unet" / WEIGHTS, lambda weights: weights.update(stranger=torch.zeros(1)))


def reshape(path: Path) -> None:
    edit(path / "unet" / WEIGHTS, lambda weights: weights.update({"conv_out.bias": torch.zeros(7)}))


def poison(path: Path) -> None:
    edit(path / "vae" / WEIGHTS, lambda weights: weights["encoder.conv_in.bias"].fill_(float("nan")))


def truncate(path: Path) -> None:
    file = path / "unet" / WEIGHTS
    file.write_bytes(file.read_bytes()[:1000])


def pickle(path: Path) -> None:
    (path / "unet" / WEIGHTS).rename(path / "unet" / "diffusion_pytorch_model.bin")


def silence(path: Path) -> None:
    for file in (path / "tokenizer").iterdir():
        file.unlink()


def forget_window(path: Path) -> None:
    (path / "tokenizer" / "tokenizer_config.json").unlink()


def take_another_tokenizer(path: Path) -> None:
    """One of more words, whose tokens the encoder has no vectors for."""
    new_tokenizer((*WORDS, "one", "more")).save_pretrained(path / "tokenizer")


def index(path: Path, **changes) -> None:
    table = json.loads((path / "model_index.json").read_text())
    (path / "model_index.json").write_text(json.dumps(table | changes))


def own_tokenizer(path: Path) -> None:
    """A class that transformers does not have, which its AutoTokenizer would look for in the folder's own code."""
    index(path, tokenizer=["my_tok", "MyTok"])
    config = json.loads((path / "tokenizer" / "tokenizer_config.json").read_text())
    config |= {"auto_map": {"AutoTokenizer": ["my_tok.MyTok", None]}, "tokenizer_class": "MyTok"}
    (path / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(config))
    (path / "tokenizer" / "my_tok.py").write_text("raise SystemExit('the code of the folder was run')")


def network_for_tokenizer(path: Path) -> None:
    """A network, whose weights transformers would unpickle."""
    index(path, tokenizer=["transformers", "CLIPTextModel"])
    shutil.copy(path / "text_encoder" / "config.json", path / "tokenizer" / "config.json")
    (path / "tokenizer" / "pytorch_model.bin").write_bytes(b"pickled")


def schedule(path: Path, scheduler, **changes) -> None:
    scheduler.save_pretrained(path / "scheduler")
    config = json.loads((path / "scheduler" / "scheduler_config.json").read_text())
    (path / "scheduler" / "scheduler_config.json").write_text(json.dumps(config | changes))


def configure(part: Path, **changes) -> None:
    config = json.loads((part / "config.json").read_text())
    (part / "config.json").write_text(json.dumps(config | changes))


def widen(path: Path) -> None:
    """As a network that paints into pictures: it is also told a masked picture and the mask."""
    unet = UNet2DConditionModel.from_config(path / "unet", in_channels=9)
    unet.save_pretrained(path / "unet")


def want_sizes(path: Path) -> None:
    """As the network of Stable Diffusion XL, which is told the size of its pictures too."""
    told = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    unet = UNet2DConditionModel.from_config(path / "unet", **told, projection_class_embeddings_input_dim=64)
    unet.save_pretrained(path / "unet")


FAULTS = {
    "missing weights": (lose, r"unet lacks conv_out\.bias"),
    "unknown weights": (gain, r"unet has, and should not, stranger"),
    "weights of another shape": (reshape, r"unet .*conv_out\.bias"),
    "NaN": (poison, r"vae: the weight encoder\.conv_in\.bias is not finite"),
    "half a file": (truncate, r"unet is no UNet2DConditionModel: .*; fetch or copy the folder again"),
    "pickled weights": (pickle, r"unet has no \.safetensors; weights in other files could run code"),
    "no tokenizer": (silence, r"tokenizer holds no tokenizer"),
    "a tokenizer without its config": (forget_window, r"tokenizer makes more than the 32 tokens, .* is missing, or"),
    "another's tokenizer": (take_another_tokenizer, r"or other than the \d+, that its encoder reads: .* of two models"),
    "no class": (lambda path: index(path, tokenizer=[]), "must be a tokenizer of transformers, not None"),
    "no list": (lambda path: index(path, unet=5), "unet of a StableDiffusionPipeline must be UNet2DConditionModel, no"),
    "a tokenizer's own code": (
        own_tokenizer,
        r"the tokenizer must be a tokenizer of transformers, not MyTok; a folder",
    ),
    "a network for a tokenizer": (network_for_tokenizer, r"must be a tokenizer of transformers, not CLIPTextModel"),
    "no config": (lambda path: (path / "vae" / "config.json").unlink(), r"vae/config\.json is missing"),
    "no schedule": (lambda path: shutil.rmtree(path / "scheduler"), r"scheduler/scheduler_config\.json is missing"),
    "another network": (
        lambda path: index(path, unet=["diffusers", "UNet3DConditionModel"]),
        r"the unet of a StableDiffusionPipeline must be UNet2DConditionModel, not UNet3DConditionModel",
    ),
    "code of its own": (
        lambda path: index(path, unet=["my_unet", "MyUNet"]),
        r"must be UNet2DConditionModel, not MyUNet",
    ),
    "noise of another kind": (
        lambda path: schedule(path, EDMDPMSolverMultistepScheduler()),
        r"its scheduler \(EDMDPMSolverMultistepScheduler, epsilon\) is none that steps through betas",
    ),
    "a straight path for betas": (
        lambda path: schedule(path, FlowMatchEulerDiscreteScheduler()),
        r"its scheduler \(FlowMatchEulerDiscreteScheduler, epsilon\) is none that steps through betas",
    ),
    "an answer of another kind": (
        lambda path: schedule(path, DPMSolverMultistepScheduler(), prediction_type="flow_prediction"),
        r"DPMSolverMultistepScheduler, flow_prediction\) is none that steps through betas towards epsilon or",
    ),
    "betas that nobody knows": (
        lambda path: schedule(path, DDIMScheduler(), beta_schedule="odd"),
        r"its scheduler's betas cannot be made: odd is not implemented",
    ),
    "betas that are none": (
        lambda path: schedule(path, DDIMScheduler(), trained_betas=[float("nan")] * 10),
        r"its scheduler's noise does not grow over its 10 timesteps",
    ),
    "no timesteps": (
        lambda path: schedule(path, DDIMScheduler(), num_train_timesteps=0),
        r"its scheduler's (noise does not grow over its 0 timesteps|betas cannot be made)",
    ),
    "a network of no size": (
        lambda path: configure(path / "unet", sample_size=[8, 8]),
        r"sample_size must be a whole number of latents, not \[8, 8\]",
    ),
    "latents of no scale": (
        lambda path: configure(path / "vae", scaling_factor=0.0),
        r"scaling_factor must be a number above 0, not 0\.0",
    ),
    "a network that paints into pictures": (widen, r"makes latents of 4 channels, and the network reads 9"),
    "a network of another model": (want_sizes, r"unet wants to be told more than words \(text_time\)"),
    "no index": (lambda path: (path / "model_index.json").write_text("{"), r"model_index\.json is no JSON"),
    "index of nothing": (lambda path: (path / "model_index.json").write_text("{}"), "names no pipeline"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_folder_is_refused_in_one_sentence(folder, fault, monkeypatch) -> None:
    monkeypatch.setattr("torch.load", lambda *arguments, **options: pytest.fail("something was unpickled"))
    monkeypatch.setattr("builtins.input", lambda *arguments: pytest.fail("something was asked"))
    break_it, message = FAULTS[fault]
    break_it(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        DiffusionPrior.load(folder)
    assert "\n" not in str(error.value)


def test_odd_entries_of_an_index_hide_no_part(folder) -> None:
    index(folder, safety_checker=[], feature_extractor=5)
    assert {"unet", "vae", "text_encoder", "tokenizer", "scheduler"} <= set(parts(folder))


@pytest.mark.parametrize("scheduler", [DDIMScheduler(), DPMSolverMultistepScheduler()])
def test_a_flow_model_with_noise_of_another_kind_is_refused(scheduler, tmp_path) -> None:
    schedule(sd3_folder(tmp_path), scheduler)
    with pytest.raises(ValueError, match=rf"its scheduler \({type(scheduler).__name__}\) is none of a straight path"):
        DiffusionPrior.load(tmp_path)


@pytest.mark.parametrize("changes", [{"shift": 0.0}, {"shift": "3"}, {"num_train_timesteps": 0}])
def test_a_flow_without_a_path_is_refused(changes) -> None:
    with pytest.raises(ValueError, match="both must be numbers above 0"):
        flow({"num_train_timesteps": 1000, "shift": 3.0} | changes)


def test_the_shift_of_a_solver_of_flows_is_read() -> None:
    solver = dict(
        DPMSolverMultistepScheduler(use_flow_sigmas=True, flow_shift=3.0, prediction_type="flow_prediction").config
    )
    (kind, schedule), (_, same) = flow(solver), flow(dict(FlowMatchEulerDiscreteScheduler(shift=3.0).config))
    assert kind == "flow"
    assert torch.equal(schedule.sigmas, same.sigmas)


def test_copies_in_half_precision_are_read_where_there_is_nothing_else_or_they_are_asked_for(folder) -> None:
    full = DiffusionPrior.load(folder)
    half = {name: value.half() for name, value in load_file(folder / "unet" / WEIGHTS).items()}
    save_file({name: 2 * value for name, value in half.items()}, folder / "unet" / WEIGHTS.replace(".s", ".fp16.s"))
    bias = "conv_out.bias"
    assert torch.equal(DiffusionPrior.load(folder).unet.state_dict()[bias], full.unet.state_dict()[bias])
    asked = DiffusionPrior.load(folder, dtype=torch.bfloat16).unet.state_dict()[bias]
    torch.testing.assert_close(asked.float(), 2 * full.unet.state_dict()[bias], rtol=1e-2, atol=1e-3)
    (folder / "unet" / WEIGHTS).unlink()
    alone = DiffusionPrior.load(folder).unet
    assert alone.dtype == torch.float32
    torch.testing.assert_close(alone.state_dict()[bias], 2 * full.unet.state_dict()[bias], rtol=1e-2, atol=1e-3)


def test_half_precision_answers_in_the_precision_of_the_question(folder) -> None:
    prior = DiffusionPrior.load(folder, dtype=torch.bfloat16)
    images = torch.rand(2, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    latents = prior.encode(images)
    condition = prior.condition("a red mug", "", orbit(2, 32))
    answer = prior.predict(latents, torch.tensor([10, 900]), condition.cond)
    assert {latents.dtype, answer.value.dtype, prior.decode(latents).dtype} == {torch.float32}
    whole = DiffusionPrior.load(folder)
    condition = whole.condition("a red mug", "", orbit(2, 32))
    exact = whole.predict(latents, torch.tensor([10, 900]), condition.cond)
    torch.testing.assert_close(answer.value, exact.value, atol=0.05, rtol=0.05)  # bfloat16 keeps 8 bits


def test_what_overflows_in_float16_is_never_in_it(tmp_path) -> None:
    t5 = DiffusionPrior.load(sd3_folder(tmp_path / "sd3"), dtype=torch.float16).family.pipeline
    assert {part.dtype for part in (t5.transformer, t5.text_encoder, t5.text_encoder_2)} == {torch.float16}
    assert (t5.vae.dtype, t5.text_encoder_3.dtype) == (torch.float32, torch.bfloat16)
    gemma = DiffusionPrior.load(sana_folder(tmp_path / "sana"), dtype=torch.float16).family.pipeline
    assert (gemma.vae.dtype, gemma.text_encoder.dtype) == (torch.float32, torch.bfloat16)


@pytest.mark.parametrize(("computes", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_bfloat16_is_taken_where_the_gpu_computes_in_it(whole, computes, dtype, monkeypatch) -> None:
    monkeypatch.setattr("splatdream.priors.SMALL", 0)
    monkeypatch.setattr("torch.cuda.device", lambda device: nullcontext())
    monkeypatch.setattr(
        "torch.cuda.is_bf16_supported", lambda including_emulation=True: including_emulation or computes
    )
    assert precision(whole, "cuda:1") == dtype


@pytest.mark.parametrize("prompt", ["", "   ", ", ."])
def test_a_prompt_without_a_word_is_refused(whole, prompt) -> None:
    with pytest.raises(ValueError, match="holds nothing that the prior can read"):
        DiffusionPrior.load(whole).condition(prompt, "", orbit(1, 32))


def test_t5_reads_what_the_smaller_encoders_leave_out(tmp_path) -> None:
    prior = DiffusionPrior.load(sd3_folder(tmp_path))
    prompt = " ".join(["red"] * 40 + ["blue", "mug"])
    clip, _, t5 = (tokenizer for tokenizer, _ in prior.family.windows)
    prior.family.windows = [(clip, 32), (clip, 32), (t5, 256)]
    with pytest.warns(
        UserWarning, match="an encoder of the prior reads 32 tokens; .* leaves out: 'red red .* blue mug'"
    ):
        first, second, third = prior.worded(prompt, "front")
    assert first == second
    assert prior.length(first, clip) == 32
    assert first.endswith("red, front view")
    assert third == f"{prompt}, front view"
    tokens = prior.embed((first, second, third)).tokens
    shorter = prior.embed((first, second, first)).tokens
    assert torch.equal(tokens[:, :-256], shorter[:, :-256])
    assert not torch.allclose(tokens[:, -256:], shorter[:, -256:])


def test_a_prompt_longer_than_the_window_loses_its_last_words_and_says_which(whole) -> None:
    prior = DiffusionPrior.load(whole)
    window = prior.family.windows[0][1]
    room = window - prior.length(", front view", prior.family.pipeline.tokenizer)
    prompt = " ".join(["red"] * room + ["blue", "mug"])
    with pytest.warns(UserWarning, match="of the prompt it leaves out: 'blue mug'"):
        condition = prior.condition(prompt, "", orbit(1, 32))
    kept = prior.embed(" ".join(["red"] * room) + ", front view")
    assert torch.equal(condition.cond.tokens, kept.tokens)


def test_a_page_of_words_is_cut_after_few_questions_to_the_tokenizer(whole, monkeypatch) -> None:
    prior, lengths = DiffusionPrior.load(whole), []
    length = prior.length
    monkeypatch.setattr(prior, "length", lambda *asked: lengths.append(length(*asked)) or lengths[-1])
    with pytest.warns(UserWarning, match="it leaves out"):
        (kept,) = prior.worded("red mug " * 2000, "front")
    assert length(kept, prior.family.pipeline.tokenizer) == prior.family.windows[0][1]
    assert len(lengths) < 20  # twelve halvings of 4000 words
