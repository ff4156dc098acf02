"""What is changed about a prior after it was loaded: low-rank changes (LoRA), new words, another autoencoder, its code.

The first two go through diffusers' own loaders, from safetensors only. A LoRA is merged into the weights, so that
nothing else needs to know of it.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from splatdream.priors.folder import Folder, first_line
from splatdream.priors.models import Wanted
from splatdream.priors.multi_view import VIEWS

ENCODERS = {"clip_l": ("text_encoder", "tokenizer"), "clip_g": ("text_encoder_2", "tokenizer_2")}
"""By which names a file of new words tells the two encoders of Stable Diffusion XL apart."""

REPEATED = ("BasicTransformerBlock", "JointTransformerBlock", "SanaTransformerBlock")
"""Blocks of which networks have many; diffusers names them for some networks only."""


def tune(prior: Any, wanted: Wanted) -> None:
    """Changes the prior as `wanted` says. FileNotFoundError or ValueError, in a sentence, for what does not fit it."""
    for file, scale in wanted.loras:
        merge_lora(prior.family.pipeline, Path(file).expanduser(), scale)
    for file, token in wanted.words:
        learn_words(prior.family.pipeline, Path(file).expanduser(), token)
    if wanted.together:
        prior.see_together(VIEWS)
    if wanted.encoder:
        take_encoder(prior, Path(wanted.encoder).expanduser())
    if wanted.compiled:
        compile_blocks(prior)


def compile_blocks(prior: Any) -> None:
    """Has torch compile the encoder and every block of the network of which there are many, at their first use.

    One block's code serves all of its kind, and torch keeps it on disk. What cannot be compiled runs as it is; that is
    a setting of torch's for the whole process.
    """
    torch._dynamo.config.suppress_errors = True
    for block in prior.unet.modules():
        if type(block).__name__ in REPEATED:
            block.compile()
    prior.vae.encoder.compile()


def merge_lora(pipeline: Any, path: Path, scale: float) -> None:
    """Adds `scale` times the LoRA in a file, or in a folder of diffusers' making, to the pipeline's weights."""
    model = type(pipeline).__name__
    if not path.exists():
        raise FileNotFoundError(f"there is no LoRA {path}")
    file = lora_in(path) if path.is_dir() else path
    if file.suffix != ".safetensors":
        raise ValueError(f"{file} is no .safetensors; weights in other files could run code and are never opened")
    options = {"weight_name": file.name, "use_safetensors": True, "local_files_only": True}
    try:
        pipeline.load_lora_weights(str(file.parent), **options)
        given, placed = given_by(file), placed_in(pipeline)
        if placed != given or not given:
            raise ValueError(f"of its {given} weights {placed} belong there")
        pipeline.fuse_lora(lora_scale=scale, safe_fusing=True)  # refuses what is not finite
        pipeline.unload_lora_weights()
    except Exception as error:  # peft's and diffusers' errors for what does not fit are of many kinds
        raise ValueError(f"the LoRA {path} does not fit a {model}: {first_line(error)}") from error


def lora_in(folder: Path) -> Path:
    """The file of a LoRA in a folder: of the name that diffusers gives it, or the only one. ValueError without it."""
    files = sorted(folder.glob("*.safetensors"))
    named = [file for file in files if file.name == "pytorch_lora_weights.safetensors"]
    if len(named or files) != 1:
        raise ValueError(f"{folder} holds {len(files)} files of .safetensors: say which one is the LoRA")
    return (named or files)[0]


def given_by(file: Path) -> int:
    """How many matrices a LoRA brings; its scales (alpha) are none."""
    with safe_open(file, framework="pt") as weights:
        return sum(not name.endswith(".alpha") for name in weights.keys())  # noqa: SIM118 - no dict


def placed_in(pipeline: Any) -> int:
    """How many matrices of a LoRA the pipeline's networks hold."""
    networks = [part for part in pipeline.components.values() if isinstance(part, nn.Module)]
    return sum(".lora_" in name for network in networks for name, _ in network.named_parameters())


def learn_words(pipeline: Any, path: Path, token: str) -> None:
    """Teaches the pipeline the word in a file of textual inversion; `token` is needed where the file names none."""
    model = type(pipeline).__name__
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of new words {path}")
    if not hasattr(pipeline, "load_textual_inversion"):
        raise ValueError(f"a {model} cannot be taught new words (textual inversion)")
    try:
        tables = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file: {first_line(error)}") from error
    taught = by_encoder(pipeline, tables)
    if not taught:
        raise ValueError(f"{path} holds no word for a {model}")
    for part, (name, table) in taught.items():
        word = token or name
        if table.ndim > 2 or not table.numel() or not bool(table.isfinite().all()):
            raise ValueError(f"the word in {path} has no meaning: its vectors are none, or not finite")
        if word in ("", "emb_params"):
            raise ValueError(f"{path} does not say which word it teaches; write ;words={path}:<my-word>")
        encoder, tokenizer = part
        try:
            pipeline.load_textual_inversion(
                {word: table}, text_encoder=getattr(pipeline, encoder), tokenizer=getattr(pipeline, tokenizer)
            )
        except Exception as error:
            raise ValueError(f"the words in {path} do not fit a {model}: {first_line(error)}") from error


def by_encoder(pipeline: Any, tables: dict[str, Tensor]) -> dict[tuple[str, str], tuple[str, Tensor]]:
    """Of each (encoder, tokenizer) the name and the vectors that are meant for it."""
    if set(tables) <= set(ENCODERS):
        return {ENCODERS[key]: ("", table) for key, table in tables.items() if hasattr(pipeline, ENCODERS[key][0])}
    words = {name: table for name, table in tables.items() if name == "emb_params"} or tables
    if len(words) != 1:  # the weights of something else
        return {}
    return {ENCODERS["clip_l"]: next(iter(words.items()))}


def take_encoder(prior: Any, path: Path) -> None:
    """Puts a tiny autoencoder (TAESD and its like) in the place of the prior's own: less memory, coarser gradients."""
    if not path.is_dir():
        raise FileNotFoundError(f"there is no encoder {path}; give the folder of an AutoencoderTiny")
    prior.use_encoder(Folder(path, prior.vae.dtype).load("", AutoencoderTiny))
