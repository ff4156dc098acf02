"""Surface: triangles in the world of the splats, and whether they enclose a solid.

V vertices, F faces, counter-clockwise as seen from outside. Lengths are in the splats' unit.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


@dataclass(frozen=True)
class Surface:
    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]

    @property
    def corners(self) -> Float[np.ndarray, "F 3 3"]:
        return self.vertices[self.faces]

    @property
    def areas(self) -> Float[np.ndarray, " F"]:
        return 0.5 * np.linalg.norm(self._crosses(), axis=1)

    @property
    def volume(self) -> float:
        """Enclosed by a closed surface; negative where it is inside out."""
        a, b, c = self.corners.astype(np.float64).transpose(1, 0, 2)
        return float((a * np.cross(b, c)).sum() / 6)

    @property
    def face_normals(self) -> Float[np.ndarray, "F 3"]:
        return unit(self._crosses())

    @property
    def vertex_normals(self) -> Float[np.ndarray, "V 3"]:
        """Means of the faces' normals, weighted by the angles there (Thürmer & Wüthrich 1998)."""
        corners, normals = self.corners, self.face_normals
        sums = np.zeros((len(self.vertices), 3))
        for k in range(3):
            one, two = (unit(corners[:, (k + turn) % 3] - corners[:, k]) for turn in (1, 2))
            angles = np.arccos(np.clip((one * two).sum(1), -1, 1))
            np.add.at(sums, self.faces[:, k], angles[:, None] * normals)
        return unit(sums).astype(np.float32)

    def joined(self) -> tuple["Surface", Int[np.ndarray, " V"]]:
        """The surface with one vertex at each place, and which of them each of ours has become."""
        places, where = np.unique(self.vertices, axis=0, return_inverse=True)
        where = where.reshape(-1)
        return Surface(places, where[self.faces].astype(np.int32)), where

    def is_closed(self) -> bool:
        """Whether it is watertight, manifold and of one orientation, told by the vertices' places alone.

        Every directed edge must occur once and its reverse once, and the faces about a vertex must form one fan.
        """
        faces = self.joined()[0].faces.astype(np.int64)
        starts, ends = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
        count = len(self.vertices)
        edges, backs = starts * count + ends, ends * count + starts
        order = np.argsort(edges)
        if not len(edges) or (np.diff(edges[order]) == 0).any() or not np.array_equal(edges[order], np.sort(backs)):
            return False
        # A corner is numbered as the edge that leaves it; the next face of its fan lies across that edge, where the
        # same vertex is the corner after the reverse edge's own.
        across = order[np.searchsorted(edges[order], backs)]
        following = across - across % 3 + (across + 1) % 3
        return components(len(edges), np.arange(len(edges)), following)[0] == len(np.unique(faces))

    def bodies(self) -> int:
        """Connected parts, vertices at one place taken for one."""
        surface, _ = self.joined()
        starts, ends = surface.faces[:, [0, 1]].ravel(), surface.faces[:, [1, 2]].ravel()
        return components(len(surface.vertices), starts, ends)[0]

    def _crosses(self) -> Float[np.ndarray, "F 3"]:
        a, b, c = self.corners.astype(np.float64).transpose(1, 0, 2)
        return np.cross(b - a, c - a)


def unit(vectors: Float[np.ndarray, "*any D"]) -> Float[np.ndarray, "*any D"]:
    """The vectors at length 1; those of no length stay."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-20)


def components(
    count: int, starts: Int[np.ndarray, " E"], ends: Int[np.ndarray, " E"]
) -> tuple[int, Int[np.ndarray, " N"]]:
    """How many connected parts a graph of `count` nodes has, and the part of each node."""
    graph = coo_array((np.ones(len(starts), bool), (starts, ends)), shape=(count, count))
    return connected_components(graph, directed=False)
