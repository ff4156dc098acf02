"""STL: binary triangles and nothing else, for printing."""

from pathlib import Path

import numpy as np

from splatdream.export.atomic import atomic_write
from splatdream.export.axes import Axes
from splatdream.mesh.model import Model

FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("unused", "<u2")])


def write_stl(model: Model, path: str | Path, *, up: Axes = "z-up") -> None:
    """The model's shape in the axes `up`, atomically."""
    surface = model.turned(up).surface
    facets = np.zeros(len(surface.faces), FACET)
    facets["normal"], facets["corners"] = surface.face_normals, surface.corners
    with atomic_write(path) as file:
        file.write(b"splatdream".ljust(80))
        file.write(np.uint32(len(facets)).astype("<u4").tobytes())
        file.write(facets.tobytes())
