"""Frozen diffusion models: what a rule asks for its gradient. Importing this package loads no torch."""

from pathlib import Path
from typing import TYPE_CHECKING

from splatdream.catalog import configured
from splatdream.priors.models import Wanted
from splatdream.priors.words import builtin_folder, choose_prior

if TYPE_CHECKING:
    import torch

    from splatdream.contracts import Prior
    from splatdream.priors.diffusion import Keep

__all__ = ["builtin_folder", "load_prior"]

SMALL = 500_000_000
"""Bytes of a network below which half precision, or keeping its answers, would save nothing worth having."""


def load_prior(
    name: str, prompt: str, *, device: str = "cpu", view_words: str = "named", keep: "Keep | None" = None
) -> "Prior":
    """The prior that `name` means for this prompt: "auto", "builtin", a folder, or a fetched model of the hub.

    `words.choose_prior` has the rule, `models.Wanted` what may stand behind the name. `view_words` names how the prior
    puts views into words, as a recipe does; `keep` may know what the text encoders would answer. ValueError where the
    prior does not know a word of the prompt or cannot be changed as asked, FileNotFoundError where there is none.
    """
    folder, wanted = choose_prior(name, prompt), Wanted.parse(name)
    from splatdream.priors.diffusion import DiffusionPrior

    words = configured("view_words", view_words)
    dtype = precision(folder, device)
    prior = DiffusionPrior.load(folder, device=device, dtype=dtype, view_words=words, keep=keep)
    if wanted != Wanted(wanted.name):
        from splatdream.priors.tuning import tune

        tune(prior, wanted)
    return prior


def precision(folder: Path, device: str) -> "torch.dtype":
    """Half for large models on a GPU: bfloat16 where it computes in that, since float16 overflows more easily."""
    import torch

    weights = [path for part in ("unet", "transformer") for path in (folder / part).glob("*.safetensors")]
    if not device.startswith("cuda") or sum(path.stat().st_size for path in weights) < SMALL:
        return torch.float32
    with torch.cuda.device(device):
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
