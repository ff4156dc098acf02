"""A student of a UNet: low-rank changes of its attention (Hu et al., LoRA, 2021) and an ear for the camera.

The student shares the UNet's frozen weights and holds none of its own: what it learns is passed in at every call, so
that the UNet is never touched and a run's state holds everything.
"""

import copy
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Float, Int
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import silu

from splatdream.cameras import Cameras, camera_vectors
from splatdream.contracts import Embedding
from splatdream.priors.portions import Portions, learning
from splatdream.schedule import Prediction

_ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]


class LoRAStudent:
    """What ProlificDreamer (Wang et al. 2023) trains beside the prior."""

    def __init__(self, family: Any, rank: int, portions: Portions) -> None:
        """`portions` share out the views as the prior's do; never among threads, since the weights are passed in."""
        unet: UNet2DConditionModel = family.network
        shared = {id(tensor): tensor for tensor in (*unet.parameters(), *unet.buffers())}
        twin = copy.deepcopy(unet, shared)  # new modules around the same tensors
        ear = _CameraEmbedding(unet.class_embedding, unet.time_embedding.linear_2.out_features)
        twin.class_embedding = ear  # type: ignore[assignment] - diffusers calls whatever stands there
        # On the meta device: peft would draw from torch's global generator, and these values are never used.
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=_ATTENTION)
        self._unet = inject_adapter_in_model(config, twin, low_cpu_mem_usage=True)
        self._shapes = {name: value.shape for name, value in self._unet.named_parameters() if value.is_meta}
        self._family, self._portions = family, portions

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Random first layers and zero last ones: the sum of both changes is zero."""
        device = next(value.device for value in self._unet.parameters() if not value.is_meta)
        weights = {}
        for name, shape in self._shapes.items():
            bound = shape[-1] ** -0.5 if ".lora_A." in name or name.endswith(".first.weight") else 0.0
            uniform = 2.0 * torch.rand(shape, generator=generator) - 1.0
            weights[name] = (bound * uniform).to(device)
        return weights

    def predict(
        self,
        weights: dict[str, Tensor],
        latents: Float[Tensor, "B C h w"],
        timesteps: Int[Tensor, " B"],
        embedding: Embedding,
        cameras: Cameras,
    ) -> Prediction:
        seen = camera_vectors(cameras).to(latents)
        if embedding.cameras is not None:
            seen = torch.cat([seen, embedding.cameras], dim=1)
        x, names = latents.to(self._family.network.dtype), [*weights]

        def answer(values: list[Tensor], rows: slice) -> Tensor:
            told = self._family.told(embedding[rows]) | {"class_labels": seen[rows]}
            named = dict(zip(names, values, strict=True))
            return functional_call(self._unet, named, (x[rows], timesteps[rows]), told).sample

        value = learning([*weights.values()], answer, len(latents), self._portions)
        alpha, sigma = self._family.schedule.at(timesteps, latents)
        return Prediction(self._family.kind, value.to(latents.dtype), latents, alpha, sigma)


class _CameraEmbedding(nn.Module):
    """What the student adds to the time embedding: its own view of the camera and, where there is one, the prior's."""

    def __init__(self, frozen: nn.Module | None, width: int) -> None:
        super().__init__()
        self.frozen = frozen
        self.first = nn.Linear(16, width, device="meta")
        self.last = nn.Linear(width, width, device="meta")

    def forward(self, seen: Float[Tensor, "B _"]) -> Float[Tensor, "B width"]:
        own = self.last(silu(self.first(seen[:, :16].to(self.first.weight))))
        if self.frozen is None:
            return own
        return own + self.frozen(seen[:, 16:].to(next(self.frozen.parameters()).dtype))
