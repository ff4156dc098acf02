"""What is measured on the shape of a triangle mesh.

Corners at one place are one vertex: formats keep several where a texture has a seam. V vertices, F faces, E edges,
S = 3 F sides of faces.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from splatdream.check.cloud import CRUMB
from splatdream.check.components import of_edges
from splatdream.check.criteria import Measures

FLAT = 1e-9
"""A face of less than this share of the squared diagonal has no area."""


@dataclass(frozen=True)
class Surface:
    """A mesh whose vertices are at different places each; `volumes` are signed, between a face and the origin."""

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]

    @property
    def corners(self) -> Float[np.ndarray, "F 3 3"]:
        return self.vertices[self.faces]

    @property
    def areas(self) -> Float[np.ndarray, " F"]:
        a, b, c = self.corners.swapaxes(0, 1)
        return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)

    @property
    def volumes(self) -> Float[np.ndarray, " F"]:
        a, b, c = self.corners.swapaxes(0, 1)
        return np.einsum("fi,fi->f", a, np.cross(b, c)) / 6


def welded(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Surface:
    """The surface with the corners at one place made one vertex; what stands at no place is left out."""
    finite = np.isfinite(vertices.sum(1))
    places, index = np.unique(np.where(finite[:, None], vertices, 0.0), axis=0, return_inverse=True)
    return Surface(places, index.reshape(-1)[faces[finite[faces].all(axis=1)]])


def measure(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Measures:
    """Every number that the criteria for meshes ask of the shape."""
    surface = welded(vertices.astype(np.float64), faces)
    counts = {"finite": int((~np.isfinite(vertices)).any(1).sum()), "faces": len(faces)}
    if len(surface.faces) == 0:
        names = ("degenerate", "open", "edges", "fans", "flipped", "inside_out", "bodies", "crumbs")
        return counts | dict.fromkeys(names, "there is no face")
    diagonal = float(np.linalg.norm(np.ptp(surface.corners.reshape(-1, 3), axis=0)))
    sound = surface.areas > FLAT * diagonal**2
    edges, of_edge, forward = edges_of(surface.faces)
    uses = np.bincount(of_edge)
    along = np.bincount(of_edge, weights=forward)
    labels = of_edges(surface.faces[:, [0, 1, 1, 2]].reshape(-1, 2), len(surface.vertices))[surface.faces[:, 0]]
    _, labels = np.unique(labels, return_inverse=True)
    shares = np.bincount(labels, weights=surface.areas) / max(float(surface.areas.sum()), 1e-300)
    return counts | {
        "degenerate": int((~sound).sum()),
        "open": int((uses == 1).sum()),
        "edges": int((uses > 2).sum()),
        "fans": torn_vertices(surface, edges, of_edge, uses),
        "flipped": int(((uses == 2) & (along != 1)).sum()),
        "inside_out": inside_out(surface, labels),
        "bodies": int((shares >= CRUMB).sum()),
        "crumbs": float(shares[shares < CRUMB].sum()),
    }


def edges_of(
    faces: Int[np.ndarray, "F 3"],
) -> tuple[Int[np.ndarray, "E 2"], Int[np.ndarray, " S"], Bool[np.ndarray, " S"]]:
    """The edges, and for the sides ab, bc, ca of every face in turn its edge and whether it runs from low to high."""
    sides = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    edges, of_edge = np.unique(np.sort(sides, axis=1), axis=0, return_inverse=True)
    return edges, of_edge.reshape(-1), sides[:, 0] < sides[:, 1]


def torn_vertices(
    surface: Surface, edges: Int[np.ndarray, "E 2"], of_edge: Int[np.ndarray, " S"], uses: Int[np.ndarray, " E"]
) -> int:
    """How many vertices hold together faces that share no edge there, as the tips of two cones do.

    Each corner of each face is a node; two of one vertex are joined where their faces share an edge at it. A vertex
    with more than one group of corners is torn.
    """
    count = len(surface.faces)
    order = np.argsort(of_edge, kind="stable")
    starts = np.concatenate([[0], np.cumsum(uses)[:-1]])
    links = []
    # Consecutive sides of one edge are joined, which joins all of its faces.
    pairs = np.stack([order[:-1], order[1:]], 1)[np.isin(np.arange(1, len(order)), starts, invert=True)]
    for end in (0, 1):
        vertex = edges[of_edge[pairs[:, 0]], end]
        link = []
        for side in (pairs[:, 0], pairs[:, 1]):
            face, first = side // 3, side % 3
            is_first = surface.faces[face, first] == vertex
            link.append(3 * face + np.where(is_first, first, (first + 1) % 3))
        links.append(np.stack(link, 1))
    groups = of_edges(np.concatenate(links), 3 * count)
    owners = np.unique(np.stack([surface.faces.reshape(-1), groups], 1), axis=0)[:, 0]
    return int((np.bincount(owners, minlength=len(surface.vertices)) > 1).sum())


def inside_out(surface: Surface, labels: Int[np.ndarray, " F"]) -> int:
    """How many bodies have their outside inward; a void within another body may."""
    bodies = range(int(labels.max()) + 1)
    corners = [surface.corners[labels == body].reshape(-1, 3) for body in bodies]
    boxes = [(each.min(0), each.max(0)) for each in corners]
    volumes = np.bincount(labels, weights=surface.volumes)

    def within(one: int, other: int) -> bool:
        return bool((boxes[one][0] > boxes[other][0]).all() and (boxes[one][1] < boxes[other][1]).all())

    def voids(body: int) -> bool:
        return any(within(body, other) and volumes[other] > 0 for other in bodies)

    return len([body for body in bodies if volumes[body] < 0 and not voids(body)])
