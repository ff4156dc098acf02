"""Wavefront OBJ: text, with its material (.mtl) and pictures (.png) in files of the same name beside it."""

from pathlib import Path

import numpy as np

from splatdream.export.atomic import atomic_write
from splatdream.export.axes import Axes
from splatdream.mesh.model import Model, png


def companions(path: str | Path) -> list[Path]:
    """The files beside an .obj: material, base colour, normal map."""
    path = Path(path)
    return [path.with_suffix(".mtl"), path.with_suffix(".png"), path.with_name(f"{path.stem}.normal.png")]


def write_obj(model: Model, path: str | Path, *, up: Axes = "y-up") -> None:
    """The model in the axes `up`, each of its four files atomically, the .obj last; OBJ's v points up."""
    model, (material, colour, bump) = model.turned(up), companions(path)
    for file, content in [(colour, png(model.base_colour)), (bump, png(model.normal_map))]:
        with atomic_write(file) as written:
            written.write(content)
    with atomic_write(material) as written:
        # norm is of the PBR extension of MTL, which Blender and others read; bump would take the map for heights.
        written.write(
            f"newmtl baked\nKd 1 1 1\nKs 0 0 0\nillum 1\nPm 0\nPr 1\nmap_Kd {colour.name}\nnorm {bump.name}\n".encode()
        )
    flipped = model.uvs * [1, -1] + [0, 1]
    corners = np.repeat(model.surface.faces + 1, 3, axis=1)
    with atomic_write(path) as written:
        written.write(f"mtllib {material.name}\no splatdream\n".encode())
        # Nine digits tell every float32 apart: vertices at one place stay there, others do not meet.
        np.savetxt(written, model.surface.vertices, "v %.9g %.9g %.9g")
        np.savetxt(written, flipped, "vt %.7g %.7g")
        np.savetxt(written, model.normals, "vn %.6g %.6g %.6g")
        written.write(b"usemtl baked\n")
        np.savetxt(written, corners, "f %d/%d/%d %d/%d/%d %d/%d/%d")
