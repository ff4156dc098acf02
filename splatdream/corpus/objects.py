"""Kinds of thing, and how their painted parts become one solid in the unit sphere."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from splatdream.corpus.palette import COLOURS, PATTERN, Paint
from splatdream.corpus.shapes import Mesh
from splatdream.corpus.truth import Solid

Parts = dict[str, Mesh]
"""Named meshes in one local frame: +z up, front -y."""


@dataclass(frozen=True)
class Kind:
    """A kind of thing that captions may name.

    `build` returns its parts. `paints` gives the colour of every part; parts painted "body" take the caption's colour
    ("a red mug"), or `colour` where it says none. `slots` are parts that a caption may colour by name ("a house with a
    blue roof"). `head` is where a hat sits: (x, y, z, radius) in the local frame, for things that can wear one.
    `carries`: something may stand on top of it, `stands`: it may stand on something.
    """

    name: str
    build: Callable[[], Parts]
    colour: str
    paints: Mapping[str, str] = field(default_factory=dict)
    slots: tuple[str, ...] = ()
    synonyms: tuple[str, ...] = ()
    has_front: bool = False
    head: tuple[float, float, float, float] | None = None
    carries: bool = False
    stands: bool = True


@dataclass(frozen=True)
class Painted:
    """A mesh with its look, and the local frame in which its pattern is painted."""

    name: str
    mesh: Mesh
    paint: Paint


def bounds(parts: list[Painted]) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and highest corner of the box around all parts."""
    vertices = np.concatenate([part.mesh.vertices for part in parts])
    return vertices.min(0), vertices.max(0)


def normalised(parts: list[Painted]) -> list[Painted]:
    """Moved so that the bounding box is centred, and scaled so that the farthest vertex lies on the unit sphere."""
    low, high = bounds(parts)
    centre = 0.5 * (low + high)
    radius = max(np.linalg.norm(part.mesh.vertices - centre, axis=1).max() for part in parts)
    return [Painted(part.name, part.mesh.move(*-centre).scale(1.0 / radius), part.paint) for part in parts]


def placed(parts: list[Painted], factor: float, x: float, y: float, z: float) -> list[Painted]:
    return [Painted(part.name, part.mesh.scale(factor).move(x, y, z), part.paint) for part in parts]


def solid(parts: list[Painted]) -> Solid:
    """One object of all the parts, normalised to the unit sphere; patterns keep the size they had before."""
    final = normalised(parts)
    counts = [len(part.mesh.vertices) for part in final]
    offsets = np.cumsum([0, *counts[:-1]])
    faces = np.concatenate([part.mesh.faces + offset for part, offset in zip(final, offsets, strict=True)])
    sizes = [len(part.mesh.faces) for part in final]
    albedos = [[COLOURS[part.paint.colour], COLOURS[part.paint.second]] for part in final]
    for pair, part in zip(albedos, final, strict=True):
        if part.paint.surface == "wooden":
            red, green, blue = pair[0]
            pair[1] = (0.72 * red, 0.72 * green, 0.72 * blue)
    return Solid(
        vertices=np.concatenate([part.mesh.vertices for part in final]).astype(np.float32),
        normals=np.concatenate([part.mesh.normals for part in final]).astype(np.float32),
        local=np.concatenate([part.mesh.vertices for part in parts]).astype(np.float32),
        faces=faces.astype(np.int32),
        parts=np.repeat(np.arange(len(final)), sizes).astype(np.int32),
        albedos=np.asarray(albedos, np.float32),
        patterns=np.asarray([PATTERN[part.paint.surface] for part in final], np.int32),
        glosses=np.asarray([part.paint.gloss for part in final], np.float32),
        names=tuple(part.name for part in final),
    )
