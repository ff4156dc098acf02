"""Training of the built-in autoencoder: diffusers' AutoencoderTiny, factor 8, eight latent channels.

It is convolutional without attention, so it trains on random crops. The loss is L1 at three scales and on image
gradients (blur is what the first trials suffered from), with a little noise on the latents: the decoder clamps them
softly at +-3, so noise makes the encoder use that range and keeps nearby latents alike, as a diffusion model wants.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from diffusers import AutoencoderTiny
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from splatdream.train.follow import step_seed
from splatdream.train.pictures import load_shard
from splatdream.train.rate import falling_rate
from splatdream.train.threads import mean_gradients, team

LATENT_CHANNELS = 8
LATENT_NOISE = 0.08
LONGEST = 1.0
"""The norm to which the gradient of all parameters together is shortened."""
CROP = 64
RATE = 2e-3
STEPS_PER_SHARD = 40


def new_autoencoder(channels: int = 32, scaling_factor: float = 1.0) -> AutoencoderTiny:
    return AutoencoderTiny(
        encoder_block_out_channels=(channels,) * 4,
        decoder_block_out_channels=(channels,) * 4,
        num_encoder_blocks=(0, 1, 1, 2),
        num_decoder_blocks=(2, 1, 1, 0),
        latent_channels=LATENT_CHANNELS,
        scaling_factor=scaling_factor,
    )


def reconstruction_loss(output: Float[Tensor, "B 3 H W"], target: Float[Tensor, "B 3 H W"]) -> Float[Tensor, ""]:
    """L1 at full, half and quarter size, and on horizontal and vertical differences."""
    loss = (output - target).abs().mean()
    for axis in (-1, -2):
        loss = loss + (output.diff(dim=axis) - target.diff(dim=axis)).abs().mean()
    for factor in (2, 4):
        loss = loss + (avg_pool2d(output, factor) - avg_pool2d(target, factor)).abs().mean()
    return loss


def random_crops(images: np.ndarray, batch: int, rng: np.random.Generator) -> Float[Tensor, "B 3 h w"]:
    """Crops in [-1, 1] of 8-bit pictures (S H W 3); plain background is mostly passed over."""
    rows = rng.integers(0, len(images), 2 * batch)
    corners = rng.integers(0, images.shape[1] - CROP + 1, (2 * batch, 2))
    crops = np.stack([images[i, y : y + CROP, x : x + CROP] for i, (y, x) in zip(rows, corners, strict=True)])
    busy = np.argsort(-crops.std(axis=(1, 2)).sum(1), kind="stable")[: batch - batch // 16]
    chosen = np.concatenate([busy, rng.integers(0, 2 * batch, batch // 16)])
    return torch.from_numpy(crops[chosen]).permute(0, 3, 1, 2).float() / 127.5 - 1.0


@dataclass
class AutoencoderRun:
    """A training run that can be stopped and taken up again; `total` steps with a cosine-falling rate."""

    parts: ClassVar[tuple[str, ...]] = ("model", "optimiser")

    model: AutoencoderTiny
    optimiser: torch.optim.Adam
    total: int
    step: int = 0

    @classmethod
    def new(cls, total: int, seed: int) -> "AutoencoderRun":
        torch.manual_seed(seed)  # diffusers initialises its layers from the global generator
        model = new_autoencoder()
        return cls(model, torch.optim.Adam(model.parameters(), lr=RATE, betas=(0.9, 0.99)), total)

    def rate_now(self) -> float:
        return falling_rate(self.step, self.total, peak=RATE, warmup=100, floor=0.02)

    def train(self, shards: list[Path], batch: int, seed: int) -> Iterator[tuple[int, float]]:
        """Yields (step, loss) until `total`."""
        generator, opened, pictures = torch.Generator(), None, np.empty(0)
        side = CROP // 8
        with team(self.model.device, batch) as together:
            while self.step < self.total:
                generator.manual_seed(step_seed(seed, self.step))
                path = shards[self.step // STEPS_PER_SHARD % len(shards)]
                if path != opened:
                    opened, pictures = path, load_shard(path).images
                self.optimiser.param_groups[0]["lr"] = self.rate_now()
                images = random_crops(pictures, batch, np.random.default_rng([seed, self.step]))
                noise = torch.randn((batch, LATENT_CHANNELS, side, side), generator=generator)
                loss = mean_gradients(together, partial(self._loss, images, noise), self.model)
                nn.utils.clip_grad_norm_(self.model.parameters(), LONGEST)
                self.optimiser.step()
                self.step += 1
                yield self.step, loss

    def _loss(self, images: Float[Tensor, "B 3 H W"], noise: Float[Tensor, "B C h w"], k: int, count: int) -> Tensor:
        """Of the k-th of `count` parts of the batch."""
        images = images[k::count].to(self.model.device).contiguous(memory_format=torch.channels_last)
        (latents,) = self.model.encode(images, return_dict=False)
        (output,) = self.model.decode(latents + LATENT_NOISE * noise[k::count].to(latents), return_dict=False)
        return reconstruction_loss(output, images)
