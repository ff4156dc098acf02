"""Training of the built-in UNet together with its text encoder, on latents of the corpus.

v-prediction under the squared-cosine noise schedule (Nichol & Dhariwal 2021; small latents need less noise than the
linear one), the noisy half drawn more often, what cannot be told counted less, weights averaged exponentially. Min-SNR
weights (Hang et al. 2023) were tried first: they all but silence the noisy end, where the words decide, and after 700
steps the words still changed nothing.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from splatdream.export.atomic import atomic_write
from splatdream.priors.multi_view import VIEWS, teach_views
from splatdream.schedule import Schedule
from splatdream.train.autoencoder import LATENT_CHANNELS
from splatdream.train.follow import step_seed
from splatdream.train.muon import Optimiser
from splatdream.train.pictures import load_shard
from splatdream.train.rate import falling_rate
from splatdream.train.text import SPECIAL, WIDTH, new_text_encoder, tokens
from splatdream.train.threads import mean_gradients, team
from splatdream.train.weights import OPEN, weights_of

UNKNOWN_CAMERA_SHARE = 0.1


def new_scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
    )


def new_unet(channels: tuple[int, ...] = (64, 128, 192)) -> UNet2DConditionModel:
    """Attention, to itself and to the words, at all but the finest level: there it costs most and helps least.

    The words also reach every block as one pooled vector beside the timestep (diffusers' `addition_embed_type`, as
    DeepFloyd IF has it): kinds and colours are learnt several times sooner than by attention alone. So does the camera
    (`class_embed_type`, as MVDream has it): a view word leaves a quarter of a turn open, and what is left open is
    blurred at the noisy end, where shapes are decided.
    """
    deeper = len(channels) - 1
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * deeper,
        up_block_types=("CrossAttnUpBlock2D",) * deeper + ("UpBlock2D",),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=16,
    )


class Denoiser(nn.Module):
    """What is trained: the UNet and the text encoder that speaks to it."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.unet = new_unet()
        teach_views(self.unet)
        self.text_encoder = new_text_encoder(tokenizer)

    def forward(self, latents: Tensor, timesteps: Tensor, ids: Tensor, cameras: Tensor, views: int = 1) -> Tensor:
        words = self.text_encoder(ids).last_hidden_state
        return self.unet(
            latents,
            timesteps,
            encoder_hidden_states=words,
            class_labels=cameras,
            cross_attention_kwargs={"views": views},
        ).sample

    @torch.no_grad()
    def expect(self, cameras: Float[Tensor, "S 16"]) -> None:
        """Folds the cameras' mean and deviation into the first layer that reads them.

        Distances and focal lengths vary by a few per cent of their size; left alone, they would go unnoticed for long.
        """
        embedding: Any = self.unet.class_embedding
        first, second = embedding.linear_1, embedding.linear_2
        first.weight.mul_(2.0 / cameras.std(0).clamp_min(0.01))
        first.bias.sub_(first.weight @ cameras.mean(0))
        second.weight.mul_(0.3)
        second.bias.zero_()


@dataclass(frozen=True)
class Lessons:
    """What the denoiser learns from: latents of S pictures, the token ids of their captions, their cameras.

    Each VIEWS pictures in turn show one object. `weights` say what each latent counts.
    """

    latents: Float[Tensor, "S C h w"]
    ids: Int[Tensor, "S window"]
    cameras: Float[Tensor, "S 16"]
    weights: Float[Tensor, "S 1 h w"]

    def scaled(self, deviation: float) -> "Lessons":
        """With latents divided by their `deviation`."""
        return replace(self, latents=self.latents.float() / deviation)


@dataclass(frozen=True)
class Exercise:
    """Noisy latents and the v that they hide; each `views` rows in turn show one object and are seen together."""

    x_t: Float[Tensor, "B C h w"]
    v: Float[Tensor, "B C h w"]
    timesteps: Int[Tensor, " B"]
    ids: Int[Tensor, "B window"]
    cameras: Float[Tensor, "B 16"]
    weights: Float[Tensor, "B 1 h w"]
    views: int = 1

    def part(self, k: int, count: int) -> "Exercise":
        """The k-th of `count` parts, which leave groups of views whole."""
        rows = torch.arange(len(self.x_t)).reshape(-1, self.views)[k::count].flatten()
        return Exercise(*(tensor[rows] for tensor in self._tensors()), views=self.views)

    def loss(self, model: Denoiser) -> Float[Tensor, ""]:
        """The mean of the weighted squared errors of v."""
        x_t = self.x_t.contiguous(memory_format=torch.channels_last)
        errors = model(x_t, self.timesteps, self.ids, self.cameras, self.views) - self.v
        return (self.weights * errors.square()).mean()

    def to(self, device: torch.device) -> "Exercise":
        return Exercise(*(tensor.to(device) for tensor in self._tensors()), views=self.views)

    def _tensors(self) -> tuple[Tensor, ...]:
        return self.x_t, self.v, self.timesteps, self.ids, self.cameras, self.weights


def draw_exercise(
    lessons: Lessons, schedule: Schedule, batch: int, generator: torch.Generator, views: int = 1
) -> Exercise:
    """A random batch at stratified random timesteps, with density proportional to t cubed.

    `views` rows in turn, of one object, share a timestep. A tenth of the cameras, whole groups of them, is withheld
    (zeros), so that the prior also serves who has none.
    """
    groups = batch // views
    first = torch.randint(len(lessons.latents) // views, (groups,), generator=generator) * views
    rows = (first[:, None] + torch.arange(views)).flatten()
    latents = lessons.latents[rows]
    strata = (torch.arange(groups) + torch.rand(groups, generator=generator)) / groups
    # The noisy half is drawn fifteen times as often as the clean one: there words and camera decide.
    timesteps = (strata ** (1 / 4) * len(schedule)).long().clamp_max(len(schedule) - 1).repeat_interleave(views)
    noise = torch.randn(latents.shape, generator=generator)
    told = (torch.rand(groups, 1, generator=generator) >= UNKNOWN_CAMERA_SHARE).repeat_interleave(views, 0)
    alpha, sigma = schedule.at(timesteps, latents)
    return Exercise(
        x_t=schedule.add_noise(latents, noise, timesteps),
        v=alpha * noise - sigma * latents,
        timesteps=timesteps,
        ids=lessons.ids[rows],
        cameras=told * lessons.cameras[rows],
        weights=torch.where(told[:, :, None, None], lessons.weights[rows], OPEN),
        views=views,
    )


@dataclass
class DenoiserRun:
    """A training run that can be stopped and taken up again; `total` steps with a cosine-falling rate."""

    parts: ClassVar[tuple[str, ...]] = ("model", "average", "optimiser")

    model: Denoiser
    average: Denoiser
    optimiser: Optimiser
    schedule: Schedule
    total: int
    rate: float
    step: int = 0

    @classmethod
    def new(cls, tokenizer: PreTrainedTokenizerFast, total: int, seed: int, rate: float = 4e-4) -> "DenoiserRun":
        torch.manual_seed(seed)  # diffusers and transformers initialise from the global generator
        model = Denoiser(tokenizer)
        schedule = Schedule.from_alphas_cumprod(new_scheduler().alphas_cumprod)
        return cls(model, copy.deepcopy(model).requires_grad_(False), Optimiser(model, rate), schedule, total, rate)

    def expect(self, cameras: Float[Tensor, "S 16"]) -> None:
        """Tells the fresh model what cameras to expect, before the first step."""
        self.model.expect(cameras)
        self.average.load_state_dict(self.model.state_dict())

    def to(self, device: str) -> None:
        """Moves both copies; the optimiser follows, since it has no state before the first step."""
        self.model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in its stub
        self.average.to(device)

    def rate_now(self) -> float:
        return falling_rate(self.step, self.total, peak=self.rate, warmup=200, floor=0.03)

    def train(self, lessons: Lessons, batch: int, seed: int) -> Iterator[tuple[int, float]]:
        """Yields (step, loss) until `total`; half of each batch are views alone, half groups of views."""
        device, generator = next(self.model.parameters()).device, torch.Generator()
        with team(device, batch // 2 // VIEWS) as together:
            while self.step < self.total:
                generator.manual_seed(step_seed(seed, self.step))
                draw = partial(draw_exercise, lessons, self.schedule, batch // 2, generator)
                alone, joined = draw().to(device), draw(views=VIEWS).to(device)
                loss = mean_gradients(together, partial(self._loss, alone, joined), self.model)
                self.optimiser.step(self.rate_now(), together.pool)
                self.step += 1
                self._average()
                yield self.step, loss

    def _loss(self, alone: Exercise, joined: Exercise, k: int, count: int) -> Tensor:
        return (alone.part(k, count).loss(self.model) + joined.part(k, count).loss(self.model)) / 2

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(0.999, (1 + self.step) / (10 + self.step))
        for mean, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
            mean.lerp_(value, 1.0 - decay)


@torch.no_grad()
def encode_shards(paths: list[Path], vae, tokenizer: PreTrainedTokenizerFast, device: str = "cpu") -> Lessons:
    """Raw latents, in half precision and kept beside each shard, with captions and cameras.

    Objects whose captions hold a word that the tokenizer lacks are left out. Kept latents carry the autoencoder's
    fingerprint in their name, so that another one's are never taken for them.
    """
    mark = fingerprint(vae)
    latents, ids, cameras, weights = [], [], [], []
    for path in paths:
        stored = path.with_suffix(f".{mark}.npy")
        pictures = load_shard(path)
        images = torch.from_numpy(pictures.images)
        if not stored.exists():
            coded = [_encode(vae, chunk.to(device)).half().cpu() for chunk in images.split(100)]
            with atomic_write(stored) as file:
                np.save(file, torch.cat(coded).numpy())
        words = tokens(tokenizer, pictures.captions)
        known = words.ne(SPECIAL.index("<unk>")).reshape(-1, VIEWS * words.shape[1]).all(1).repeat_interleave(VIEWS)
        latents.append(torch.from_numpy(np.load(stored))[known])
        ids.append(words[known])
        cameras.append(torch.from_numpy(pictures.cameras)[known])
        weights.append(weights_of(images, pictures.captions, latents[-1].shape[2:])[known])
    return Lessons(torch.cat(latents), torch.cat(ids), torch.cat(cameras), torch.cat(weights))


def fingerprint(module: nn.Module) -> str:
    """Eight hexadecimal digits of the weights' hash."""
    digest = sha256()
    for value in module.state_dict().values():
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:8]


def _encode(vae, images: Tensor) -> Tensor:
    return vae.encode(images.permute(0, 3, 1, 2).float() / 127.5 - 1.0).latents
