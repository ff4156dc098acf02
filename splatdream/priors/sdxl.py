"""Stable Diffusion XL: a UNet told by two encoders, by the second one's summary, and by the size of its pictures."""

from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, StableDiffusionXLPipeline, UNet2DConditionModel
from jaxtyping import Float, Int
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from splatdream.cameras import Cameras
from splatdream.contracts import Embedding
from splatdream.priors.folder import Folder
from splatdream.priors.noise import discrete


class StableDiffusionXL:
    """Micro-conditioning (Podell et al. 2023, section 2.2) asks for whole pictures of the prior's own size."""

    def __init__(self, folder: Folder) -> None:
        self.network: Any = folder.model("unet", UNet2DConditionModel)
        reader: Any = folder.model("text_encoder", CLIPTextModel)
        second: Any = folder.model("text_encoder_2", CLIPTextModelWithProjection)
        self.pipeline: Any = StableDiffusionXLPipeline(
            vae=folder.model("vae", AutoencoderKL, AutoencoderTiny, wide=torch.float32),
            unet=self.network,
            text_encoder=reader,
            text_encoder_2=second,
            tokenizer=folder.tokenizer("tokenizer", reader),
            tokenizer_2=folder.tokenizer("tokenizer_2", second),
            scheduler=None,  # type: ignore[arg-type] - nothing is sampled here
            add_watermarker=False,
        )
        self.kind, self.schedule = discrete(folder.scheduler())
        tokenizers = self.pipeline.tokenizer, self.pipeline.tokenizer_2
        self.windows = [(tokenizer, tokenizer.model_max_length) for tokenizer in tokenizers]
        self.empty_is_zero = folder.index.get("force_zeros_for_empty_prompt", True)

    def embed(self, texts: tuple[str, ...], negative: bool) -> Embedding:
        """An empty negative prompt is all zeros where the model was trained so."""
        device = self.pipeline.text_encoder.device
        tokens, _, pooled, _ = self.pipeline.encode_prompt(*texts, device, 1, False)
        if negative and not any(texts) and self.empty_is_zero:
            tokens, pooled = torch.zeros_like(tokens), torch.zeros_like(pooled)
        return Embedding(tokens, extras={"pooled": pooled})

    def cameras(self, cameras: Cameras) -> Float[Tensor, "B 16"] | None:
        return None

    def told(self, embedding: Embedding) -> dict[str, Any]:
        side = self.network.config.sample_size * self.pipeline.vae_scale_factor
        # The size before cropping, the corner of the crop, and the size wanted.
        sizes = embedding.tokens.new_full((len(embedding), 3, 2), side)
        sizes[:, 1] = 0
        added = {"text_embeds": embedding.extras["pooled"], "time_ids": sizes.flatten(1)}
        return {"encoder_hidden_states": embedding.tokens, "class_labels": None, "added_cond_kwargs": added}

    def answer(self, latents: Float[Tensor, "B C h w"], timesteps: Int[Tensor, " B"], embedding: Embedding) -> Tensor:
        return self.network(latents, timesteps, **self.told(embedding)).sample
