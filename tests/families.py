"""A tiny random pipeline of each family: the real classes of diffusers and transformers, in an ordinary folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tiny import LATENT_CHANNELS, WIDTH, WORDS, tiny_text_encoder, tiny_unet
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    T5Config,
    T5EncoderModel,
)

from splatdream.train.text import WINDOW, new_tokenizer

LEADING: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
LEADING |= {"steps_offset": 1, "set_alpha_to_one": False, "clip_sample": False}
SCHEDULES = {
    "eps": LEADING,
    "v": LEADING | {"prediction_type": "v_prediction"},
    "zero terminal SNR": LEADING
    | {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
}


def sd_folder(path: Path, schedule: str = "eps") -> Path:
    """Pictures of 32 pixels, latents of 4."""

    def pipeline() -> StableDiffusionPipeline:
        tokenizer: Any = new_tokenizer(WORDS)
        return StableDiffusionPipeline(
            vae=autoencoder(),
            unet=tiny_unet(cameras=False),
            text_encoder=tiny_text_encoder(len(tokenizer)),
            tokenizer=tokenizer,
            scheduler=DDIMScheduler(**SCHEDULES[schedule]),
            safety_checker=None,  # type: ignore[arg-type]
            feature_extractor=None,  # type: ignore[arg-type]
            requires_safety_checker=False,
        )

    return saved(pipeline, path)


def sdxl_folder(path: Path, **scales: Any) -> Path:
    def pipeline() -> StableDiffusionXLPipeline:
        tokenizer: Any = new_tokenizer(WORDS)
        unet = UNet2DConditionModel(
            sample_size=4,
            in_channels=LATENT_CHANNELS,
            out_channels=LATENT_CHANNELS,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=2 * WIDTH,
            attention_head_dim=(2, 4),
            norm_num_groups=4,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=WIDTH + 6 * 8,
        )
        return StableDiffusionXLPipeline(
            vae=autoencoder(scaling_factor=0.13025, **scales),
            unet=unet,
            text_encoder=tiny_text_encoder(len(tokenizer)),
            text_encoder_2=projecting_encoder(len(tokenizer)),
            tokenizer=tokenizer,
            tokenizer_2=tokenizer,
            scheduler=DDIMScheduler(**LEADING),
            add_watermarker=False,
        )

    return saved(pipeline, path)


def sd3_folder(path: Path, *, t5: bool = True) -> Path:
    def pipeline() -> StableDiffusion3Pipeline:
        tokenizer: Any = new_tokenizer(WORDS)
        t5_config = T5Config(vocab_size=len(tokenizer), d_model=48, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
        transformer = SD3Transformer2DModel(
            sample_size=4,
            patch_size=1,
            in_channels=LATENT_CHANNELS,
            out_channels=LATENT_CHANNELS,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=48,
            caption_projection_dim=16,
            pooled_projection_dim=2 * WIDTH,
            pos_embed_max_size=8,
        )
        return StableDiffusion3Pipeline(
            transformer=transformer,
            vae=autoencoder(scaling_factor=1.5305, shift_factor=0.0609),
            text_encoder=projecting_encoder(len(tokenizer)),
            text_encoder_2=projecting_encoder(len(tokenizer)),
            text_encoder_3=T5EncoderModel(t5_config) if t5 else None,  # type: ignore[arg-type]
            tokenizer=tokenizer,
            tokenizer_2=tokenizer,
            tokenizer_3=tokenizer if t5 else None,
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        )

    return saved(pipeline, path)


def sana_folder(path: Path) -> Path:
    """Pictures of 32 pixels, latents of 16."""

    def pipeline() -> SanaPipeline:
        tokenizer: Any = new_tokenizer(WORDS)
        transformer = SanaTransformer2DModel(
            sample_size=16,
            patch_size=1,
            in_channels=LATENT_CHANNELS,
            out_channels=LATENT_CHANNELS,
            num_layers=2,
            num_attention_heads=2,
            attention_head_dim=4,
            num_cross_attention_heads=2,
            cross_attention_head_dim=4,
            cross_attention_dim=8,
            caption_channels=8,
            timestep_scale=0.5,
        )
        blocks = ("ResBlock", "EfficientViTBlock")
        vae = AutoencoderDC(
            latent_channels=LATENT_CHANNELS,
            attention_head_dim=2,
            encoder_block_types=blocks,
            decoder_block_types=blocks,
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1),
            encoder_qkv_multiscales=((), (5,)),
            decoder_qkv_multiscales=((), (5,)),
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            scaling_factor=0.41407,
        )
        gemma = Gemma2Config(
            vocab_size=len(tokenizer),
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=4,
        )
        return SanaPipeline(
            transformer=transformer,
            vae=vae,
            text_encoder=Gemma2Model(gemma),  # type: ignore[arg-type]
            tokenizer=tokenizer,
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),  # type: ignore[arg-type]
        )

    return saved(pipeline, path)


def autoencoder(**options: Any) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=2,
        latent_channels=LATENT_CHANNELS,
        **options,  # type: ignore[arg-type]
    )


def projecting_encoder(tokens: int) -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=tokens,
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=WINDOW,
            bos_token_id=2,
            eos_token_id=3,
        )
    )


def saved(pipeline: Callable[[], Any], path: Path) -> Path:
    """The same bytes every time: the libraries initialise from the global generator."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline().save_pretrained(path)
    return path


FAMILIES: dict[str, Callable[[Path], Path]] = {
    "sd eps": lambda path: sd_folder(path, "eps"),
    "sd v": lambda path: sd_folder(path, "v"),
    "sd zero terminal SNR": lambda path: sd_folder(path, "zero terminal SNR"),
    "sdxl": sdxl_folder,
    "sdxl scaled by channels": lambda path: sdxl_folder(path, latents_mean=[0.3, 0, 0, -0.3], latents_std=[2, 1, 1, 4]),
    "sd3": sd3_folder,
    "sd3 without T5": lambda path: sd3_folder(path, t5=False),
    "sana": sana_folder,
}
