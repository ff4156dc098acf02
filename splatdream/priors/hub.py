"""Full models on the model hub: which one can be had, how large it is, and fetching it. Imports no torch.

Of a repository come the files that a prior reads, weights as safetensors only, in half precision where there is such a
copy. Whatever goes wrong is told in one sentence, with the command that mends it.
"""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splatdream.priors.models import HALVES, MODELS, NETWORKS, OPTIONAL, TOKENIZERS, WEIGHTS, addresses, missing
from splatdream.priors.words import FULL_MODELS, default_cache

ANSWERING = ("unet/", "transformer/", "shap_e_renderer/")
"""Where the network lies without which nothing can be asked."""


class Unavailable(OSError):  # noqa: N818
    """A model cannot be had; the message says why and what would help."""


@dataclass(frozen=True)
class Offer:
    """A model that the hub would give: `size` in bytes; `asked` is the branch or tag (or commit) that was asked for.

    `blobs` is what the cache calls the files' contents.
    """

    repository: str
    revision: str
    size: int
    files: tuple[str, ...] = ()
    asked: str = ""
    blobs: tuple[str, ...] = ()

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
    encoder, tokenizer = OPTIONAL
    if tokenizer in without and encoder not in without:
        raise ValueError(f"{encoder} reads what {tokenizer} makes: leave out {encoder}, or both")
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
            size = sum(sizes[file] for file in files)
            return Offer(repository, info.sha, size, tuple(files), revision or "main", contents(info, files))
        failure = Unavailable(f"{address} holds no pipeline with weights as safetensors; choose another model")
    raise failure


def contents(info: Any, files: list[str]) -> tuple[str, ...]:
    """The hashes of these files of a repository: large ones have one of their own, the others git's."""
    return tuple(
        file.lfs.sha256 if file.lfs else file.blob_id or "" for file in info.siblings if file.rfilename in files
    )


def chosen(names: Iterable[str]) -> list[str]:
    """The files of a repository that a prior reads."""
    files = []
    for part in (*NETWORKS, *TOKENIZERS, "scheduler"):
        inside = [name for name in names if name.startswith(f"{part}/") and name.count("/") == 1]
        weights = [name for name in inside if WEIGHTS.fullmatch(name.partition("/")[2])]
        halves = [[name for name in weights if f".{half}" in name] for half in HALVES]
        files += next(filter(None, halves), weights)
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
    if found.asked not in ("", found.revision):
        refer(folder, found)
    return folder


def refer(folder: Path, found: Offer) -> None:
    """Notes in the cache, as the hub's client does, which commit the branch or tag meant: later it is found by that."""
    path = folder.parents[1] / "refs" / found.asked
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(found.revision, encoding="utf-8")


def check_room(found: Offer, cache: Path) -> None:
    """Unavailable where the disk of the cache has no room; what is there already is not counted twice."""
    blobs = cache / f"models--{found.repository.replace('/', '--')}" / "blobs"
    paths = [blobs / f"{blob}{ending}" for blob in filter(None, found.blobs) for ending in ("", ".incomplete")]
    there = sum(path.stat().st_size for path in paths if path.is_file())
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
