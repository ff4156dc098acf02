"""What training leaves behind: a diffusers folder for the prior, a folder for the judges."""

import argparse
import copy
import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny
from transformers import PreTrainedTokenizerFast

from splatdream.train.autoencoder import new_autoencoder
from splatdream.train.denoiser import Denoiser, new_scheduler
from splatdream.train.judges import make_lesson, train_judges

SHARD = "14MB"
BATCH = 96


def write_prior(
    folder: Path, vae: AutoencoderTiny, deviation: float, denoiser: Denoiser, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Everything in half precision; the autoencoder's scaling factor makes latents of unit deviation."""
    scaled = new_autoencoder(scaling_factor=1.0 / deviation)
    scaled.load_state_dict(vae.state_dict())
    modules: dict[str, Any] = {"vae": scaled, "unet": denoiser.unet, "text_encoder": denoiser.text_encoder}
    for name, module in modules.items():
        halved(module).save_pretrained(folder / name, safe_serialization=True, max_shard_size=SHARD)
    forget_entry(folder / "vae" / "config.json", "block_out_channels")
    tokenizer.save_pretrained(folder / "tokenizer")
    new_scheduler().save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": version("diffusers"),
        "vae": ["diffusers", "AutoencoderTiny"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def forget_entry(path: Path, key: str) -> None:
    """Takes a derived entry out of a config: AutoencoderTiny writes one that it warns about when it reads it."""
    config = json.loads(path.read_text())
    config.pop(key, None)
    path.write_text(json.dumps(config, indent=2) + "\n")


def halved(module: Any) -> Any:
    """A copy in half precision on the CPU; the module itself stays as it is."""
    return copy.deepcopy(module).to("cpu", torch.float16)


def train_and_write_judges(options: argparse.Namespace, deadline: float) -> bool:
    """Trains the judges from a seed of their own and writes them, unfinished too when time runs out."""
    lessons = [make_lesson(BATCH, 10_000 + k) for k in range(options.shards * 5)]
    began, recent = time.monotonic(), 0.0
    for step, right, judge in train_judges(lessons, options.steps, options.seed + 77):
        recent = right if step == 1 else 0.98 * recent + 0.02 * right
        late = time.monotonic() > deadline
        if step % 50 == 0 or late:
            print(f"judges step {step} right {recent:.3f} {(time.monotonic() - began) / step:.3f} s/step", flush=True)
        if step % 250 == 0 or step == options.steps or late:
            judge.save(options.out / "judge")
        if late:
            return step == options.steps
    return True
