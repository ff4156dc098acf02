"""What any camera sees of an object of the corpus: colour, mask, depth, albedo and normals, and points on its surface.

One light, fixed in the world and the same for every object, so that shading belongs to the object and not to the
camera. Pictures are drawn at `OVERSAMPLE` times their size and averaged.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import njit
from torch import Tensor

from splatdream.cameras import Cameras
from splatdream.corpus.raster import draw

OVERSAMPLE = 2
AMBIENT, DIFFUSE, SKY = 0.60, 0.36, 0.12
LIGHT = np.array([-0.45, -0.62, 0.64]) / np.linalg.norm([-0.45, -0.62, 0.64])
"""Towards the light: from above, in front, and to the left of the viewer who sees the front."""
GLINT = np.array([-0.50, -0.80, 0.34])
GLINT = GLINT / np.linalg.norm(GLINT)
"""Where a shiny surface's highlight sits: fixed in the world, as a splat without view-dependent colour needs it."""


@dataclass(frozen=True)
class Solid:
    """One object: V vertices, F triangles, P painted parts. World units; it fits the unit sphere."""

    vertices: np.ndarray  # V 3
    normals: np.ndarray  # V 3
    local: np.ndarray  # V 3, the coordinates in which patterns are painted
    faces: np.ndarray  # F 3
    parts: np.ndarray  # F, the part of each face
    albedos: np.ndarray  # P 2 3, first and second colour
    patterns: np.ndarray  # P
    glosses: np.ndarray  # P
    names: tuple[str, ...]  # P


@dataclass(frozen=True)
class Truth:
    """Exact pictures of B views. Depth along z is 0, normals and albedo are 0, where `alphas` is 0."""

    images: Float[Tensor, "B H W 3"]
    alphas: Float[Tensor, "B H W 1"]
    depths: Float[Tensor, "B H W 1"]
    albedos: Float[Tensor, "B H W 3"]
    normals: Float[Tensor, "B H W 3"]

    def over(self, backgrounds: Float[Tensor, "*any 3"]) -> Float[Tensor, "B H W 3"]:
        """The pictures over other backgrounds: `images` are premultiplied, over black."""
        return self.images + (1.0 - self.alphas) * backgrounds


@njit(cache=True, nogil=True)
@no_type_check  # numba compiles the bare function
def _pattern(kind, x, y, z):
    """Whether the second colour shows at a point: 1 striped, 2 dotted, 3 checkered, 4 wooden (grain)."""
    if kind == 1:
        return np.floor(z * 4.5 + 0.25) % 2.0 == 0.0
    if kind == 2:
        dx, dy, dz = (x * 2.6) % 1.0 - 0.5, (y * 2.6) % 1.0 - 0.5, (z * 2.6) % 1.0 - 0.5
        return dx * dx + dy * dy + dz * dz < 0.105
    if kind == 3:
        return (np.floor(x * 2.5 + 0.5) + np.floor(y * 2.5 + 0.5) + np.floor(z * 2.5 + 0.25)) % 2.0 == 0.0
    if kind == 4:
        radius = np.sqrt((x + 0.35) ** 2 + (0.4 * y - 0.2) ** 2) + 0.06 * np.sin(5.0 * z)
        return (radius * 7.0) % 1.0 < 0.3
    return False


@njit(cache=True, nogil=True)
@no_type_check  # numba compiles the bare function
def _shade(
    found, weights, depths, faces, parts, normals, local, albedos, patterns, glosses, towards, light, glint, fold
):
    """Shaded colour (premultiplied), coverage, depth, albedo and normal, averaged over fold x fold samples."""
    size = found.shape[0] // fold
    out = np.zeros((size, size, 11), np.float32)
    for row in range(size * fold):
        for column in range(size * fold):
            f = found[row, column]
            if f < 0:
                continue
            nx = ny = nz = x = y = z = 0.0
            for k in range(3):
                v, w = faces[f, k], weights[row, column, k]
                nx, ny, nz = nx + w * normals[v, 0], ny + w * normals[v, 1], nz + w * normals[v, 2]
                x, y, z = x + w * local[v, 0], y + w * local[v, 1], z + w * local[v, 2]
            length = max(np.sqrt(nx * nx + ny * ny + nz * nz), 1e-9)
            if nx * towards[0] + ny * towards[1] + nz * towards[2] < -0.25 * length:
                length = -length
            nx, ny, nz = nx / length, ny / length, nz / length
            part = parts[f]
            second = 1 if _pattern(patterns[part], x, y, z) else 0
            facing = max(nx * light[0] + ny * light[1] + nz * light[2], 0.0)
            brightness = AMBIENT + DIFFUSE * facing + SKY * 0.5 * (1.0 + nz)
            shine = max(nx * glint[0] + ny * glint[1] + nz * glint[2], 0.0) ** 16 * glosses[part]
            cell = out[row // fold, column // fold]
            for c in range(3):
                albedo = albedos[part, second, c]
                cell[c] += min(albedo * brightness * (1.0 - shine) + shine, 1.0)
                cell[5 + c] += albedo
            cell[3] += 1.0
            cell[4] += depths[row, column]
            cell[8] += nx
            cell[9] += ny
            cell[10] += nz
    for row in range(size):
        for column in range(size):
            cell = out[row, column]
            hits = cell[3]
            if hits > 0.0:
                for c in range(4, 11):
                    cell[c] /= hits
                for c in range(4):
                    cell[c] /= fold * fold
    return out


def _one_view(solid: Solid, viewmat: np.ndarray, focal: float, size: int) -> np.ndarray:
    camera = solid.vertices @ viewmat[:3, :3].T + viewmat[:3, 3]
    found, weights, depths = draw(camera.astype(np.float32), solid.faces, focal * OVERSAMPLE, size * OVERSAMPLE)
    towards = -viewmat[2, :3]
    return _shade(
        found, weights, depths, solid.faces, solid.parts, solid.normals, solid.local, solid.albedos, solid.patterns,
        solid.glosses, towards, LIGHT, GLINT, OVERSAMPLE,
    )  # fmt: skip


def render_truth(solid: Solid, cameras: Cameras, *, threads: int = 1) -> Truth:
    """The object from every camera (square pictures, principal point in the centre), colours premultiplied on black."""
    viewmats = cameras.viewmats.double().numpy()
    focals = cameras.Ks[:, 0, 0].tolist()
    jobs = [(solid, viewmats[i], focals[i], cameras.height) for i in range(len(cameras))]
    if threads == 1:
        drawn = [_one_view(*job) for job in jobs]
    else:
        with ThreadPoolExecutor(threads) as pool:
            drawn = list(pool.map(lambda job: _one_view(*job), jobs))
    channels = torch.from_numpy(np.stack(drawn))
    return Truth(channels[..., :3], channels[..., 3:4], channels[..., 4:5], channels[..., 5:8], channels[..., 8:11])


def surface_points(solid: Solid, count: int, generator: torch.Generator) -> Float[Tensor, "M 3"]:
    """Points uniform over all triangles (hidden inner ones too), in world units."""
    corners = torch.from_numpy(solid.vertices[solid.faces]).float()
    areas = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=-1)
    faces = torch.multinomial(areas, count, replacement=True, generator=generator)
    u = torch.rand(count, 2, generator=generator)
    root = u[:, :1].sqrt()
    weights = torch.cat([1 - root, root * (1 - u[:, 1:]), root * u[:, 1:]], dim=1)
    return (weights[..., None] * corners[faces]).sum(1)
