"""Splat files: one file per format, each with a writer of a cloud and a reader of an asset; the suffix decides."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from splatdream.catalog import CATALOG, choose, find

if TYPE_CHECKING:
    from splatdream.export.asset import Asset
    from splatdream.export.axes import Axes
    from splatdream.splats import Splats

FLAT = (".splat", ".html")
"""What shows the same colours from all sides, whatever the cloud has."""
LONGEST_HEADER = 1 << 16
"""Bytes of a .ply within which its header ends."""


def write(splats: "Splats", path: str | Path, **options: Any) -> None:
    """The cloud in the format of the path's suffix, atomically; the format's writer says what `options` there are."""
    find("exporter", output_suffix(path))(splats, path, **options)


def read(path: str | Path, *, up: "Axes | None" = None, drop_invalid: bool = False) -> "Asset":
    """The asset in a file of any tool, in this project's axes.

    `up` are the file's axes where it does not say them or is wrong. ValueError, saying why, for a file that is not of
    its suffix's format, is cut short, or holds rows that are not finite; with `drop_invalid` such rows are left out.
    """
    return find("reader", input_suffix(path))(path, up=up, drop_invalid=drop_invalid)


def output_suffix(path: str | Path) -> str:
    """The suffix by which a writer is found; ValueError that lists the choices where there is none."""
    return _longest("output suffix", path, list(CATALOG["exporter"]))


def input_suffix(path: str | Path) -> str:
    """The suffix by which a reader is found; ValueError that lists the choices where there is none."""
    return _longest("input suffix", path, list(CATALOG["reader"]))


def holds_splats(path: str | Path) -> bool:
    """Whether a file holds Gaussians rather than triangles or bare points: by its suffix, or where others have it too
    (.ply, glTF), by its beginning.
    """
    path, suffixes = Path(path), [suffix for suffix in CATALOG["reader"] if str(path).lower().endswith(suffix)]
    if not suffixes or max(suffixes, key=len) not in (".ply", ".glb", ".gltf"):
        return bool(suffixes)
    with path.open("rb") as file:
        start = file.read(LONGEST_HEADER)
        if path.suffix.lower() == ".ply":
            header = start.partition(b"end_header")[0].split()
            return b"opacity" in header or b"chunk" in header
        document = start + file.read(int.from_bytes(start[12:16], "little") if start[:4] == b"glTF" else -1)
    return b"KHR_gaussian_splatting" in document


def _longest(what: str, path: str | Path, choices: list[str]) -> str:
    name = Path(path).name.lower()
    fitting = [suffix for suffix in choices if name.endswith(suffix) and name != suffix]
    return max(fitting, key=len) if fitting else choose(what, Path(path).suffix, choices)
