"""PLY of a mesh: binary, vertices with normals and colours, every vertex once, since there is no picture to cut for."""

from pathlib import Path

import numpy as np

from splatdream.export.atomic import atomic_write
from splatdream.export.axes import Axes
from splatdream.mesh.model import Model

VERTEX = np.dtype([("place", "<f4", 3), ("normal", "<f4", 3), ("colour", "u1", 3)])
FACE = np.dtype([("count", "u1"), ("corners", "<i4", 3)])


def write_mesh_ply(model: Model, path: str | Path, *, up: Axes = "z-up") -> None:
    """The model in the axes `up`, atomically, its texture as colours of the vertices."""
    model = model.turned(up)
    surface, where = model.surface.joined()
    rows, faces = np.empty(len(surface.vertices), VERTEX), np.empty(len(surface.faces), FACE)
    rows["place"] = surface.vertices
    rows["normal"][where] = model.normals
    rows["colour"][where] = np.rint(model.colours_at(model.uvs).clip(0, 1) * 255)
    faces["count"], faces["corners"] = 3, surface.faces
    properties = [f"property float {name}" for name in ("x", "y", "z", "nx", "ny", "nz")]
    properties += [f"property uchar {name}" for name in ("red", "green", "blue")]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}", *properties]
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""]
    with atomic_write(path) as file:
        file.write("\n".join(header).encode())
        file.write(rows.tobytes())
        file.write(faces.tobytes())
