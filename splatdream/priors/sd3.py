"""Stable Diffusion 3 and 3.5: a flow transformer told by two CLIP encoders and, where the folder has it, by T5."""

from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, SD3Transformer2DModel, StableDiffusion3Pipeline
from jaxtyping import Float, Int
from torch import Tensor
from transformers import CLIPTextModelWithProjection, T5EncoderModel

from splatdream.cameras import Cameras
from splatdream.contracts import Embedding
from splatdream.priors.folder import Folder
from splatdream.priors.noise import flow, on_path

T5_WINDOW = 256


class StableDiffusion3:
    """Without T5 its place is filled with zeros, as in training (Esser et al. 2024, section 5.3)."""

    def __init__(self, folder: Folder) -> None:
        self.network: Any = folder.model("transformer", SD3Transformer2DModel)
        spells = folder.holds("text_encoder_3")
        t5: Any = folder.model("text_encoder_3", T5EncoderModel, wide=torch.bfloat16) if spells else None
        reader: Any = folder.model("text_encoder", CLIPTextModelWithProjection)
        second: Any = folder.model("text_encoder_2", CLIPTextModelWithProjection)
        self.pipeline: Any = StableDiffusion3Pipeline(
            vae=folder.model("vae", AutoencoderKL, AutoencoderTiny, wide=torch.float32),
            transformer=self.network,
            text_encoder=reader,
            text_encoder_2=second,
            text_encoder_3=t5,
            tokenizer=folder.tokenizer("tokenizer", reader),
            tokenizer_2=folder.tokenizer("tokenizer_2", second),
            tokenizer_3=folder.tokenizer("tokenizer_3") if spells else None,  # type: ignore[arg-type]
            scheduler=None,  # type: ignore[arg-type] - nothing is sampled here
        )
        self.kind, self.schedule = flow(folder.scheduler())
        self.windows = [(self.pipeline.tokenizer, self.pipeline.tokenizer_max_length)]
        self.windows += [(self.pipeline.tokenizer_2, self.pipeline.tokenizer_max_length)]
        self.windows += [(self.pipeline.tokenizer_3, T5_WINDOW)] if spells else []

    def embed(self, texts: tuple[str, ...], negative: bool) -> Embedding:
        """T5 reads more of a long text than the two before it."""
        device = self.pipeline.text_encoder.device
        first, second, *third = texts
        tokens, _, pooled, _ = self.pipeline.encode_prompt(
            first, second, *third or [None], device, 1, False, max_sequence_length=T5_WINDOW
        )
        return Embedding(tokens, extras={"pooled": pooled})

    def cameras(self, cameras: Cameras) -> Float[Tensor, "B 16"] | None:
        return None

    def answer(self, latents: Float[Tensor, "B C h w"], timesteps: Int[Tensor, " B"], embedding: Embedding) -> Tensor:
        x, times = on_path(self.schedule, latents, timesteps)
        told = {"encoder_hidden_states": embedding.tokens, "pooled_projections": embedding.extras["pooled"]}
        return self.network(x, timestep=times, **told).sample
