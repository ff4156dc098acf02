"""Files of triangles or points, of any format that trimesh reads: places on them, and the colours there.

V vertices, F triangles, N points, S samples. Places are the file's own, in doubles; colours are display-referred.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

Wear = Callable[[Int[np.ndarray, " S"], Float[np.ndarray, "S 3"]], Float[np.ndarray, "S 3"]]
"""The colours in [0, 1] of places that are told by a triangle's number and the shares of its three corners."""


@dataclass(frozen=True)
class Triangles:
    """Each part of the file with what it wears."""

    parts: list[tuple[Float[np.ndarray, "_ 3 3"], Wear]]

    @property
    def places(self) -> Float[np.ndarray, "V 3"]:
        return np.concatenate([corners.reshape(-1, 3) for corners, _ in self.parts])

    def taken(
        self, count: int, generator: torch.Generator
    ) -> tuple[Float[np.ndarray, "S 3"], Float[np.ndarray, "S 3"]]:
        """`count` places, uniform on the area, and their colours."""
        corners = np.concatenate([corners for corners, _ in self.parts])
        faces = drawn_by(areas(corners), count, generator)
        shares = drawn_shares(count, generator)
        places, colours = np.einsum("sij,si->sj", corners[faces], shares), np.empty((count, 3))
        ends = list(accumulate(len(corners) for corners, _ in self.parts))
        for (part, wear), end in zip(self.parts, ends, strict=True):
            inside = (faces >= end - len(part)) & (faces < end)
            colours[inside] = wear(faces[inside] - (end - len(part)), shares[inside])
        return places, colours


@dataclass(frozen=True)
class Points:
    """Different places, each with its colour."""

    places: Float[np.ndarray, "N 3"]
    colours: Float[np.ndarray, "N 3"]

    def taken(
        self, count: int, generator: torch.Generator
    ) -> tuple[Float[np.ndarray, "S 3"], Float[np.ndarray, "S 3"]]:
        """As many of them, by chance and in their old order, or all where there are no more."""
        if len(self.places) <= count:
            return self.places, self.colours
        rows = torch.randperm(len(self.places), generator=generator)[:count].sort().values.numpy()
        return self.places[rows], self.colours[rows]


def areas(corners: Float[np.ndarray, "F 3 3"]) -> Float[np.ndarray, " F"]:
    """The triangles' areas, in units of the largest extent's square, so that none overflows."""
    size = np.ptp(corners.reshape(-1, 3), axis=0).max()
    sides = (corners[:, 1:] - corners[:, :1]) / size
    return 0.5 * np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=-1)


def drawn_by(weights: Float[np.ndarray, " F"], count: int, generator: torch.Generator) -> Int[np.ndarray, " S"]:
    """Numbers of rows, each drawn as often as its weight says."""
    sums = torch.from_numpy(np.cumsum(weights))
    draws = torch.rand(count, generator=generator, dtype=torch.float64) * sums[-1]
    return torch.searchsorted(sums, draws, right=True).clamp_max(len(weights) - 1).numpy()


def drawn_shares(count: int, generator: torch.Generator) -> Float[np.ndarray, "S 3"]:
    """Shares of the corners of places that are uniform in a triangle (Osada et al. 2002, eq. 1)."""
    root, along = torch.rand(2, count, generator=generator, dtype=torch.float64).numpy()
    root = np.sqrt(root)
    return np.stack([1 - root, root * (1 - along), root * along], axis=1)


def read_geometry(path: Path, grey: float) -> Triangles | Points:
    """What a file holds; `grey` is the colour of what has none.

    FileNotFoundError where there is no file; ValueError for one that cannot be read, holds nothing, NaN, one point.
    """
    import trimesh

    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path} to begin with")
    try:
        with np.errstate(all="ignore"):  # coordinates of any size; they are looked at below
            found = trimesh.load_scene(path, process=False).dump()
    except Exception as error:  # trimesh's readers fail with whatever the bytes lead them to
        raise ValueError(f"{path} is no mesh or point cloud that can be read: {said(error)}") from error
    meshes = [each for each in found if isinstance(each, trimesh.Trimesh) and len(each.faces)]
    if meshes:
        return checked_triangles(
            path, [(np.asarray(m.vertices[m.faces], np.float64), wear_of(m, grey)) for m in meshes]
        )
    clouds = [each for each in found if isinstance(each, (trimesh.PointCloud, trimesh.Trimesh)) and len(each.vertices)]
    if not clouds:
        raise ValueError(f"{path} holds neither triangles nor points")
    places = np.concatenate([np.asarray(each.vertices, np.float64) for each in clouds])
    if path.suffix.lower() == ".xyz":
        return checked_points(path, places, columns_of(path, grey))
    return checked_points(path, places, np.concatenate([colours_of(each, grey) for each in clouds]))


def said(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def checked_triangles(path: Path, parts: list[tuple[Float[np.ndarray, "_ 3 3"], Wear]]) -> Triangles:
    triangles = Triangles(parts)
    check_places(path, triangles.places)
    if not areas(np.concatenate([corners for corners, _ in parts])).sum() > 0:
        raise ValueError(f"the triangles of {path} have no area")
    return triangles


def checked_points(path: Path, places: Float[np.ndarray, "N 3"], colours: Float[np.ndarray, "N 3"]) -> Points:
    """A place that is told twice counts once: its double would have no distance to it."""
    if len(places) > 1:
        check_places(path, places)
    rows = np.sort(np.unique(places, axis=0, return_index=True)[1])
    if len(rows) < 2:
        raise ValueError(f"{path} holds a single point; a cloud needs at least 2 at different places")
    return Points(places[rows], colours[rows])


def check_places(path: Path, places: Float[np.ndarray, "N 3"]) -> None:
    """ValueError unless they are finite, lie apart, and so near that their distances are finite too."""
    broken = int((~np.isfinite(places)).any(axis=1).sum())
    if broken:
        raise ValueError(f"{path}: {broken:,} of {len(places):,} points are not finite")
    with np.errstate(over="ignore"):
        extent = np.ptp(places, axis=0).max()
    if not np.isfinite(extent) or np.abs(places).max() > 1e100:
        raise ValueError(f"{path} has coordinates up to {np.abs(places).max():.0e}; no object reaches so far")
    if extent == 0:
        raise ValueError(f"all {len(places):,} points of {path} lie at one place")


def wear_of(mesh: Any, grey: float) -> Wear:
    """What a mesh of trimesh wears: a texture, colours of its vertices or faces, its material's one, or grey."""
    visual, faces = mesh.visual, np.asarray(mesh.faces)
    if visual.kind == "texture":
        material, uvs = visual.material, visual.uv
        image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
        if image is not None and uvs is not None and len(uvs) == len(mesh.vertices) and np.isfinite(uvs).all():
            return partial(textured, np.asarray(uvs, np.float64)[faces], image)
        return partial(painted, np.broadcast_to(in_unit(material.main_color), (len(faces), 3, 3)))
    if visual.kind == "vertex":
        return partial(painted, in_unit(visual.vertex_colors)[faces])
    if visual.kind == "face":
        return partial(painted, np.repeat(in_unit(visual.face_colors)[:, None], 3, axis=1))
    return partial(painted, np.full((len(faces), 3, 3), grey))


def textured(
    uvs: Float[np.ndarray, "F 3 2"], image: Any, faces: Int[np.ndarray, " S"], shares: Float[np.ndarray, "S 3"]
) -> Float[np.ndarray, "S 3"]:
    """Colours of a picture, interpolated between its four nearest pixels."""
    from trimesh.visual import uv_to_interpolated_color

    return in_unit(uv_to_interpolated_color(np.einsum("sij,si->sj", uvs[faces], shares), image))


def painted(
    colours: Float[np.ndarray, "F 3 3"], faces: Int[np.ndarray, " S"], shares: Float[np.ndarray, "S 3"]
) -> Float[np.ndarray, "S 3"]:
    """Colours between those of the corners."""
    return np.einsum("sij,si->sj", colours[faces], shares)


def colours_of(cloud: Any, grey: float) -> Float[np.ndarray, "N 3"]:
    """The colours of a cloud of trimesh; it may have none."""
    colours = np.asarray(getattr(cloud, "colors", None))
    if colours.ndim == 2 and len(colours) == len(cloud.vertices):
        return in_unit(colours)
    return np.full((len(cloud.vertices), 3), grey)


def columns_of(path: Path, grey: float) -> Float[np.ndarray, "N 3"]:
    """The colours behind the places in a file of rows of numbers, which trimesh takes for bytes in any case.

    They may be shares of 1: then none is larger. Normals, of which some are below 0, are no colours.
    """
    from trimesh.util import decode_text

    lines = decode_text(path.read_bytes()).strip().splitlines()
    columns = np.array([line.replace(",", " ").split() for line in lines if line.strip()], np.float64)[:, 3:6]
    if columns.shape[1] < 3 or not (columns >= 0).all():
        return np.full((len(columns), 3), grey)
    return columns if columns.max() <= 1 else columns.clip(max=255) / 255


def in_unit(colours: Any) -> Float[np.ndarray, "*N 3"]:
    """Red, green and blue of bytes, in [0, 1]; trimesh gives all its colours as bytes."""
    return np.asarray(colours, np.float64)[..., :3] / 255
