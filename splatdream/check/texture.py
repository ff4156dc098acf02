"""What is measured on a mesh's texture coordinates and picture. F faces, texture coordinates (u, v) in [0, 1]."""

from typing import no_type_check

import numpy as np
from jaxtyping import Float
from numba import njit

from splatdream.check.criteria import Measures

LOOK = 1024
"""Overlaps are counted on a square of so many points a side."""
NAMES = ("uv_overlap", "uv_outside", "texels", "texel_spread", "texture_size")


def measure(corners: Float[np.ndarray, "F 3 3"], uvs: Float[np.ndarray, "F 3 2"], size: tuple[int, int]) -> Measures:
    """Every number that the criteria for meshes ask of the texture, whose picture is `size` (width, height) pixels."""
    counts = np.zeros((LOOK, LOOK), np.int64)
    count_cover(uvs.astype(np.float64), counts)
    covered = int((counts > 0).sum())
    b, c = (uvs[:, corner] - uvs[:, 0] for corner in (1, 2))
    flat = 0.5 * np.abs(b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0])
    area = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    real = area > 0
    density = np.sqrt(flat[real] * size[0] * size[1] / area[real])
    order = np.argsort(density)
    place = np.cumsum(area[real][order])
    low, middle, high = (density[order][np.searchsorted(place, q * place[-1])] for q in (0.05, 0.5, 0.95))
    diagonal = float(np.linalg.norm(np.ptp(corners.reshape(-1, 3), axis=0)))
    return {
        "uv_overlap": int((counts > 1).sum()) / max(covered, 1),
        "uv_outside": max(float(np.abs(uvs - 0.5).max()) - 0.5, 0.0),
        "texels": float(middle) * diagonal,
        "texel_spread": float(high / low) if low > 0 else float("inf"),
        "texture_size": min(size),
    }


@njit(cache=True)
@no_type_check
def count_cover(uvs, counts):
    """Adds 1 to every point of the unit square's grid for each triangle that it lies within, edges not counted."""
    size = counts.shape[0]
    for f in range(len(uvs)):
        ax, ay, bx, by = size * uvs[f, 0, 0], size * uvs[f, 0, 1], size * uvs[f, 1, 0], size * uvs[f, 1, 1]
        cx, cy = size * uvs[f, 2, 0], size * uvs[f, 2, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(area) < 1e-9:
            continue
        left, right = max(int(np.ceil(min(ax, bx, cx) - 0.5)), 0), min(int(max(ax, bx, cx) - 0.5), size - 1)
        top, bottom = max(int(np.ceil(min(ay, by, cy) - 0.5)), 0), min(int(max(ay, by, cy) - 0.5), size - 1)
        for row in range(top, bottom + 1):
            for column in range(left, right + 1):
                x, y = column + 0.5, row + 0.5
                u = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area
                v = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area
                # On a shared edge one of them is 0 up to rounding; it belongs to neither face.
                if min(u, v, 1.0 - u - v) > 1e-6:
                    counts[row, column] += 1
