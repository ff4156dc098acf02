"""Priors of published sizes without their weights: what a step costs does not depend on them."""

from types import SimpleNamespace
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, SD3Transformer2DModel, UNet2DConditionModel
from torch import nn

from splatdream.contracts import Embedding
from splatdream.priors import builtin_folder
from splatdream.priors.diffusion import DiffusionPrior
from splatdream.priors.noise import discrete, flow
from splatdream.priors.sd import StableDiffusion
from splatdream.priors.sd3 import StableDiffusion3
from splatdream.priors.sdxl import StableDiffusionXL

ARCHS = ("builtin", "sd15", "sd21", "sdxl", "sd3")
RESOLUTIONS = {"builtin": 128, "sd15": 512, "sd21": 512, "sdxl": 1024, "sd3": 1024}
FACTOR = 8
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
DOWN, CROSS_DOWN, UP, CROSS_UP = "DownBlock2D", "CrossAttnDownBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"
UNETS: dict[str, dict[str, Any]] = {
    "sd15": {"cross_attention_dim": 768, "attention_head_dim": 8},
    "sd21": {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True},
    "sdxl": {
        "block_out_channels": (320, 640, 1280),
        "down_block_types": (DOWN, CROSS_DOWN, CROSS_DOWN),
        "up_block_types": (CROSS_UP, CROSS_UP, UP),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}
SD3: dict[str, Any] = {
    "num_layers": 24,
    "num_attention_heads": 24,
    "caption_projection_dim": 1536,
    "pos_embed_max_size": 192,
    "out_channels": 16,
}
TOKENS = {"sd15": (77, 768), "sd21": (77, 1024), "sdxl": (77, 2048), "sd3": (333, 4096)}
POOLED = {"sdxl": 1280, "sd3": 2048}


def untrained(
    arch: str,
    resolution: int,
    *,
    encoder: str = "full",
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> DiffusionPrior:
    """A prior for pictures of so many pixels, with random weights (none on the device "meta"); "builtin" has its own.

    `encoder` is "full" or "tiny"; the built-in prior's own is tiny.
    """
    if arch == "builtin":
        return DiffusionPrior.load(builtin_folder(), device=device, dtype=dtype)
    network: Any
    vae: Any
    channels, side = (16 if arch == "sd3" else 4), resolution // FACTOR
    with torch.device("meta"):
        if arch == "sd3":
            network = SD3Transformer2DModel(sample_size=side, in_channels=channels, joint_attention_dim=4096,
                                            pooled_projection_dim=2048, **SD3)  # fmt: skip
        else:
            network = UNet2DConditionModel(sample_size=side, **UNETS[arch])
        vae = full_autoencoder(channels) if encoder == "full" else AutoencoderTiny(latent_channels=channels)
    for module in (network, vae):
        filled(module.to(dtype), device, seed).requires_grad_(False).eval()
    return DiffusionPrior(family(arch, network, vae, seed), device=device)


def full_autoencoder(channels: int) -> AutoencoderKL:
    blocks: dict[str, Any] = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}
    blocks |= {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    return AutoencoderKL(latent_channels=channels, **blocks)


def filled(module: nn.Module, device: str, seed: int) -> nn.Module:
    """The module on the device with small normal values in place of none."""
    if device == "meta":
        return module
    module.to_empty(device=device)
    generator = torch.Generator(device).manual_seed(seed)
    for value in (*module.parameters(), *module.buffers()):
        if value.is_floating_point():
            value.data.normal_(std=0.02, generator=generator)
    return module


def family(arch: str, network: Any, vae: Any, seed: int) -> Any:
    """The family's own code around a network that comes from no folder; its words are drawn at random."""
    made = object.__new__({"sdxl": StableDiffusionXL, "sd3": StableDiffusion3}.get(arch, StableDiffusion))

    def embed(text: str, negative: bool) -> Embedding:
        generator = torch.Generator().manual_seed(seed)
        pooled = {"pooled": torch.randn(1, POOLED[arch], generator=generator)} if arch in POOLED else {}
        tokens = torch.randn(1, *TOKENS[arch], generator=generator)
        place = {"device": network.device}
        return Embedding(tokens.to(**place), extras={name: value.to(**place) for name, value in pooled.items()})

    kind, schedule = flow({"shift": 3.0}) if arch == "sd3" else discrete(BETAS)
    vars(made).update(
        network=network,
        pipeline=SimpleNamespace(vae=vae, components={}, vae_scale_factor=FACTOR),
        kind=kind,
        schedule=schedule,
        windows=[(read, 77)],
        embed=embed,
    )
    return made


def read(text: str, add_special_tokens: bool = True) -> SimpleNamespace:
    """A tokenizer of whole words."""
    return SimpleNamespace(input_ids=text.split())
