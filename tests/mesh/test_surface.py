"""Surfaces: what counts as closed, and what is kept of a body."""

import numpy as np
import pytest
import trimesh

from mesh.bodies import ball, joined, surface_of
from splatdream.mesh import solid
from splatdream.mesh.solid import as_solid, bodies, decimated, separated
from splatdream.mesh.surface import Surface

CUBE = surface_of(trimesh.creation.box((1, 1, 1)))


def test_volume_areas_and_normals_are_those_of_a_cube() -> None:
    assert CUBE.volume == pytest.approx(1.0)
    assert CUBE.areas.sum() == pytest.approx(6.0)
    # A corner's normal is the diagonal only if the angles weigh: one of its sides has two triangles there.
    assert np.allclose(CUBE.vertex_normals, np.sign(CUBE.vertices) / np.sqrt(3), atol=1e-6)


def test_a_cube_is_closed_and_one_body() -> None:
    assert CUBE.is_closed()
    assert CUBE.bodies() == 1
    assert joined(CUBE, ball(centre=(3, 0, 0))).bodies() == 2


def test_a_hole_a_turned_face_and_a_doubled_face_are_not_closed() -> None:
    assert not Surface(CUBE.vertices, CUBE.faces[1:]).is_closed()
    turned = CUBE.faces.copy()
    turned[0] = turned[0, ::-1]
    assert not Surface(CUBE.vertices, turned).is_closed()
    assert not Surface(CUBE.vertices, np.concatenate([CUBE.faces, CUBE.faces[:1]])).is_closed()


def test_two_bodies_that_share_a_vertex_or_an_edge_are_not_manifold() -> None:
    corner = Surface(CUBE.vertices + 1, CUBE.faces)
    assert not joined(CUBE, corner).is_closed()
    edge = Surface(CUBE.vertices + np.array([1, 1, 0], np.float32), CUBE.faces)
    assert not joined(CUBE, edge).is_closed()


def test_vertices_repeated_along_a_seam_do_not_open_a_surface() -> None:
    assert Surface(CUBE.corners.reshape(-1, 3), np.arange(36, dtype=np.int32).reshape(12, 3)).is_closed()


def test_two_fans_at_one_place_are_parted() -> None:
    parted = separated(joined(CUBE, Surface(CUBE.vertices + 1, CUBE.faces)))
    assert parted.is_closed()
    assert parted.volume == pytest.approx(2.0, rel=0.2)


def test_floaters_go_and_large_parts_stay() -> None:
    surface = joined(ball(), ball(radius=0.7, centre=(3, 0, 0)), ball(radius=0.2, centre=(0, 3, 0)))
    kept = bodies(surface)
    assert kept.bodies() == 2
    assert kept.volume == pytest.approx(ball().volume + ball(radius=0.7).volume, rel=1e-4)


def test_a_surface_with_a_hole_is_refused() -> None:
    with pytest.raises(RuntimeError, match="does not close: NotManifold"):
        bodies(Surface(CUBE.vertices, CUBE.faces[1:]))


def knot() -> Surface:
    return surface_of(trimesh.creation.torus(1.0, 0.4, major_sections=60, minor_sections=40))


@pytest.mark.parametrize("quick", [True, False])
def test_decimation_keeps_the_budget_the_shape_and_its_hole(quick, monkeypatch) -> None:
    if not quick:
        monkeypatch.setattr(solid, "as_solid", lambda surface: None)
    few = decimated(knot(), 600)
    assert 300 < len(few.faces) <= 600
    assert few.is_closed()
    # A ring's Euler characteristic is 0.
    assert len(few.vertices) - len(few.faces) / 2 == 0
    # A chord of such faces lies at most about 0.02 below an arc of radius 0.4, on every side.
    assert few.volume == pytest.approx(knot().volume, rel=0.06)


def test_a_surface_within_the_budget_stays_as_it_is() -> None:
    assert decimated(CUBE, 12) is CUBE


def test_a_surface_that_cannot_be_repaired_is_told() -> None:
    assert as_solid(Surface(CUBE.vertices, CUBE.faces[1:])) is None
