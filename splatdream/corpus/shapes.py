"""Solid shapes as triangle meshes: the bricks of which every kind of thing is built.

A `Mesh` is local to its maker: +z up, -y front, any unit. Smooth surfaces share normals, edges sharper than
`CREASE` do not. Lengths are in the maker's unit, angles of `turn` in degrees since kinds are written by hand.
"""

from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np

CREASE = radians(40)

Array = np.ndarray


@dataclass(frozen=True)
class Mesh:
    """V vertices with unit normals, and F triangles."""

    vertices: Array
    normals: Array
    faces: Array

    def move(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> "Mesh":
        return Mesh(self.vertices + np.array([x, y, z]), self.normals, self.faces)

    def stretch(self, x: float = 1.0, y: float = 1.0, z: float = 1.0) -> "Mesh":
        """Scaled along the axes; normals turn with the inverse transpose."""
        factors = np.array([x, y, z])
        return Mesh(self.vertices * factors, _unit(self.normals / factors), self.faces)

    def scale(self, factor: float) -> "Mesh":
        return self.stretch(factor, factor, factor)

    def turn(self, axis: str, degrees: float) -> "Mesh":
        """Rotated counter-clockwise about "x", "y" or "z" through the origin."""
        c, s = cos(radians(degrees)), sin(radians(degrees))
        first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
        matrix = np.eye(3)
        matrix[first, first], matrix[first, second] = c, -s
        matrix[second, first], matrix[second, second] = s, c
        return Mesh(self.vertices @ matrix.T, self.normals @ matrix.T, self.faces)


def join(*meshes: Mesh) -> Mesh:
    """All the triangles in one mesh."""
    offsets = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.normals for mesh in meshes]),
        np.concatenate([mesh.faces + offset for mesh, offset in zip(meshes, offsets, strict=True)]),
    )


def _unit(vectors: Array) -> Array:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _crease_normals(points: Array, closed: bool) -> tuple[Array, Array]:
    """Normals left and right of every point of a 2D line (its right-hand side is outside), split at creases."""
    segments = np.diff(points, axis=0, append=points[:1]) if closed else np.diff(points, axis=0)
    outward = _unit(np.stack([segments[:, 1], -segments[:, 0]], axis=1))
    after = outward if closed else np.concatenate([outward, outward[-1:]])
    before = np.roll(outward, 1, axis=0) if closed else np.concatenate([outward[:1], outward])
    smooth = (before * after).sum(1, keepdims=True) > cos(CREASE)
    mean = _unit(before + after)
    return np.where(smooth, mean, before), np.where(smooth, mean, after)


def _grid_faces(rows: int, columns: int) -> Array:
    """Two triangles for every cell of a grid of vertices, stored row by row."""
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns - 1), indexing="ij")
    corner = (i * columns + j).ravel()
    lower = np.stack([corner, corner + 1, corner + columns], axis=1)
    upper = np.stack([corner + 1, corner + columns + 1, corner + columns], axis=1)
    return np.concatenate([lower, upper])


def lathe(profile: list[tuple[float, float]], segments: int = 36) -> Mesh:
    """The solid of revolution about z of a line of (radius, z) points, given from the bottom up."""
    points = np.asarray(profile, dtype=float)
    before, after = _crease_normals(points, closed=False)
    angles = np.linspace(0.0, 2 * np.pi, segments + 1)
    around = np.stack([np.cos(angles), np.sin(angles)], axis=1)

    def ring(point: Array, normal: Array) -> tuple[Array, Array]:
        z, nz = np.full((len(around), 1), point[1]), np.full((len(around), 1), normal[1])
        return np.concatenate([point[0] * around, z], 1), np.concatenate([normal[0] * around, nz], 1)

    strips = []
    for k in range(len(points) - 1):
        rings = [ring(points[k], after[k]), ring(points[k + 1], before[k + 1])]
        vertices = np.concatenate([r[0] for r in rings])
        normals = np.concatenate([r[1] for r in rings])
        strips.append(Mesh(vertices, normals, _grid_faces(2, segments + 1)))
    return join(*strips)


def ball(radius: float = 1.0, rings: int = 16, segments: int = 36) -> Mesh:
    angles = np.linspace(-np.pi / 2, np.pi / 2, rings + 1)
    return lathe([(radius * cos(a), radius * sin(a)) for a in angles], segments)


def dome(radius: float = 1.0, rings: int = 9) -> Mesh:
    """The upper half of a ball, closed below."""
    angles = np.linspace(0.0, np.pi / 2, rings + 1)
    return lathe([(0.0, 0.0)] + [(radius * cos(a), radius * sin(a)) for a in angles])


def cylinder(radius: float, height: float, top: float | None = None, segments: int = 36) -> Mesh:
    """Standing on z = 0; `top` is the upper radius of a frustum (0 makes a cone)."""
    top = radius if top is None else top
    lid = [(0.0, height)] if top > 0 else []
    return lathe([(0.0, 0.0), (radius, 0.0), (top, height), *lid], segments)


def ring(radius: float, thickness: float, rings: int = 14) -> Mesh:
    """A torus in the xy plane."""
    angles = np.linspace(-np.pi, np.pi, rings + 1)
    return lathe([(radius + thickness * cos(a), thickness * sin(a)) for a in angles])


def box(x: float, y: float, z: float) -> Mesh:
    """Standing on z = 0, centred above the origin, with full edge lengths."""
    square = [(-x / 2, -y / 2), (x / 2, -y / 2), (x / 2, y / 2), (-x / 2, y / 2)]
    return prism(square, z)


def prism(outline: list[tuple[float, float]], height: float, taper: float = 1.0) -> Mesh:
    """A flat outline in xy, counter-clockwise and star-shaped about its mean, raised from z = 0 to `height`.

    The upper outline is `taper` times the lower one, about the z axis: 0 makes a pyramid.
    """
    points = np.asarray(outline, dtype=float)
    count = len(points)
    before, after = _crease_normals(points, closed=True)
    walls = []
    for k in range(count):
        ends = np.array([points[k], points[(k + 1) % count]])
        sides = np.array([after[k], before[(k + 1) % count]])
        lean = (1.0 - taper) / height * (sides * ends).sum(1, keepdims=True)
        normals = _unit(np.concatenate([sides, lean], axis=1))
        vertices = np.array([[*ends[0], 0.0], [*ends[1], 0.0], [*taper * ends[0], height], [*taper * ends[1], height]])
        walls.append(Mesh(vertices, np.tile(normals, (2, 1)), _grid_faces(2, 2)))
    return join(*walls, _lid(points, 0.0, -1.0), _lid(taper * points, height, 1.0))


def plate(outline: list[tuple[float, float]], depth: float) -> Mesh:
    """A prism that stands: the outline in xz as the viewer in front sees it, `depth` thick about y = 0."""
    return prism(outline, depth).turn("x", 90).move(y=depth / 2)


def _lid(points: Array, z: float, side: float) -> Mesh:
    count = len(points)
    flat = np.concatenate([points.mean(0, keepdims=True), points])
    vertices = np.concatenate([flat, np.full((count + 1, 1), z)], axis=1)
    normals = np.tile([0.0, 0.0, side], (count + 1, 1))
    k = np.arange(count)
    return Mesh(vertices, normals, np.stack([np.zeros(count, int), 1 + k, 1 + (k + 1) % count], axis=1))


def tube(path: list[tuple[float, float, float]], radius: float | list[float], segments: int = 14) -> Mesh:
    """A round rod along a smooth path, with rounded ends; `radius` may differ from point to point."""
    points = np.asarray(path, dtype=float)
    radii = np.broadcast_to(np.asarray(radius, dtype=float), len(points))
    tangents = _unit(np.asarray(np.gradient(points, axis=0)))  # some stubs of numpy allow a tuple here
    frame = _unit(np.cross(tangents[0], [0.31, 0.52, 0.8]))
    angles = np.linspace(0.0, 2 * np.pi, segments + 1)
    vertices, normals = [], []
    for point, tangent, r in zip(points, tangents, radii, strict=True):
        frame = _unit(frame - tangent * (frame @ tangent))
        outward = np.cos(angles)[:, None] * frame + np.sin(angles)[:, None] * np.cross(tangent, frame)
        vertices.append(point + r * outward)
        normals.append(outward)
    rod = Mesh(np.concatenate(vertices), np.concatenate(normals), _grid_faces(len(points), segments + 1))
    ends = [ball(float(radii[k]), 8, segments).move(*points[k]) for k in (0, -1) if radii[k] > 0]
    return join(rod, *ends)


def arc(radius: float, start: float, stop: float, points: int = 12) -> list[tuple[float, float]]:
    """Points on a circle about the origin, from `start` to `stop` in degrees: for profiles, outlines and paths."""
    angles = np.radians(np.linspace(start, stop, points))
    return [(radius * cos(a), radius * sin(a)) for a in angles]
