"""Solid: a surface without what floats beside the object, of as few faces as were asked for, and still closed.

manifold3d takes surfaces apart and repairs what decimation ties into knots; fast-simplification decimates (quadric
error, Garland & Heckbert 1997).
"""

import numpy as np
from fast_simplification import simplify
from manifold3d import Error, Manifold, Mesh

from splatdream.mesh.surface import Surface

FLOATER = 0.05
"""Bodies of less than this share of the largest one's volume are not part of the object."""


def bodies(surface: Surface, floater: float = FLOATER) -> Surface:
    """The surface without floaters. RuntimeError where it is not closed."""
    parts = as_manifold(surface).decompose()
    volumes = [part.volume() for part in parts]
    kept = [part for part, volume in zip(parts, volumes, strict=True) if volume > floater * max(volumes)]
    return as_surface(Manifold.compose(kept))


def decimated(surface: Surface, count: int) -> Surface:
    """The closed surface with at most `count` faces, closed again.

    Where the quick way leaves what cannot be repaired, manifold3d goes the slow one, by a growing tolerance.
    """
    if len(surface.faces) <= count:
        return surface
    vertices, faces = simplify(surface.vertices, surface.faces, target_count=count)[:2]
    quick = as_solid(Surface(vertices.astype(np.float32), faces.astype(np.int32)))
    if quick is not None and len(quick.faces) <= count:
        return quick
    manifold = as_manifold(surface)
    low, high = surface.vertices.min(0), surface.vertices.max(0)
    tolerance = 1e-4 * float(np.linalg.norm(high - low))
    while (simpler := manifold.simplify(tolerance)).num_tri() > count:
        tolerance *= 1.3
    return separated(as_surface(simpler))


def as_solid(surface: Surface) -> Surface | None:
    """The surface with its knots untied and slivers of no volume dropped; None where that does not close it."""
    manifold = Manifold(as_mesh(surface))
    if manifold.status() != Error.NoError:
        return None
    untied = separated(bodies(as_surface(manifold.simplify(0.0))))
    return untied if untied.is_closed() else None


def separated(surface: Surface) -> Surface:
    """No two vertices at one place: where they are, each moves a tenth of the way to the middle of its neighbours.

    manifold3d parts a vertex where two fans meet; readers that join vertices by place would tie them up again.
    """
    _, where, counts = np.unique(surface.vertices, axis=0, return_inverse=True, return_counts=True)
    shared = counts[where.reshape(-1)] > 1
    if not shared.any():
        return surface
    sums, degrees = np.zeros_like(surface.vertices), np.zeros(len(surface.vertices), np.float32)
    for k in range(3):
        np.add.at(sums, surface.faces[:, k], surface.vertices[surface.faces[:, (k + 1) % 3]])
        np.add.at(degrees, surface.faces[:, k], 1)
    middles = sums / np.maximum(degrees, 1)[:, None]
    vertices = np.where(shared[:, None], 0.9 * surface.vertices + 0.1 * middles, surface.vertices)
    return Surface(vertices.astype(np.float32), surface.faces)


def as_manifold(surface: Surface) -> Manifold:
    """RuntimeError where the surface is not closed."""
    manifold = Manifold(as_mesh(surface))
    if manifold.status() != Error.NoError:
        raise RuntimeError(f"the surface does not close: {manifold.status().name}")
    return manifold


def as_mesh(surface: Surface) -> Mesh:
    # The binding refuses arrays that it could not write to.
    return Mesh(np.array(surface.vertices, np.float32, order="C"), np.array(surface.faces, np.uint32, order="C"))


def as_surface(manifold: Manifold) -> Surface:
    mesh = manifold.to_mesh()
    return Surface(np.array(mesh.vert_properties[:, :3], np.float32), np.array(mesh.tri_verts, np.int32))
