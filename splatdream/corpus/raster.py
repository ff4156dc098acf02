"""A triangle rasteriser in numba: which triangle every pixel sees first, and where on it.

Plain z-buffering with perspective-correct weights; both sides of a triangle are drawn. One call draws one view on one
thread and releases the interpreter's lock, so views run side by side in threads.
"""

from typing import no_type_check

import numpy as np
from numba import njit

NEAR = 0.01


@njit(cache=True, nogil=True)
@no_type_check  # numba compiles the bare function
def draw(vertices, faces, focal, size):
    """The nearest triangle of each pixel of a square picture.

    `vertices` (V, 3) are in camera space (z forward), `faces` (F, 3); the principal point is the centre and pixel
    centres lie at +0.5. Returns (size, size) face indices (-1: nothing), (size, size, 3) weights of the face's three
    vertices, and (size, size) depths along z (infinite: nothing). Faces that reach behind the near plane are left out.
    """
    found = np.full((size, size), -1, np.int32)
    weights = np.zeros((size, size, 3), np.float32)
    depths = np.full((size, size), np.inf, np.float32)
    centre = 0.5 * size
    for f in range(faces.shape[0]):
        a, b, c = vertices[faces[f, 0]], vertices[faces[f, 1]], vertices[faces[f, 2]]
        if a[2] < NEAR or b[2] < NEAR or c[2] < NEAR:
            continue
        ax, ay = focal * a[0] / a[2] + centre, focal * a[1] / a[2] + centre
        bx, by = focal * b[0] / b[2] + centre, focal * b[1] / b[2] + centre
        cx, cy = focal * c[0] / c[2] + centre, focal * c[1] / c[2] + centre
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(area) < 1e-12:
            continue
        left = max(int(np.ceil(min(ax, bx, cx) - 0.5)), 0)
        right = min(int(np.floor(max(ax, bx, cx) - 0.5)), size - 1)
        top = max(int(np.ceil(min(ay, by, cy) - 0.5)), 0)
        bottom = min(int(np.floor(max(ay, by, cy) - 0.5)), size - 1)
        for row in range(top, bottom + 1):
            y = row + 0.5
            for column in range(left, right + 1):
                x = column + 0.5
                u = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area
                v = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area
                w = 1.0 - u - v
                if u < 0.0 or v < 0.0 or w < 0.0:
                    continue
                u, v, w = u / a[2], v / b[2], w / c[2]
                depth = 1.0 / (u + v + w)
                if depth < depths[row, column]:
                    depths[row, column] = depth
                    found[row, column] = f
                    weights[row, column, 0] = u * depth
                    weights[row, column, 1] = v * depth
                    weights[row, column, 2] = w * depth
    return found, weights, depths
