"""Latent diffusion from a diffusers folder, of any family that the catalogue knows: what all of them share.

A family (`sd.py`, `sdxl.py`, `sd3.py`, `sana.py`, `mvdream.py`) says how words become vectors and how its network is
called; which one a folder is, its `model_index.json` says.
"""

import json
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import interpolate

from splatdream.cameras import Cameras
from splatdream.catalog import find
from splatdream.contracts import Condition, Embedding, Negative, Student
from splatdream.priors.folder import Folder
from splatdream.priors.multi_view import Together
from splatdream.priors.portions import Portions, encoded
from splatdream.priors.view_words import NAMED, ViewWords
from splatdream.schedule import Kind, Prediction, Schedule

KEPT = 64
"""Texts of prompts that are kept at once, each with a word for a view."""
Keep = Callable[[list[str], Callable[[], dict[str, Tensor]]], dict[str, Tensor]]
"""Answers a question, whose every circumstance but the weights is listed, by computing or from a cache."""


@runtime_checkable
class Family(Protocol):
    """`windows` holds each tokenizer with the number of tokens that its encoder reads; `pipeline` holds the parts."""

    kind: Kind
    schedule: Schedule
    network: Any
    pipeline: Any
    windows: list[tuple[Any, int]]

    def embed(self, texts: tuple[str, ...], negative: bool) -> Embedding:
        """One row of a text for each of `windows`, on the device of the encoders; negative ones may be another case."""
        ...

    def cameras(self, cameras: Cameras) -> Float[Tensor, "B 16"] | None:
        """What the network is told of each camera, None where it knows nothing of cameras."""
        ...

    def answer(self, latents: Float[Tensor, "B C h w"], timesteps: Int[Tensor, " B"], embedding: Embedding) -> Tensor:
        """The network's own answer at x_t, of the family's kind."""
        ...


class DiffusionPrior:
    """A frozen network with its autoencoder on one device; its text encoders come there only to be used."""

    def __init__(
        self, family: Family, *, device: str = "cpu", view_words: ViewWords = NAMED, keep: Keep | None = None
    ) -> None:
        self.family, self.view_words = family, view_words
        self.keep: Keep = keep or (lambda question, compute: compute())
        self.device = torch.device(device)
        self.schedule: Schedule = family.schedule.to(self.device)
        family.schedule = self.schedule
        self.unet = family.network.to(self.device, memory_format=torch.channels_last)
        self.portions = Portions(group=getattr(family, "group", 1), threaded=self.device.type == "cpu")
        self.portions.spare = self.spare_memory
        self.use_encoder(family.pipeline.vae)
        self._texts: dict[tuple[str, str], Embedding] = {}
        self._negatives: dict[str, Embedding] = {}
        self._students: dict[int, Student] = {}
        self._cut: set[str] = set()

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        view_words: ViewWords = NAMED,
        keep: Keep | None = None,
    ) -> "DiffusionPrior":
        """From a folder of diffusers' layout. FileNotFoundError or ValueError, in a sentence, where it is none."""
        opened = Folder(Path(folder), dtype)
        name = opened.index["_class_name"]
        try:
            family = find("family", name)
        except ValueError as error:
            raise ValueError(f"{folder} holds a {name}, which cannot serve as a prior: {error}") from error
        return cls(family(opened), device=device, view_words=view_words, keep=keep)

    @property
    def group(self) -> int:
        """How many views in turn belong to one object and are seen together."""
        return self.portions.group

    def see_together(self, views: int) -> None:
        """Shows the network so many views at once; it must have been trained for that."""
        self.family = Together(self.family, views)
        self.portions.group = views

    def use_encoder(self, vae: Any) -> None:
        """Takes another autoencoder in place of its own, such as a tiny one. ValueError for one of other latents."""
        theirs, ours = vae.config.latent_channels, self.unet.config.in_channels
        if theirs != ours:
            raise ValueError(f"the autoencoder makes latents of {theirs} channels, and the network reads {ours}")
        side, scale = self.unet.config.sample_size, vae.config.scaling_factor
        if not (isinstance(side, int) and side > 0):
            raise ValueError(f"the network's sample_size must be a whole number of latents, not {side!r}")
        if not (isinstance(scale, int | float) and 0.0 < scale < float("inf")):
            raise ValueError(f"the autoencoder's scaling_factor must be a number above 0, not {scale!r}")
        self.vae = vae.requires_grad_(False).eval().to(self.device, memory_format=torch.channels_last)
        self.family.pipeline.vae = self.vae  # the one before goes
        blocks = vae.config.get("block_out_channels") or vae.config.encoder_block_out_channels
        self.factor = 2 ** (len(blocks) - 1)
        self.image_size = self.unet.config.sample_size * self.factor

    def spare_memory(self) -> bool:
        """Lets the autoencoder keep each block's input alone for its gradient, and compute the rest again.

        The gradient keeps its bits. False where nothing is gained any more: a tiny one is a single block to diffusers,
        and would keep no less; some have no such mode.
        """
        able = self.vae._supports_gradient_checkpointing and not isinstance(self.vae, AutoencoderTiny)
        if not able or self.vae.is_gradient_checkpointing:
            return False
        self.vae.enable_gradient_checkpointing()
        return True

    def condition(self, prompt: str, negative_prompt: str, cameras: Cameras) -> Condition:
        """The prompt with the words for each camera's view ("..., side view"), and the negative prompt as it is.

        A prior that knows cameras is told them with all, so that guidance strengthens the words alone, as in MVDream.
        ValueError for a prompt without a word.
        """
        azimuths, elevations = cameras.azimuths.tolist(), cameras.elevations.tolist()
        wordings = [self.view_words(*angles) for angles in zip(azimuths, elevations, strict=True)]
        words = dict.fromkeys(word for wording in wordings for word in (*wording.shares, *wording.negatives))
        texts, empty = self.texts(prompt, tuple(words), negative_prompt)
        cond = reduce(add, (mixed(texts, wording.shares) for wording in wordings))
        seen = self.family.cameras(cameras)
        seen = None if seen is None else seen.to(cond.tokens)
        negatives = []
        for word in dict.fromkeys(word for wording in wordings for word in wording.negatives):
            weights = cond.tokens.new_tensor([wording.negatives.get(word, 0.0) for wording in wordings])
            negatives.append(Negative(spread(texts[word], len(cond), seen), weights))
        cond = Embedding(cond.tokens, seen, cond.extras)
        return Condition(cond, spread(empty, len(cond), seen), tuple(negatives))

    def texts(
        self, prompt: str, words: tuple[str, ...], negative_prompt: str
    ) -> tuple[dict[str, Embedding], Embedding]:
        """One row of the prompt with each word for a view, and of the negative prompt; they are kept."""
        lacking = [word for word in words if (prompt, word) not in self._texts]
        if lacking or negative_prompt not in self._negatives:
            if len(self._texts) > KEPT:  # of a batch's prompts each is asked about for a while and never again
                self._texts, self._negatives = {}, {}
                lacking = list(words)
            self.check(prompt)
            self._texts |= {(prompt, word): self.embed(self.worded(prompt, word)) for word in lacking}
            self._negatives[negative_prompt] = self.embed(self.fitted(negative_prompt, ""), negative=True)
            self.place_encoders("cpu")
        return {word: self._texts[prompt, word] for word in words}, self._negatives[negative_prompt]

    def check(self, prompt: str) -> None:
        """ValueError where the tokenizers make nothing of the prompt."""
        if not any(tokenizer(prompt, add_special_tokens=False).input_ids for tokenizer, _ in self.family.windows):
            raise ValueError(f"the prompt {prompt!r} holds nothing that the prior can read: name a thing")

    def worded(self, prompt: str, word: str) -> tuple[str, ...]:
        """The prompt with a word for the view, for each encoder."""
        return self.fitted(prompt, f", {word} view" if word else "")

    def fitted(self, text: str, ending: str) -> tuple[str, ...]:
        """For each encoder the text and its ending, with so many of the text's last words left out that it reads all.

        Cut by the encoder, it would lose the word for the view, which stands last. A warning says what was left out.
        """
        words = text.split()
        fits = [self.fit(words, ending, *window) for window in self.family.windows]
        least = min(fits)
        if least < len(words) and text not in self._cut:
            self._cut.add(text)
            who = "the prior" if max(fits) == least else "an encoder of the prior"
            window = min(window for _, window in self.family.windows)
            warnings.warn(
                f"{who} reads {window} tokens; of the prompt it leaves out: {' '.join(words[least:])!r}", stacklevel=2
            )
        return tuple((text if kept == len(words) else " ".join(words[:kept])) + ending for kept in fits)

    def fit(self, words: list[str], ending: str, tokenizer: Any, window: int) -> int:
        """How many of the words fit into an encoder's window with the ending behind them."""

        def length(count: int) -> int:
            return self.length(" ".join(words[:count]) + ending, tokenizer)

        return bisect_right(range(1, len(words) + 1), window, key=length)

    def length(self, text: str, tokenizer: Any) -> int:
        convert = getattr(self.family.pipeline, "maybe_convert_prompt", None)  # what was taught may be several tokens
        return len(tokenizer(convert(text, tokenizer) if convert else text).input_ids)

    def embed(self, text: str | tuple[str, ...], *, negative: bool = False) -> Embedding:
        """One row of what the text encoders say of the text, or of one text for each of them."""
        texts = (text,) * len(self.family.windows) if isinstance(text, str) else text
        said = self.keep(self.question(texts, negative), lambda: self.said(texts, negative))
        extras = {name: value.to(self.device) for name, value in said.items()}
        return Embedding(extras.pop("tokens"), extras=extras)

    def question(self, texts: tuple[str, ...], negative: bool) -> list[str]:
        """All that decides the answer of the text encoders but their weights and where they compute."""
        asked = zip(self.family.windows, texts, strict=True)
        tokens = json.dumps([tokenizer(text).input_ids for (tokenizer, _), text in asked])
        return [type(self.family).__name__, *dict.fromkeys(texts), str(negative), str(self.unet.dtype), tokens]

    @torch.no_grad()
    def said(self, texts: tuple[str, ...], negative: bool) -> dict[str, Tensor]:
        """What the text encoders say; they come to the device for it, and `condition` sends them away again."""
        self.place_encoders(self.device)
        said = self.family.embed(texts, negative)
        return {name: value.to(self.unet.dtype) for name, value in ({"tokens": said.tokens} | said.extras).items()}

    def place_encoders(self, device: str | torch.device) -> None:
        """Puts the text encoders there; on the device they are needed for a moment, and would take its memory."""
        for name, part in self.family.pipeline.components.items():
            if name.startswith("text_encoder") and part is not None and part.device != torch.device(device):
                part.to(device)

    def encode(self, images: Float[Tensor, "B H W 3"]) -> Float[Tensor, "B C h w"]:
        """Scaled latents of the mode, differentiable; pictures of another size are resized to the prior's own."""
        return encoded(images, self._encode, self.portions)

    def _encode(self, images: Float[Tensor, "B H W 3"]) -> Float[Tensor, "B C h w"]:
        pixels = images.permute(0, 3, 1, 2).to(self.vae.dtype) * 2.0 - 1.0
        if pixels.shape[2:] != (self.image_size, self.image_size):
            size = (self.image_size, self.image_size)
            pixels = interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False)
        output = self.vae.encode(pixels)
        if "latent_dist" in output:
            latents = output.latent_dist.mode()
        else:
            latents = output.latents if isinstance(self.vae, AutoencoderTiny) else output.latent
        shift, scale = self._shift_and_scale(latents)
        return ((latents - shift) * scale).to(images.dtype)

    def decode(self, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B H W 3"]:
        """Pictures, not clamped."""
        if torch.is_grad_enabled() and latents.requires_grad:
            return self._decode(latents)
        return self.portions.apply(lambda rows: self._decode(latents[rows]), len(latents))

    def _decode(self, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B H W 3"]:
        shift, scale = self._shift_and_scale(latents)
        pixels = self.vae.decode((latents / scale + shift).to(self.vae.dtype)).sample
        return pixels.permute(0, 2, 3, 1).to(latents.dtype) * 0.5 + 0.5

    @torch.no_grad()
    def predict(
        self, latents: Float[Tensor, "B C h w"], timesteps: Int[Tensor, " B"], embedding: Embedding
    ) -> Prediction:
        x = latents.to(self.unet.dtype)
        value = self.portions.apply(
            lambda rows: self.family.answer(x[rows], timesteps[rows], embedding[rows]), len(latents)
        )
        alpha, sigma = self.schedule.at(timesteps, latents)
        return Prediction(self.family.kind, value.to(latents.dtype), latents, alpha, sigma)

    def student(self, rank: int) -> Student:
        """A LoRA of this rank on the UNet's attention, told the cameras; made once. ValueError without a UNet."""
        if not isinstance(self.unet, UNet2DConditionModel):
            raise ValueError(
                f"a student can be made of a UNet only, and this prior is a {type(self.unet).__name__}; use the "
                "built-in prior or Stable Diffusion 1.x, 2.x or XL, or a rule without a student: sds, ism or flow"
            )
        if rank not in self._students:
            from splatdream.priors.student import LoRAStudent  # peft takes a while, and few rules want it

            portions = Portions(self.portions.views, self.portions.group)
            self._students[rank] = LoRAStudent(self.family, rank, portions)
        return self._students[rank]

    def _shift_and_scale(self, latents: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """What is taken from raw latents, and what they are then multiplied by; some models scale every channel."""
        config = self.vae.config
        means, deviations = config.get("latents_mean"), config.get("latents_std")
        if means is None or deviations is None:
            return config.get("shift_factor") or 0.0, config.scaling_factor
        shift, deviation = (latents.new_tensor(values).reshape(1, -1, 1, 1) for values in (means, deviations))
        return shift, config.scaling_factor / deviation


def mixed(texts: dict[str, Embedding], shares: dict[str, float]) -> Embedding:
    """The embeddings of the prompt with each word for a view, by their shares."""
    names = texts[next(iter(shares))].extras
    tokens = sum_of(share * texts[word].tokens for word, share in shares.items())
    extras = {name: sum_of(share * texts[word].extras[name] for word, share in shares.items()) for name in names}
    return Embedding(tokens, extras=extras)


def sum_of(terms: Iterator[Tensor]) -> Tensor:
    return reduce(add, terms)


def spread(row: Embedding, count: int, cameras: Float[Tensor, "B 16"] | None) -> Embedding:
    """One row for every view."""
    every = reduce(add, [row] * count)
    return Embedding(every.tokens, cameras, every.extras)
