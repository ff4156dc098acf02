"""The files beside a mesh that decide how it looks: materials, pictures, buffers."""

import json
import re
from pathlib import Path
from urllib.parse import unquote


def with_companions(path: Path) -> dict[str, Path]:
    """A file and those beside it that it is read with: material and pictures of .obj, buffers and pictures of .gltf."""
    found = {path.name: path}
    for name in named_in(path):
        beside = path.parent / name
        if name not in found and beside.is_file():
            found |= {name: beside} | {inner: path.parent / inner for inner in named_in(beside)}
    return {name: each for name, each in found.items() if each.is_file()}


def named_in(path: Path) -> list[str]:
    suffix = path.suffix.lower()
    if suffix == ".obj":
        return lines_after(path, rb"mtllib")
    if suffix == ".mtl":
        return [name.split()[-1] for name in lines_after(path, rb"map_Kd")]
    if suffix == ".gltf":
        try:
            document = json.loads(path.read_bytes())
            entries = [*document.get("buffers", []), *document.get("images", [])]
            return [unquote(each["uri"]) for each in entries if not each.get("uri", "data:").startswith("data:")]
        except (OSError, ValueError, AttributeError, TypeError):
            return []  # who reads it says what is wrong with it
    return []


def lines_after(path: Path, word: bytes) -> list[str]:
    """What follows a word at the beginning of a file's lines."""
    content = path.read_bytes() if path.is_file() else b""
    return [found.decode("utf-8", "replace") for found in re.findall(rb"(?mi)^\s*" + word + rb"\s+(.+?)\s*$", content)]
