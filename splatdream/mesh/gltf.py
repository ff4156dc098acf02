"""glTF 2.0: one .glb with the mesh, its tangents and its two pictures."""

from pathlib import Path
from typing import Any

import numpy as np

from splatdream.export.atomic import atomic_write
from splatdream.export.axes import Axes
from splatdream.export.gltf_document import glb
from splatdream.mesh.model import METALLIC, ROUGHNESS, Model, png

ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
UNSIGNED_INT, FLOAT = 5125, 5126
LINEAR, LINEAR_MIPMAP_LINEAR, CLAMP_TO_EDGE = 9729, 9987, 33071


def write_glb(model: Model, path: str | Path, *, up: Axes = "y-up") -> None:
    """The model in the axes `up`, atomically."""
    model = model.turned(up)
    vertices = model.surface.vertices
    binary, views, accessors = bytearray(), [], []

    def store(content: bytes, target: int | None = None) -> int:
        binary.extend(b"\0" * (-len(binary) % 4))
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(binary), "byteLength": len(content)}
        views.append(view | ({"target": target} if target else {}))
        binary.extend(content)
        return len(views) - 1

    def attribute(rows: np.ndarray, **more: Any) -> int:
        view = store(np.ascontiguousarray(rows, "<f4").tobytes(), ARRAY_BUFFER)
        kind = f"VEC{rows.shape[1]}"
        accessors.append({"bufferView": view, "componentType": FLOAT, "count": len(rows), "type": kind, **more})
        return len(accessors) - 1

    attributes = {
        "POSITION": attribute(vertices, min=vertices.min(0).tolist(), max=vertices.max(0).tolist()),
        "NORMAL": attribute(model.normals),
        "TANGENT": attribute(model.tangents),
        "TEXCOORD_0": attribute(model.uvs),
    }
    corners = np.ascontiguousarray(model.surface.faces, "<u4")
    view = store(corners.tobytes(), ELEMENT_ARRAY_BUFFER)
    accessors.append({"bufferView": view, "componentType": UNSIGNED_INT, "count": corners.size, "type": "SCALAR"})
    pictures = [store(png(picture)) for picture in (model.base_colour, model.normal_map)]
    document = {
        "asset": {"version": "2.0", "generator": "splatdream"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "splatdream"}],
        "meshes": [{"primitives": [{"attributes": attributes, "indices": len(accessors) - 1, "material": 0}]}],
        "materials": [
            {
                "name": "baked",
                "pbrMetallicRoughness": {
                    "baseColorTexture": {"index": 0},
                    "metallicFactor": METALLIC,
                    "roughnessFactor": ROUGHNESS,
                },
                "normalTexture": {"index": 1},
            }
        ],
        "textures": [{"source": index, "sampler": 0} for index in range(2)],
        "samplers": [
            {"magFilter": LINEAR, "minFilter": LINEAR_MIPMAP_LINEAR, "wrapS": CLAMP_TO_EDGE, "wrapT": CLAMP_TO_EDGE}
        ],
        "images": [{"bufferView": picture, "mimeType": "image/png"} for picture in pictures],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
    }
    with atomic_write(path) as file:
        file.write(glb(document, bytes(binary)))
