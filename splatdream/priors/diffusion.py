"""Latent diffusion from a diffusers folder: the built-in prior and Stable Diffusion 1.x and 2.x."""

import json
from functools import reduce
from operator import add
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import AutoTokenizer, CLIPTextModel

from splatdream.cameras import Cameras, camera_vectors
from splatdream.contracts import Condition, Embedding, Negative, Student
from splatdream.priors.view_words import NAMED, ViewWords
from splatdream.schedule import Prediction, Schedule

_AUTOENCODERS = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}


class DiffusionPrior:
    """A frozen UNet with its autoencoder and text encoder, all on one device in one precision."""

    def __init__(self, vae, unet, text_encoder, tokenizer, scheduler, *, view_words: ViewWords = NAMED) -> None:
        for module in (vae, unet, text_encoder):
            module.requires_grad_(False).eval()
        self.vae, self.unet, self.text_encoder, self.tokenizer = vae, unet, text_encoder, tokenizer
        self.kind = scheduler.config.prediction_type
        self.schedule = Schedule.from_alphas_cumprod(scheduler.alphas_cumprod)
        self.factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.image_size = unet.config.sample_size * self.factor
        self.view_words = view_words
        self.knows_cameras = unet.config.class_embed_type == "projection"
        self._embeddings: dict[str, Tensor] = {}
        self._students: dict[int, Student] = {}

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        view_words: ViewWords = NAMED,
    ) -> "DiffusionPrior":
        """From a folder of diffusers' layout. FileNotFoundError or ValueError where it is none."""
        folder = Path(folder)
        index = folder / "model_index.json"
        if not index.is_file():
            raise FileNotFoundError(f"{folder} is no diffusers folder: it has no model_index.json")
        classes = {name: entry[1] for name, entry in json.loads(index.read_text()).items() if isinstance(entry, list)}
        if classes.get("unet") != "UNet2DConditionModel" or classes.get("vae") not in _AUTOENCODERS:
            raise ValueError(
                f"{folder} holds {classes}; this prior needs a UNet2DConditionModel and {[*_AUTOENCODERS]}"
            )
        options = {"use_safetensors": True, "torch_dtype": dtype, "local_files_only": True}
        vae = _AUTOENCODERS[classes["vae"]].from_pretrained(folder / "vae", **options)
        unet = UNet2DConditionModel.from_pretrained(folder / "unet", **options)
        text_encoder = CLIPTextModel.from_pretrained(
            folder / "text_encoder", dtype=dtype, use_safetensors=True, local_files_only=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        scheduler = DDIMScheduler.from_pretrained(folder / "scheduler")
        modules: list[torch.nn.Module] = [vae, unet, text_encoder]
        for module in modules:
            module.to(device)
        return cls(vae, unet, text_encoder, tokenizer, scheduler, view_words=view_words)

    @property
    def device(self) -> torch.device:
        return self.unet.device

    def condition(self, prompt: str, negative_prompt: str, cameras: Cameras) -> Condition:
        """The prompt with the words for each camera's view ("..., side view"), and the negative prompt as it is.

        A prior that knows cameras is told them with all, so that guidance strengthens the words alone, as in MVDream.
        """
        azimuths, elevations = cameras.azimuths.tolist(), cameras.elevations.tolist()
        wordings = [self.view_words(*angles) for angles in zip(azimuths, elevations, strict=True)]
        cond = torch.cat([self.mixed(prompt, wording.shares) for wording in wordings])
        uncond = self.embed(negative_prompt).expand(len(cond), -1, -1)
        seen = camera_vectors(cameras).to(cond) if self.knows_cameras else None
        negatives = []
        for word in dict.fromkeys(word for wording in wordings for word in wording.negatives):
            away = Embedding(self.mixed(prompt, {word: 1.0}).expand(len(cond), -1, -1), seen)
            weights = cond.new_tensor([wording.negatives.get(word, 0.0) for wording in wordings])
            negatives.append(Negative(away, weights))
        return Condition(Embedding(cond, seen), Embedding(uncond, seen), tuple(negatives))

    def mixed(self, prompt: str, shares: dict[str, float]) -> Float[Tensor, "1 L E"]:
        """The embeddings of the prompt with each word for a view, by their shares."""
        texts = {f"{prompt}, {word} view" if word else prompt: share for word, share in shares.items()}
        return reduce(add, (share * self.embed(text) for text, share in texts.items()))

    @torch.no_grad()
    def embed(self, text: str) -> Float[Tensor, "1 L E"]:
        """The text encoder's last hidden states, kept by text. ValueError where the text outgrows its window."""
        if text not in self._embeddings:
            window = self.tokenizer.model_max_length
            ids = self.tokenizer(text, padding="max_length", max_length=window, return_tensors="pt").input_ids
            if ids.shape[1] > window:
                # Cutting would take the word for the view, which stands last, and nobody would know.
                raise ValueError(f"{text!r} has {ids.shape[1]} tokens and the prior reads {window}; shorten the prompt")
            self._embeddings[text] = self.text_encoder(ids.to(self.device)).last_hidden_state
        return self._embeddings[text]

    def encode(self, images: Float[Tensor, "B H W 3"]) -> Float[Tensor, "B C h w"]:
        """Scaled latents of the mode, differentiable; pictures of another size are resized to the prior's own."""
        pixels = images.permute(0, 3, 1, 2).to(self.unet.dtype) * 2.0 - 1.0
        if pixels.shape[2:] != (self.image_size, self.image_size):
            size = (self.image_size, self.image_size)
            pixels = interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False)
        output = self.vae.encode(pixels)
        latents = output.latents if isinstance(self.vae, AutoencoderTiny) else output.latent_dist.mode()
        return (latents - self._shift) * self._scale

    def decode(self, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B H W 3"]:
        """Pictures, not clamped."""
        pixels = self.vae.decode(latents / self._scale + self._shift).sample
        return pixels.permute(0, 2, 3, 1) * 0.5 + 0.5

    @torch.no_grad()
    def predict(
        self, latents: Float[Tensor, "B C h w"], timesteps: Int[Tensor, " B"], embedding: Embedding
    ) -> Prediction:
        value = self.unet(
            latents, timesteps, encoder_hidden_states=embedding.tokens, class_labels=embedding.cameras
        ).sample
        alpha, sigma = self.schedule.at(timesteps, latents)
        return Prediction(self.kind, value, latents, alpha, sigma)

    def student(self, rank: int) -> Student:
        """A LoRA of this rank on the UNet's attention, told the cameras; made once."""
        if rank not in self._students:
            from splatdream.priors.student import LoRAStudent  # peft takes a while, and few rules want it

            self._students[rank] = LoRAStudent(self.unet, self.kind, self.schedule, rank)
        return self._students[rank]

    @property
    def _scale(self) -> float:
        return self.vae.config.scaling_factor

    @property
    def _shift(self) -> float:
        return getattr(self.vae.config, "shift_factor", None) or 0.0
