"""Full models on the model hub: which one can be had, how large it is, and fetching it. Imports no torch.

Of a repository come the files that a prior reads, weights as safetensors only, in half precision where there is such a
copy. Whatever goes wrong is told in one sentence, with the command that mends it.
"""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splatdream.priors.models import MODELS, NETWORKS, OPTIONAL, TOKENIZERS, WEIGHTS, addresses, missing
from splatdream.priors.words import FULL_MODELS, default_cache

ANSWERING = ("unet/", "transformer/", "shap_e_renderer/")
"""Where the network lies without which nothing can be asked."""


class Unavailable(OSError):  # noqa: N818
    """A model cannot be had; the message says why and what would help."""


@dataclass(frozen=True)
class Offer:
    """A model that the hub would give: `size` in bytes."""

    repository: str
    revision: str
    size: int
    files: tuple[str, ...] = ()

    def minutes(self, megabits: float = 100.0) -> float:
        """Time to fetch it over a line of so many megabits a second."""
        return 8e-6 * self.size / megabits / 60


def offer(endpoint: str | None = None) -> Offer | None:
    """The first of `FULL_MODELS` that the hub has; None where none is there or the hub cannot be reached."""
    try:
        return found(FULL_MODELS, endpoint)
    except Unavailable:
        return None


def offer_of(name: str, without: tuple[str, ...] = (), endpoint: str | None = None) -> Offer:
    """What the hub has of a known name or an address, less optional parts. Unavailable where it has nothing.

    ValueError for a name that means nothing, or a part that is not optional.
    """
    if not set(without) <= set(OPTIONAL):
        raise ValueError(f"only {' and '.join(OPTIONAL)} can be left out, not {' or '.join(without)}")
    if not addresses(name):
        raise ValueError(f"{name!r} is no model of the hub: give OWNER/NAME, or one of {', '.join(MODELS)}")
    return found(addresses(name), endpoint, without)


def found(wanted: Iterable[str], endpoint: str | None = None, without: tuple[str, ...] = ()) -> Offer:
    """The first of these addresses that the hub has. Unavailable, with the reason of the last, where it has none."""
    from huggingface_hub import HfApi

    failure = Unavailable("no model was asked for")
    for address in wanted:
        repository, _, revision = address.partition("@")
        try:
            info = HfApi(endpoint).model_info(repository, revision=revision or None, files_metadata=True, timeout=10)
        except Exception as error:  # the client lets its HTTP library's errors through, and they change with it
            failure = Unavailable(reason(error, address))
            continue
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        files = [file for file in chosen(sizes) if file.partition("/")[0] not in without]
        if info.sha and any(file.startswith(ANSWERING) and ".safetensors" in file for file in files):
            return Offer(repository, info.sha, sum(sizes[file] for file in files), tuple(files))
        failure = Unavailable(f"{address} holds no pipeline with weights as safetensors; choose another model")
    raise failure


def chosen(names: Iterable[str]) -> list[str]:
    """The files of a repository that a prior reads."""
    files = []
    for part in (*NETWORKS, *TOKENIZERS, "scheduler"):
        inside = [name for name in names if name.startswith(f"{part}/") and name.count("/") == 1]
        weights = [name for name in inside if WEIGHTS.fullmatch(name.partition("/")[2])]
        halves = [name for name in weights if ".fp16" in name]
        files += halves or weights
        if part in TOKENIZERS:
            files += [name for name in inside if name.endswith((".json", ".txt", ".model"))]
        else:
            files += [name for name in inside if name.endswith("config.json")]
    return [name for name in names if name == "model_index.json"] + files


def fetch(found: Offer, cache: Path | None = None, endpoint: str | None = None) -> Path:
    """The folder of the fetched model; what an earlier attempt brought is kept. Unavailable where it fails."""
    from huggingface_hub import snapshot_download

    check_room(found, cache or default_cache())
    options: dict[str, Any] = {"cache_dir": cache, "endpoint": endpoint, "revision": found.revision}
    try:
        folder = Path(snapshot_download(found.repository, allow_patterns=list(found.files) or None, **options))
    except Exception as error:  # likewise
        raise Unavailable(reason(error, f"{found.repository}@{found.revision}")) from error
    lacking = missing(folder)
    if lacking:
        raise Unavailable(f"{found.repository} lacks {lacking[0]}; choose another model")
    return folder


def check_room(found: Offer, cache: Path) -> None:
    """Unavailable where the disk of the cache has no room; what is there already is not counted twice."""
    root = cache / f"models--{found.repository.replace('/', '--')}"
    there = sum(path.stat().st_size for path in (root / "blobs").glob("*")) if root.is_dir() else 0
    disk = next(folder for folder in (cache.absolute(), *cache.absolute().parents) if folder.is_dir())
    free, needed = shutil.disk_usage(disk).free, found.size - there
    if free < needed:
        raise Unavailable(
            f"{disk} has {free / 1e9:.1f} GB left, and {found.repository} needs {needed / 1e9:.1f}: "
            "make room, or set HF_HOME to a folder on another disk"
        )


def reason(error: Exception, address: str) -> str:
    """Why the hub did not give it, and what helps."""
    from huggingface_hub import errors

    again = f"`splatdream prior fetch {address}`"
    if isinstance(error, errors.GatedRepoError):
        return f"{address} is gated: accept its terms on its page, log in with `hf auth login`, then {again}"
    if isinstance(error, errors.RevisionNotFoundError):
        return (
            f"{address.partition('@')[0]} has no revision {address.partition('@')[2]}; leave it out to take the newest"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"the hub has no {address}, or hides it until `hf auth login`; `splatdream prior list` names others"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"HF_HUB_OFFLINE forbids to fetch {address}: unset it, then {again}"
    if isinstance(error, OSError) and error.strerror and error.errno is not None and error.errno < 100:
        return f"{address} could not be kept ({error.strerror.lower()}); put that right, then {again} goes on"
    return f"the hub cannot be reached ({type(error).__name__}); once it can, {again} goes on from what is there"
