"""`splatdream prior`: what it lists, what it finds wrong, and what stands behind a prior's name."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from families import sd_folder
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from splatdream.priors.hub import Offer


def test_models_are_listed_with_where_they_are(call, tmp_path) -> None:
    result = call("prior", "list", HF_HUB_CACHE=str(tmp_path))
    assert result.exit_code == 0
    for name in ("builtin", "sd15", "sd21-base", "sdxl", "sd35-medium", "sana", "mvdream"):
        assert name in result.stdout
    assert "not here: stable-diffusion-v1-5/stable-diffusion-v1-5@451f4fe" in result.stdout


def test_a_model_that_cannot_be_read_hides_no_other(call, tmp_path) -> None:
    snapshot = tmp_path / "models--stable-diffusion-v1-5--stable-diffusion-v1-5" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model_index.json").write_text("{")
    result = call("prior", "list", HF_HUB_CACHE=str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "not here: stable-diffusion-v1-5" in result.stdout
    assert "mvdream" in result.stdout


def test_a_model_that_is_not_here_and_cannot_be_had_is_told_with_both_reasons(call, tmp_path) -> None:
    result = call("generate", "a corgi", "-o", "corgi.ply", "--prior", "sdxl", HF_HUB_CACHE=str(tmp_path))
    assert result.exit_code == 2
    assert "sdxl is neither a folder here nor fetched" in result.stderr
    assert "HF_HUB_OFFLINE forbids to fetch stabilityai/stable-diffusion-xl-base-1.0" in result.stderr


def test_a_sound_model_is_described(call, tiny) -> None:
    result = call("prior", "check", str(tiny))
    assert result.exit_code == 0, result.output
    assert "StableDiffusion" in result.stdout
    assert "32 pixels, latents 4 x 4 x 4" in result.stdout
    assert "sound" in result.stdout


def test_an_unsound_model_is_refused(call, tmp_path) -> None:
    folder = sd_folder(tmp_path / "model")
    (folder / "unet" / "config.json").unlink()
    result = call("prior", "check", str(folder))
    assert result.exit_code == 2
    assert "is not complete: unet/config.json is missing" in result.stderr


def test_a_model_that_was_not_fetched_is_offered_by_name(call, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("splatdream_cli.plan.offer_of", lambda name: Offer("some/model", "abc", 2_000_000_000))
    result = call("generate", "a corgi", "-o", "corgi.ply", "--prior", "sdxl", HF_HUB_CACHE=str(tmp_path))
    assert result.exit_code == 2
    assert "some/model is not here yet: 2.0 GB, 3 min at 100 Mbit/s" in result.stderr
    assert "`splatdream prior fetch some/model@abc`" in result.stderr
    assert not Path("corgi.ply").exists()


def test_fetching_asks_first(call, monkeypatch) -> None:
    monkeypatch.setattr("splatdream_cli.prior.offer_of", lambda name, without: Offer("some/model", "abc", 1000))
    result = call("prior", "fetch", "sdxl")
    assert result.exit_code == 2
    assert "splatdream prior fetch sdxl --yes" in result.stderr


def test_fetching_offline_is_refused_with_the_reason(call) -> None:
    result = call("prior", "fetch", "sdxl", "--yes")
    assert result.exit_code == 2
    assert "HF_HUB_OFFLINE forbids to fetch stabilityai/stable-diffusion-xl-base-1.0" in result.stderr


def lora_file(folder: Path, path: Path) -> Path:
    """A random LoRA of the folder's UNet."""
    unet = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None).unet
    torch.manual_seed(0)
    unet.add_adapter(LoraConfig(r=2, init_lora_weights=False, target_modules=["to_q", "to_v"]))
    StableDiffusionPipeline.save_lora_weights(
        path, unet_lora_layers=get_peft_model_state_dict(unet), weight_name="style.safetensors"
    )
    return path / "style.safetensors"


def test_a_run_with_a_lora_says_so_everywhere_and_goes_on_from_another_folder(call, small, tiny, tmp_path) -> None:
    file = lora_file(tiny, tmp_path / "loras")
    result = call("generate", "a red mug", "-o", "mug.ply", *small, "--lora", "loras/style.safetensors:0.5")
    assert result.exit_code == 0, result.output
    manifest = json.loads(Path("mug.run/manifest.json").read_text())
    assert str(file) in manifest["prior"]["sha256"]
    assert f"lora={file}:0.5" in manifest["recipe"]["prior"]
    plain = call("generate", "a red mug", "-o", "plain.ply", *small)
    assert plain.exit_code == 0
    assert Path("plain.ply").read_bytes() != Path("mug.ply").read_bytes()


def test_a_lora_that_does_not_fit_is_told_in_one_line(tiny, tmp_path) -> None:
    """In a process of its own: diffusers would log the names of all that does not fit, a line each."""
    file = lora_file(tiny, tmp_path)
    save_file({name: value.repeat(1, 2) for name, value in load_file(file).items()}, file)
    words = ["generate", "a red mug", "-o", str(tmp_path / "mug.ply"), "--prior", str(tiny), "--lora", str(file)]
    command = [sys.executable, "-m", "splatdream_cli.main", *words, "--device", "cpu"]
    result = subprocess.run(command, env=os.environ | {"NO_COLOR": "1"}, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: the LoRA {file} does not fit a StableDiffusionPipeline")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "mug.run").exists()


def test_a_lora_that_is_not_there_is_refused_before_anything_is_written(call, small) -> None:
    result = call("generate", "a red mug", "-o", "mug.ply", *small, "--lora", "nowhere.safetensors")
    assert result.exit_code == 2
    assert "nowhere.safetensors" in result.stderr
    assert not Path("mug.run").exists()


def test_a_memory_to_keep_within_is_planned_and_told(call, small) -> None:
    result = call("generate", "a red mug", "-o", "mug.ply", *small, "--vram", "4")
    assert result.exit_code == 0, result.output
    assert "within 4 GB: weights 0.0 GB" in result.stdout
    assert Path("mug.ply").exists()
    assert call("generate", "a red mug", "-o", "no.ply", *small, "--vram", "0").exit_code == 2
    assert not Path("no.run").exists()
