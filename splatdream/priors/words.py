"""The words that a prior knows, and which prior a prompt needs. Reads JSON and paths only: no torch, no transformers.

The built-in prior has a token for each whole word of its world and for no other. Full models spell unknown words from
pieces, so they know every word.
"""

import json
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from splatdream.priors.models import MODELS, NotHere, Wanted, addresses, cached, missing

FULL_MODELS = (*MODELS["sd15"].repositories, *MODELS["sd21-base"].repositories)
"""Repositories of the model hub in the order in which `auto` takes them."""


class UnknownWords(ValueError):  # noqa: N818
    """A prompt holds words that no prior at hand knows; a full model would."""


@dataclass(frozen=True)
class Vocabulary:
    """Whole words, and the characters that vanish between them."""

    words: tuple[str, ...]
    separators: tuple[str, ...]

    def split(self, text: str) -> list[str]:
        """The words of a text as the tokenizer sees them."""
        text = text.lower()
        for separator in self.separators:
            text = text.replace(separator, " ")
        return text.split()


def builtin_folder() -> Path:
    """Where the built-in prior lies, as it was installed."""
    return Path(str(files("splatdream_assets"))) / "prior"


def known_words(folder: str | Path | None = None) -> list[str]:
    """Every word of the prior in `folder` (the built-in one by default), sorted.

    FileNotFoundError where there is no tokenizer; ValueError where it spells, so that there is no list.
    """
    words = vocabulary(folder or builtin_folder())
    if words is None:
        raise ValueError(f"the prior in {folder} spells words from pieces: it has no list of words and knows them all")
    return sorted(words.words)


def unknown_words(prompt: str, folder: str | Path | None = None) -> list[str]:
    """The words of `prompt` that the prior in `folder` (the built-in one by default) has no token for, each once."""
    words = vocabulary(folder or builtin_folder())
    if words is None:
        return []
    known = set(words.words)
    return list(dict.fromkeys(word for word in words.split(prompt) if word not in known))


def nearest_words(word: str, folder: str | Path | None = None, count: int = 3) -> list[str]:
    """Up to `count` known words that are spelt most like `word`; none where nothing is near."""
    return get_close_matches(word.lower(), known_words(folder), n=count, cutoff=0.6)


def vocabulary(folder: str | Path) -> Vocabulary | None:
    """The whole words of a prior's tokenizer, or None where it spells.

    FileNotFoundError where there is none, ValueError where it cannot be read.
    """
    path = Path(folder) / "tokenizer" / "tokenizer.json"
    if not path.is_file():
        if (path.parent / "merges.txt").is_file():
            return None
        raise FileNotFoundError(f"there is no prior in {folder}: it has no tokenizer")
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        if table["model"].get("type") != "WordLevel":
            return None
        special = {token["content"] for token in table["added_tokens"] if token["special"]}
        return Vocabulary(tuple(word for word in table["model"]["vocab"] if word not in special), _separators(table))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no tokenizer ({error!r}); fetch or copy the folder again") from error


def _separators(table: dict) -> tuple[str, ...]:
    """The strings that the tokenizer removes before it splits at white space."""
    splitter = table["pre_tokenizer"] or {}
    pieces = splitter.get("pretokenizers", [splitter])
    return tuple(piece["pattern"]["String"] for piece in pieces if piece.get("behavior") == "Removed")


def choose_prior(name: str, text: str, *, cache: Path | None = None) -> Path:
    """The folder that `name` means for the words of `text`.

    "builtin" is the shipped prior; "auto" is that one when it knows every word, else a full model of the hub's local
    `cache` (None: where it lies by default); anything else is a folder of diffusers' layout, or a model of the hub that
    lies in the cache. What stands behind a semicolon changes no folder (`models.Wanted`). UnknownWords where nothing at
    hand knows them all, NotHere for a model that was not fetched, FileNotFoundError for a folder that holds no prior.
    """
    name = Wanted.parse(name).name
    if name not in ("auto", "builtin"):
        return _checked_folder(name, text, cache or default_cache())
    unknown = unknown_words(text)
    if not unknown:
        return builtin_folder()
    full = cached_model(cache or default_cache()) if name == "auto" else None
    if full is None:
        raise UnknownWords(f"the built-in prior {_ignorance(unknown, None)}; {REMEDY}")
    return full


REMEDY = (
    "`splatdream words` lists all it knows, and --prior FOLDER takes a full model for any words, "
    "`splatdream prior list` such as can be fetched"
)


def _checked_folder(name: str, text: str, cache: Path) -> Path:
    folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = _fetched(name, cache)
    if not (folder / "model_index.json").is_file():
        raise FileNotFoundError(f"{name!r} is no prior: it has no model_index.json; give a folder of diffusers' layout")
    lacking = missing(folder)
    if lacking:
        raise FileNotFoundError(f"the prior in {name} is not complete: {lacking[0]} is missing; fetch or copy it again")
    unknown = unknown_words(text, folder)
    if unknown:
        raise UnknownWords(f"the prior in {name} {_ignorance(unknown, folder)}")
    return folder


def _fetched(name: str, cache: Path) -> Path:
    """Where the hub's cache holds the model. NotHere where it does not, FileNotFoundError for what is no model."""
    known = addresses(name)
    if not known:
        near = get_close_matches(name, MODELS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise FileNotFoundError(
            f"{name!r} is no prior: the folder does not exist; give 'auto', 'builtin', a folder of diffusers' layout, "
            f"OWNER/NAME of the hub, or one of {', '.join(MODELS)}{hint}"
        )
    for address in known:
        folder = cached(address, cache, exactly=name not in MODELS)
        if folder:
            return folder
    raise NotHere(f"{name} is neither a folder here nor fetched (whole) from the hub: `splatdream prior fetch {name}`")


def _ignorance(unknown: list[str], folder: Path | None) -> str:
    """ "does not know 'dragn' (near: dragon)"."""
    pieces = []
    for word in unknown:
        near = ", ".join(nearest_words(word, folder))
        pieces.append(f"{word!r} (near: {near})" if near else f"{word!r} (nothing is near)")
    return f"does not know {', '.join(pieces)}"


def default_cache() -> Path:
    """Where the hub's client keeps models unless it is told otherwise."""
    return Path.home() / ".cache" / "huggingface" / "hub"


def cached_model(cache: Path) -> Path | None:
    """The first full model whose weights lie complete in the hub's local cache."""
    return next(filter(None, (cached(address, cache, exactly=False) for address in FULL_MODELS)), None)
