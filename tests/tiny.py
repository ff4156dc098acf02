"""A prior so small that a test can afford it: random weights in an ordinary diffusers folder, for 32x32 pictures."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from splatdream.train.denoiser import new_scheduler
from splatdream.train.text import WINDOW, new_tokenizer

WORDS = ("a", "ball", "blue", "front", "side", "back", "overhead", "view", "hat", "mug", "red", "snowman", "with")
WIDTH = 16
LATENT_CHANNELS = 4
CLASSES = {
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderTiny"],
}


def tiny_prior_folder(path: Path, words: tuple[str, ...] = WORDS, *, cameras: bool = False) -> Path:
    """Writes the folder, the same bytes every time, and returns its path; pictures have 32 pixels, latents 4."""
    with torch.random.fork_rng():
        torch.manual_seed(0)  # diffusers and transformers initialise from the global generator
        tokenizer = new_tokenizer(words)
        parts = {
            "unet": tiny_unet(cameras=cameras),
            "vae": tiny_autoencoder(),
            "text_encoder": tiny_text_encoder(len(tokenizer)),
            "scheduler": new_scheduler(),
            "tokenizer": tokenizer,
        }
    for name, part in parts.items():
        part.save_pretrained(path / name)
    (path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline", **CLASSES}))
    return path


def tiny_unet(*, cameras: bool = True) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=4,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=4,
        class_embed_type="projection" if cameras else None,
        projection_class_embeddings_input_dim=16 if cameras else None,
    )


def tiny_autoencoder() -> AutoencoderTiny:
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(0, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 0),
        latent_channels=LATENT_CHANNELS,
    )


def tiny_text_encoder(tokens: int) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=tokens,
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=WINDOW,
            bos_token_id=2,
            eos_token_id=3,
        )
    )
