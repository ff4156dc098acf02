"""SANA: a flow transformer with linear attention over latents 32 times smaller than the picture (Xie et al. 2025).

Of the light flow models it is the one whose gradient fits into 16 GB: 0.6 billion weights (1.2 GB in half precision),
made for pictures of 512 pixels too, not distilled, so that guidance means what the rules take it to mean. Its text
encoder (Gemma, 5 GB) is needed for a moment only. Z-Image has 6 billion weights, and its light form is distilled.
"""

from inspect import signature
from typing import Any

import torch
from diffusers import AutoencoderDC, AutoencoderTiny, SanaPipeline, SanaTransformer2DModel
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Gemma2Model

from splatdream.cameras import Cameras
from splatdream.contracts import Embedding
from splatdream.priors.folder import Folder
from splatdream.priors.noise import flow, on_path

WINDOW = 300
INSTRUCTION = signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default
"""What stands before every prompt, but for negative ones."""


class Sana:
    def __init__(self, folder: Folder) -> None:
        self.network: Any = folder.model("transformer", SanaTransformer2DModel)
        self.pipeline: Any = SanaPipeline(
            vae=folder.model("vae", AutoencoderDC, AutoencoderTiny, wide=torch.float32),  # type: ignore[arg-type]
            transformer=self.network,
            text_encoder=folder.model("text_encoder", Gemma2Model, wide=torch.bfloat16),
            tokenizer=folder.tokenizer("tokenizer"),
            scheduler=None,  # type: ignore[arg-type] - nothing is sampled here
        )
        self.kind, self.schedule = flow(folder.scheduler())
        self.windows = [(self.pipeline.tokenizer, WINDOW)]

    def embed(self, texts: tuple[str, ...], negative: bool) -> Embedding:
        tokens, mask, _, _ = self.pipeline.encode_prompt(
            texts[0],
            False,
            device=self.pipeline.text_encoder.device,
            max_sequence_length=WINDOW,
            complex_human_instruction=None if negative else INSTRUCTION,
        )
        return Embedding(tokens, extras={"mask": mask.to(tokens)})

    def cameras(self, cameras: Cameras) -> Float[Tensor, "B 16"] | None:
        return None

    def answer(self, latents: Float[Tensor, "B C h w"], timesteps: Int[Tensor, " B"], embedding: Embedding) -> Tensor:
        x, times = on_path(self.schedule, latents, timesteps)
        told = {"encoder_hidden_states": embedding.tokens, "encoder_attention_mask": embedding.extras["mask"] > 0}
        value = self.network(x, timestep=times * self.network.config.timestep_scale, **told).sample
        return value[:, : latents.shape[1]]  # some also answer how sure they are
