"""What training leaves behind: the prior as a diffusers folder."""

import copy
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny
from transformers import PreTrainedTokenizerFast

from splatdream.train.autoencoder import new_autoencoder
from splatdream.train.denoiser import Denoiser, new_scheduler

SHARD = "14MB"


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
