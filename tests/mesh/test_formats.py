"""Files of meshes, read back by trimesh."""

import numpy as np
import pytest
import trimesh

from mesh.bodies import ball
from splatdream.catalog import CATALOG, find
from splatdream.mesh.atlas import tangent_frames, unwrap
from splatdream.mesh.model import Model
from splatdream.mesh.surface import Surface

THERE = {"y-up": [[0, 0, 1], [0, 1, 0]], "z-up": [[0, -1, 0], [0, 0, 1]], "y-down": [[0, 0, -1], [0, -1, 0]]}
"""Where files have the front and the top of an object."""


@pytest.fixture(scope="module")
def model() -> Model:
    """A ball with a long nose in front, red where u is large."""
    surface = ball(2)
    surface.vertices[:, 1] -= np.where(surface.vertices[:, 1] < -0.9, 1.0, 0.0)
    atlas = unwrap(surface, 64)
    picture = np.zeros((64, 64, 3), np.float32)
    picture[:, :, 0] = np.linspace(0, 1, 64)
    return Model(atlas.surface, atlas.normals, tangent_frames(atlas), atlas.uvs, picture, np.full_like(picture, 0.5))


def read_back(path) -> trimesh.Trimesh:
    return trimesh.load(path, force="mesh", process=False)


@pytest.mark.parametrize("suffix", CATALOG["mesh"])
@pytest.mark.parametrize("up", [None, "y-up", "z-up", "y-down"])
def test_every_format_is_closed_and_stands_in_the_axes_asked_for(suffix, up, model, tmp_path) -> None:
    path = tmp_path / f"ball{suffix}"
    find("mesh", suffix)(model, path, **({"up": up} if up else {}))
    found = read_back(path)
    surface = Surface(np.array(found.vertices, np.float32), np.array(found.faces, np.int32))
    assert surface.is_closed()
    assert surface.volume == pytest.approx(model.surface.volume, rel=1e-4)
    front, top = np.array(THERE[up or {".glb": "y-up", ".obj": "y-up"}.get(suffix, "z-up")], float)
    assert (found.vertices @ front).max() == pytest.approx(2.0, abs=0.05)
    assert (found.vertices @ top).max() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("suffix", [".glb", ".obj"])
def test_texture_and_uvs_come_back(suffix, model, tmp_path) -> None:
    path = tmp_path / f"ball{suffix}"
    find("mesh", suffix)(model, path)
    visual = read_back(path).visual
    material = visual.material
    picture = material.baseColorTexture if suffix == ".glb" else material.image
    size = np.array(picture.size) - 1
    # trimesh counts v from the bottom, pictures their rows from the top.
    column, row = (visual.uv * [1, -1] + [0, 1]).clip(0, 1).T
    reds = np.asarray(picture.convert("RGB"))[
        np.rint(row * size[1]).astype(int), np.rint(column * size[0]).astype(int), 0
    ]
    assert np.abs(reds / 255 - column).max() < 0.03
    assert np.ptp(column) > 0.9


def test_a_glb_says_metallic_roughness_and_normals(model, tmp_path) -> None:
    find("mesh", ".glb")(model, tmp_path / "ball.glb")
    (found,) = trimesh.load(tmp_path / "ball.glb", process=False).geometry.values()
    material = found.visual.material
    assert (material.metallicFactor, material.roughnessFactor) == (0.0, 1.0)
    assert material.normalTexture.size == (64, 64)
    expected = model.turned("y-up").normals
    assert np.allclose(found.vertex_normals, expected, atol=1e-5)


def test_ply_has_a_colour_a_vertex(model, tmp_path) -> None:
    find("mesh", ".ply")(model, tmp_path / "ball.ply")
    found = read_back(tmp_path / "ball.ply")
    assert len(found.vertices) == len(model.surface.joined()[0].vertices)
    reds = np.asarray(found.visual.vertex_colors)[:, 0]
    assert reds.max() > 200
    assert reds.min() < 50


def test_an_obj_names_the_files_beside_it(model, tmp_path) -> None:
    find("mesh", ".obj")(model, tmp_path / "ball.obj")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ball.mtl", "ball.normal.png", "ball.obj", "ball.png"]
    assert "map_Kd ball.png" in (tmp_path / "ball.mtl").read_text()
