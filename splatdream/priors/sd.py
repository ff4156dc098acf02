"""Stable Diffusion 1.x and 2.x, and the built-in prior: a UNet that looks at the last hidden states of one encoder."""

from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, StableDiffusionPipeline, UNet2DConditionModel
from jaxtyping import Float, Int
from torch import Tensor
from transformers import CLIPTextModel

from splatdream.cameras import Cameras, camera_vectors
from splatdream.contracts import Embedding
from splatdream.priors.folder import Folder
from splatdream.priors.noise import discrete


class StableDiffusion:
    """With `class_embed_type="projection"` the UNet is told the camera, which no such model of others has."""

    def __init__(self, folder: Folder, network: Any = None) -> None:
        self.network: Any = network or folder.model("unet", UNet2DConditionModel)
        more = self.network.config.addition_embed_type
        if more not in (None, "text"):  # the built-in one pools the words themselves
            raise ValueError(
                f"{folder.path / 'unet'} wants to be told more than words ({more}): it is of another model"
            )
        reader: Any = folder.model("text_encoder", CLIPTextModel)
        self.pipeline: Any = StableDiffusionPipeline(
            vae=folder.model("vae", AutoencoderKL, AutoencoderTiny, wide=torch.float32),
            unet=self.network,
            text_encoder=reader,
            tokenizer=folder.tokenizer("tokenizer", reader),
            scheduler=None,  # type: ignore[arg-type] - nothing is sampled here
            safety_checker=None,  # type: ignore[arg-type]
            feature_extractor=None,  # type: ignore[arg-type]
            requires_safety_checker=False,
        )
        self.kind, self.schedule = discrete(folder.scheduler())
        self.windows = [(self.pipeline.tokenizer, self.pipeline.tokenizer.model_max_length)]

    def embed(self, texts: tuple[str, ...], negative: bool) -> Embedding:
        return Embedding(self.pipeline.encode_prompt(texts[0], self.pipeline.text_encoder.device, 1, False)[0])

    def cameras(self, cameras: Cameras) -> Float[Tensor, "B 16"] | None:
        return camera_vectors(cameras) if self.network.config.class_embed_type == "projection" else None

    def told(self, embedding: Embedding) -> dict[str, Any]:
        return {"encoder_hidden_states": embedding.tokens, "class_labels": embedding.cameras}

    def answer(self, latents: Float[Tensor, "B C h w"], timesteps: Int[Tensor, " B"], embedding: Embedding) -> Tensor:
        return self.network(latents, timesteps, **self.told(embedding)).sample
