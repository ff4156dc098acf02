"""Mesh files: what kind of file holds triangles, and what is measured on one."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from splatdream.check import gltf, surface, texture
from splatdream.check.criteria import Measures

SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".stl")


@dataclass(frozen=True)
class Part:
    """Triangles in world axes, and what they wear: texture coordinates and the picture's width and height in pixels."""

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    uvs: Float[np.ndarray, "V 2"] | None
    size: tuple[int, int] | None


def is_mesh(path: str | Path) -> bool:
    """Whether a file holds triangles rather than Gaussians, by its suffix and, where both have it, its beginning."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in (".obj", ".stl"):
        return True
    if suffix == ".ply":
        with path.open("rb") as file:
            start = file.read(1 << 16)
        # MeshLab and others leave an element of no faces in what is none.
        return bool(re.search(rb"\nelement face\s+0*[1-9]", start.partition(b"end_header")[0]))
    if suffix in (".glb", ".gltf"):
        content = path.read_bytes()
        text = content[20 : 20 + int.from_bytes(content[12:16], "little")] if content[:4] == b"glTF" else content
        try:
            return "KHR_gaussian_splatting" not in json.loads(text).get("extensionsUsed", [])
        except (ValueError, AttributeError):
            return False  # the reader of splats says what is wrong with it
    return False


def read_parts(path: str | Path) -> list[Part]:
    """The triangles of a mesh file, part by part. ValueError where there are none or it cannot be read."""
    import trimesh

    try:
        scene = trimesh.load_scene(path, process=False)
        meshes = [mesh for mesh in scene.dump() if isinstance(mesh, trimesh.Trimesh)]
    except Exception as error:  # trimesh's readers fail with whatever the bytes lead them to
        raise ValueError(f"{path} is no mesh that can be read: {error or type(error).__name__}") from error
    if not any(len(mesh.faces) for mesh in meshes):
        raise ValueError(f"{path} holds no triangles")
    return [part_of(mesh) for mesh in meshes]


def part_of(mesh) -> Part:
    uvs, material = getattr(mesh.visual, "uv", None), getattr(mesh.visual, "material", None)
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    size = image.size if image is not None else None
    uvs = None if uvs is None or len(uvs) != len(mesh.vertices) else np.asarray(uvs, np.float64)
    return Part(np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64), uvs, size)


def measure(path: str | Path) -> Measures:
    """Every number that the criteria for meshes ask for."""
    parts = read_parts(path)
    offsets = np.cumsum([0, *(len(part.vertices) for part in parts)])
    faces = [part.faces + offset for part, offset in zip(parts, offsets, strict=False)]
    shape = surface.measure(np.concatenate([part.vertices for part in parts]), np.concatenate(faces))
    is_gltf = Path(path).suffix.lower() in (".glb", ".gltf")
    validity = gltf.errors(Path(path)) if is_gltf else "only glTF has an official validator"
    return {**shape, **dict(dressed(parts)), "gltf_errors": validity}


def dressed(parts: list[Part]) -> Iterator[tuple[str, float | str]]:
    """The worst of each number over the parts that have a texture, each with a picture of its own."""
    found = [
        texture.measure(part.vertices[part.faces], part.uvs[part.faces], part.size)
        for part in parts
        if part.uvs is not None and part.size is not None and len(part.faces)
    ]
    for name in texture.NAMES:
        worst = min if name in ("texels", "texture_size") else max
        yield name, worst(each[name] for each in found) if found else "it has no texture"
