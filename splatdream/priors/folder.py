"""A folder of diffusers' layout: `model_index.json` says which pipeline it is and of which class each part.

Only safetensors are read, nothing is unpickled and no code of the folder is run. What is wrong with a part is said when
the part is loaded: weights that are missing, too many, of other shapes, unreadable or not finite.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError

from splatdream.priors.models import HALVES

REFETCH = "fetch or copy the folder again"


@dataclass(frozen=True)
class Folder:
    """Weights come in `dtype`; copies in half precision (`*.fp16.safetensors`) serve where such is asked for."""

    path: Path
    dtype: torch.dtype

    @cached_property
    def index(self) -> dict[str, Any]:
        """FileNotFoundError or ValueError where the folder is no pipeline."""
        path = self.path / "model_index.json"
        if not path.is_file():
            raise FileNotFoundError(f"{self.path} is no diffusers folder: it has no model_index.json")
        index = self.json(path)
        if "_class_name" not in index:
            raise ValueError(f"{path} names no pipeline: it has no _class_name")
        return index

    def holds(self, part: str) -> bool:
        """Whether the pipeline has this part, and the folder its files."""
        return bool(self.named(part)) and (self.path / part).is_dir()

    def named(self, part: str) -> str | None:
        """The class that the index gives a part, if it gives it one."""
        entry = self.index.get(part)
        return entry[-1] if isinstance(entry, list) and entry else None

    def config(self, part: str, name: str = "config.json") -> dict[str, Any]:
        """A part's own JSON."""
        path = self.path / part / name
        if not path.is_file():
            raise FileNotFoundError(f"{self.path} is not complete: {part}/{name} is missing; {REFETCH}")
        return self.json(path)

    def json(self, path: Path) -> dict[str, Any]:
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is no JSON ({error}); {REFETCH}") from error
        if not isinstance(table, dict):
            raise ValueError(f"{path} is no table of JSON; {REFETCH}")
        return table

    def scheduler(self) -> dict[str, Any]:
        return self.config("scheduler", "scheduler_config.json")

    def class_name(self, part: str, *allowed: str) -> str:
        """The class that the index names for a part. ValueError for one that is not allowed."""
        name = self.named(part)
        if name not in allowed:
            kind = self.index["_class_name"]
            raise ValueError(f"{self.path}: the {part} of a {kind} must be {' or '.join(allowed)}, not {name}")
        return name

    def model(self, part: str, *classes: Any, wide: torch.dtype | None = None) -> Any:
        """A frozen network, one of these classes of diffusers or transformers; `wide` as in `load`."""
        name = self.class_name(part, *(each.__name__ for each in classes))
        return self.load(part, next(each for each in classes if each.__name__ == name), wide=wide)

    def load(self, part: str, cls: Any, *, wide: torch.dtype | None = None) -> Any:
        """A frozen network of this class; where float16 is asked for, in `wide`, if it overflows in that.

        ValueError, in a sentence, for anything that is wrong with its files.
        """
        self.config(part)
        dtype = wide if wide and self.dtype == torch.float16 else self.dtype
        options = {"use_safetensors": True, "local_files_only": True, "output_loading_info": True}
        options |= {"dtype": dtype, "variant": self.variant(part)}
        try:
            model, info = cls.from_pretrained(self.path / part, **options)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ValueError(f"{self.path / part} is no {cls.__name__}: {first_line(error)}; {REFETCH}") from error
        self.check(part, model, info)
        return model.requires_grad_(False).eval()

    def variant(self, part: str) -> str | None:
        """ "fp16" or "bf16" where that copy in half precision shall be read. FileNotFoundError where nothing can be."""
        weights = [path.name for path in (self.path / part).glob("*.safetensors*")]
        if not weights:
            raise FileNotFoundError(
                f"{self.path / part} has no .safetensors; weights in other files could run code and are never opened"
            )
        plain = any(not any(f".{half}" in name for half in HALVES) for name in weights)
        if plain and self.dtype == torch.float32:
            return None
        return next((half for half in HALVES if any(f".{half}" in name for name in weights)), None)

    def check(self, part: str, model: torch.nn.Module, info: dict[str, Any]) -> None:
        """ValueError for weights that are missing, unknown, of another shape or not finite."""
        said = {
            "lacks": sorted(info["missing_keys"]),
            # Old CLIP files hold a table of 0, 1, 2...
            "has, and should not,": sorted(k for k in info["unexpected_keys"] if not k.endswith("position_ids")),
            "has, in another shape,": sorted(key[0] for key in info["mismatched_keys"]),
        }
        for problem, names in said.items():
            if names:
                more = f" and {len(names) - 1} more" if len(names) > 1 else ""
                raise ValueError(f"{self.path / part} {problem} {names[0]}{more}; is it the right model?")
        for name, value in model.named_parameters():
            if not bool(value.sum(dtype=torch.float32).isfinite()):
                raise ValueError(f"{self.path / part}: the weight {name} is not finite; {REFETCH}")

    def tokenizer(self, part: str, reader: Any = None) -> Any:
        """A tokenizer of transformers' own, whose texts the `reader` can take where an encoder is given.

        ValueError for any other class, or where its files are none.
        """
        name = self.named(part)
        cls = getattr(transformers, str(name), None)
        if not (isinstance(cls, type) and issubclass(cls, transformers.PreTrainedTokenizerBase)):
            raise ValueError(
                f"{self.path}: the {part} must be a tokenizer of transformers, not {name}; a folder's code is never run"
            )
        try:
            tokenizer = cls.from_pretrained(self.path / part, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # whatever a tokenizer's many readers raise for files that are not there
            raise ValueError(f"{self.path / part} holds no tokenizer ({first_line(error)}); {REFETCH}") from error
        if reader is not None:
            window, known = reader.config.max_position_embeddings, reader.get_input_embeddings().num_embeddings
            if tokenizer.model_max_length > window or len(tokenizer) > known:
                raise ValueError(
                    f"{self.path / part} makes more than the {window} tokens, or other than the {known}, that its "
                    f"encoder reads: tokenizer_config.json is missing, or they are of two models; {REFETCH}"
                )
        return tokenizer


def first_line(error: BaseException) -> str:
    """The beginning of an error of a library, which may be a page."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".;: ")
