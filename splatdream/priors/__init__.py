"""Frozen diffusion models: what a rule asks for its gradient. Importing this package loads no torch."""

from typing import TYPE_CHECKING

from splatdream.catalog import configured
from splatdream.priors.words import builtin_folder, choose_prior

if TYPE_CHECKING:
    from splatdream.contracts import Prior

__all__ = ["builtin_folder", "load_prior"]


def load_prior(name: str, prompt: str, *, device: str = "cpu", view_words: str = "named") -> "Prior":
    """The prior that `name` means for this prompt: "auto", "builtin" or a folder (`words.choose_prior` has the rule).

    `view_words` names how it puts views into words, as a recipe does.

    ValueError where the prior does not know a word of the prompt, FileNotFoundError where there is none.
    """
    folder = choose_prior(name, prompt)
    from splatdream.priors.diffusion import DiffusionPrior

    return DiffusionPrior.load(folder, device=device, view_words=configured("view_words", view_words))
