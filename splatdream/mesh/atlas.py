"""Atlas: a surface cut into charts that lie flat in one square picture, and what each of its texels shows.

u runs to the right and v down, both in [0, 1], as in glTF. V vertices, T covered texels of an S x S picture.
"""

from dataclasses import dataclass

import numpy as np
import xatlas
from jaxtyping import Float, Int
from scipy.ndimage import distance_transform_edt

from splatdream.corpus.raster import draw
from splatdream.mesh.surface import Surface, unit

PADDING = 4
"""Texels between charts, so that mipmaps keep them apart."""


@dataclass(frozen=True)
class Atlas:
    """The surface with vertices repeated along the cuts; `normals` are those of the surface before it was cut."""

    surface: Surface
    normals: Float[np.ndarray, "V 3"]
    uvs: Float[np.ndarray, "V 2"]


@dataclass(frozen=True)
class Texels:
    """What the texels (rows, columns) show: places, normals and tangent frames on the surface, interpolated."""

    size: int
    rows: Int[np.ndarray, " T"]
    columns: Int[np.ndarray, " T"]
    places: Float[np.ndarray, "T 3"]
    normals: Float[np.ndarray, "T 3"]
    tangents: Float[np.ndarray, "T 4"]

    def picture(self, values: Float[np.ndarray, "T D"]) -> Float[np.ndarray, "S S D"]:
        """The values in their places; every other texel has those of the nearest, far beyond the charts' borders."""
        pictured = np.zeros((self.size, self.size, values.shape[1]), np.float32)
        empty = np.ones((self.size, self.size), bool)
        pictured[self.rows, self.columns] = values
        empty[self.rows, self.columns] = False
        rows, columns = np.asarray(distance_transform_edt(empty, return_distances=False, return_indices=True))
        return pictured[rows, columns]


def unwrap(surface: Surface, size: int) -> Atlas:
    """The surface's atlas for a picture of `size` texels."""
    atlas = xatlas.Atlas()
    normals = surface.vertex_normals
    atlas.add_mesh(surface.vertices, surface.faces.astype(np.uint32), normals)
    charts, packing = xatlas.ChartOptions(), xatlas.PackOptions()
    charts.max_iterations = 1
    packing.resolution, packing.padding, packing.bilinear = size, PADDING, True
    atlas.generate(charts, packing)
    originals, faces, uvs = atlas[0]
    return Atlas(Surface(surface.vertices[originals], faces.astype(np.int32)), normals[originals], uvs)


def texels(atlas: Atlas, size: int) -> Texels:
    """The texels whose centres a chart covers, drawn as triangles seen from straight above."""
    flat = np.concatenate([atlas.uvs - 0.5, np.ones((len(atlas.uvs), 1))], axis=1).astype(np.float32)
    found, weights, _ = draw(flat, atlas.surface.faces, float(size), size)
    rows, columns = np.nonzero(found >= 0)
    corners, shares = atlas.surface.faces[found[rows, columns]], weights[rows, columns][..., None]

    def interpolated(values: np.ndarray) -> np.ndarray:
        return (values[corners] * shares).sum(1).astype(np.float32)

    tangents = tangent_frames(atlas)
    return Texels(
        size,
        rows,
        columns,
        interpolated(atlas.surface.vertices),
        unit(interpolated(atlas.normals)),
        np.concatenate([unit(interpolated(tangents[:, :3])), np.sign(interpolated(tangents[:, 3:]))], axis=1),
    )


def tangent_frames(atlas: Atlas) -> Float[np.ndarray, "V 4"]:
    """Directions of growing u, orthogonal to the normals, and the sign of the bitangent: MikkTSpace's rule."""
    a, b, c = atlas.surface.corners.transpose(1, 0, 2)
    uv_a, uv_b, uv_c = atlas.uvs[atlas.surface.faces].transpose(1, 0, 2)
    (du1, dv1), (du2, dv2) = (uv_b - uv_a).T, (uv_c - uv_a).T
    area = du1 * dv2 - du2 * dv1
    # glTF's bitangent points towards falling v, the top of the picture.
    along = unit(((b - a) * dv2[:, None] - (c - a) * dv1[:, None]) * np.sign(area)[:, None])
    sums, signs = np.zeros_like(atlas.surface.vertices), np.zeros(len(atlas.uvs), np.float32)
    for k in range(3):
        corner = atlas.surface.faces[:, k]
        normals = atlas.normals[corner]
        np.add.at(sums, corner, unit(along - normals * (along * normals).sum(1, keepdims=True)))
        np.add.at(signs, corner, -np.sign(area).astype(np.float32))
    # A vertex without a direction of its own gets any.
    spare = np.cross(atlas.normals, np.where(np.abs(atlas.normals[:, :1]) < 0.9, [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]))
    sums = np.where(np.linalg.norm(sums, axis=1, keepdims=True) > 1e-6, sums, spare)
    sums = unit(sums - atlas.normals * (sums * atlas.normals).sum(1, keepdims=True))
    return np.concatenate([sums, np.where(signs >= 0, 1.0, -1.0)[:, None]], axis=1).astype(np.float32)
