"""Full models on the model hub: which one can be had, how large it is, and fetching it. Imports no torch."""

from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from splatdream.priors.words import FULL_MODELS, NEEDED

FILES = (
    "model_index.json",
    "scheduler/*.json",
    "tokenizer/*",
    *(f"{part}/{name}" for part, weights in NEEDED.items() for name in ("config.json", weights)),
)
"""What `DiffusionPrior.load` reads of a repository; half-precision copies and checkers are left there."""


@dataclass(frozen=True)
class Offer:
    """A model that the hub would give: `size` in bytes."""

    repository: str
    revision: str
    size: int

    def minutes(self, megabits: float = 100.0) -> float:
        """Time to fetch it over a line of so many megabits a second."""
        return 8e-6 * self.size / megabits / 60


def offer(endpoint: str | None = None) -> Offer | None:
    """The first of `FULL_MODELS` that the hub has; None where none is there or the hub cannot be reached."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    for repository in FULL_MODELS:
        try:
            info = HfApi(endpoint).model_info(repository, files_metadata=True, timeout=10)
        except RepositoryNotFoundError:  # gone, or gated
            continue
        except Exception:  # the client lets its HTTP library's errors through, and they change with it
            return None
        wanted = [file for file in info.siblings or [] if any(fnmatch(file.rfilename, name) for name in FILES)]
        if info.sha and {file.rfilename for file in wanted} >= {f"{part}/{name}" for part, name in NEEDED.items()}:
            return Offer(repository, info.sha, sum(file.size or 0 for file in wanted))
    return None


def fetch(found: Offer, cache: Path | None = None, endpoint: str | None = None) -> Path:
    """The folder of the fetched model; what an earlier attempt brought is kept."""
    from huggingface_hub import snapshot_download

    folder = snapshot_download(
        found.repository, revision=found.revision, allow_patterns=list(FILES), cache_dir=cache, endpoint=endpoint
    )
    return Path(folder)
