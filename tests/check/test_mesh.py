"""The criteria for meshes: a sound file passes all of them, and one broken in one way fails that one and no other."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from splatdream.check import check_mesh, mesh
from splatdream.check.criteria import read_criteria
from splatdream.check.gltf import errors
from splatdream.check.surface import measure, welded
from splatdream.export import read, write
from splatdream.init.sphere import Sphere

TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
"""Its faces' outsides are outside for the corners 0, x, y, z."""


def ball(radius: float = 0.5, place: tuple[float, float, float] = (0, 0, 0)) -> trimesh.Trimesh:
    made = trimesh.creation.icosphere(subdivisions=3, radius=radius)
    made.apply_translation(place)
    return made


def dressed(shape: trimesh.Trimesh, size: tuple[int, int] = (256, 256), pitch: float = 1.0) -> trimesh.Trimesh:
    """Every face with a piece of the texture of its own: half of a square of a grid, three corners for itself."""
    count = int(np.ceil(np.sqrt(len(shape.faces) / 2)))
    square, half = np.divmod(np.arange(len(shape.faces)), 2)
    places = np.stack(np.divmod(square, count), 1)[:, None].astype(float)
    halves = np.array([[[0.05, 0.1], [0.85, 0.1], [0.05, 0.9]], [[0.95, 0.15], [0.95, 0.95], [0.15, 0.95]]])
    uvs = (pitch * places + halves[half]) / count
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.new("RGB", size, "red"))
    visual = trimesh.visual.TextureVisuals(uv=uvs.reshape(-1, 2), material=material)
    faces = np.arange(3 * len(shape.faces)).reshape(-1, 3)
    return trimesh.Trimesh(shape.vertices[shape.faces].reshape(-1, 3), faces, visual=visual, process=False)


def bare(vertices, faces) -> trimesh.Trimesh:
    return trimesh.Trimesh(vertices, faces, process=False)


def holed() -> trimesh.Trimesh:
    whole = ball()
    return bare(whole.vertices, whole.faces[1:])


def finned() -> trimesh.Trimesh:
    """Three tetrahedra about one edge, so that six faces share it."""
    corners, faces = [[0, 0, 0], [0, 0, 1]], []
    for turn in range(3):
        a, b = (2 * np.pi * (turn + step) / 3 for step in (0.0, 0.4))
        first = len(corners)
        corners += [[np.cos(a), np.sin(a), 0.5], [np.cos(b), np.sin(b), 0.5]]
        index = np.array([0, first, first + 1, 1])
        faces.append(index[TETRAHEDRON])
    return bare(np.array(corners), np.concatenate(faces))


def hourglass() -> trimesh.Trimesh:
    """Two tetrahedra that meet in one vertex."""
    points = np.concatenate([np.zeros((1, 3)), np.eye(3)])
    below = points[[0, 2, 1, 3]] * -1
    corners = np.concatenate([points, below[1:]])
    return bare(corners, np.concatenate([TETRAHEDRON, np.array([0, 4, 5, 6])[TETRAHEDRON]]))


def turned_face() -> trimesh.Trimesh:
    whole = ball()
    faces = whole.faces.copy()
    faces[7] = faces[7, ::-1]
    return bare(whole.vertices, faces)


def spread() -> trimesh.Trimesh:
    """Half of the faces with a tenth of the texture's density."""
    made = dressed(ball(), size=(2048, 2048))
    uvs = made.visual.uv.reshape(-1, 3, 2)
    half = np.arange(len(uvs)) % 2 == 1
    uvs[half] = uvs[half].mean(1, keepdims=True) + 0.1 * (uvs[half] - uvs[half].mean(1, keepdims=True))
    made.visual.uv = uvs.reshape(-1, 2)
    return made


def twice() -> trimesh.Trimesh:
    made = dressed(ball())
    made.visual.uv = np.concatenate([made.visual.uv[:300], made.visual.uv[:-300]])
    return made


BROKEN = {
    "faces": lambda: trimesh.creation.icosphere(subdivisions=6),
    "degenerate": lambda: bare(*sliver()),
    "open": holed,
    "edges": finned,
    "fans": hourglass,
    "flipped": turned_face,
    "inside_out": lambda: bare(ball().vertices, ball().faces[:, ::-1]),
    "bodies": lambda: trimesh.util.concatenate([ball(0.2, (x, y, 0)) for x in (0, 1) for y in (0, 1)]),
    "crumbs": lambda: trimesh.util.concatenate([ball(), *[ball(0.05, (x, 0, 0)) for x in (1, 2, 3)]]),
    "uv_overlap": twice,
    "uv_outside": lambda: dressed(ball(), pitch=1.03),
    "texels": lambda: dressed(ball(), size=(64, 64)),
    "texel_spread": spread,
    "texture_size": lambda: dressed(ball(), size=(62, 4096)),
}  # fmt: skip


def sliver() -> tuple[np.ndarray, np.ndarray]:
    """A ball with an edge split in two, so that a face between has three corners in a line."""
    whole = ball()
    a, b = whole.faces[0, :2]
    middle = len(whole.vertices)
    vertices = np.concatenate([whole.vertices, [(whole.vertices[a] + whole.vertices[b]) / 2]])
    faces = whole.faces.copy()
    # The first face goes round by the middle, and a flat one fills the gap.
    c = faces[0, 2]
    faces[0] = [a, middle, c]
    return vertices, np.concatenate([faces, [[middle, b, c], [a, b, middle]]])


def failing(path: Path) -> set[str]:
    return {finding.name for finding in check_mesh(path, strict=True).failures}


@pytest.mark.parametrize("suffix", [".glb", ".obj"])
def test_a_sound_textured_mesh_passes_every_criterion(suffix: str, tmp_path) -> None:
    path = tmp_path / f"ball{suffix}"
    dressed(ball()).export(path)
    report = check_mesh(path, strict=True)
    assert not report.failures
    assert {each.name for each in report.findings if each.value is None} <= {"gltf_errors"}


@pytest.mark.parametrize("suffix", [".stl", ".ply"])
def test_a_mesh_without_a_texture_is_not_judged_by_one(suffix: str, tmp_path) -> None:
    path = tmp_path / f"ball{suffix}"
    ball().export(path)
    report = check_mesh(path, strict=True)
    assert report.passed
    assert {each.note for each in report.findings if each.name.startswith("uv")} == {"it has no texture"}


@pytest.mark.parametrize("defect", list(BROKEN))
def test_a_defect_fails_its_own_criterion_and_no_other(defect: str, tmp_path) -> None:
    BROKEN[defect]().export(tmp_path / "broken.glb")
    assert failing(tmp_path / "broken.glb") == {defect}


def test_every_criterion_has_its_broken_mesh() -> None:
    assert {*BROKEN, "finite", "gltf_errors"} == set(read_criteria("meshes"))


def test_a_vertex_at_no_place_fails_and_leaves_a_hole(tmp_path) -> None:
    text = trimesh.exchange.obj.export_obj(ball()).splitlines()
    first = next(index for index, line in enumerate(text) if line.startswith("v "))
    text[first] = "v nan 0 0"
    (tmp_path / "broken.obj").write_text("\n".join(text))
    assert failing(tmp_path / "broken.obj") == {"finite", "open"}


def test_a_void_inside_a_body_is_not_inside_out() -> None:
    def inside_out(place: tuple[float, float, float]) -> float | str:
        inner = ball(0.3, place)
        inner.invert()
        both = trimesh.util.concatenate([ball(0.5), inner])
        return measure(np.asarray(both.vertices), np.asarray(both.faces))["inside_out"]

    assert inside_out((0, 0, 0)) == 0
    assert inside_out((2, 0, 0)) == 1


def test_seams_are_welded_and_volumes_are_those_of_the_solid() -> None:
    seamed = dressed(trimesh.creation.box())
    surface = welded(np.asarray(seamed.vertices), np.asarray(seamed.faces))
    assert len(surface.vertices) == 8
    assert surface.volumes.sum() == pytest.approx(1.0)
    assert surface.areas.sum() == pytest.approx(6.0)


def test_triangles_are_told_from_gaussians(tmp_path) -> None:
    splats = Sphere()(30, torch.Generator().manual_seed(0))
    for suffix in (".ply", ".glb", ".gltf"):
        write(splats, tmp_path / f"splats{suffix}")
        ball().export(tmp_path / f"mesh{suffix}")
        assert not mesh.is_mesh(tmp_path / f"splats{suffix}")
        assert mesh.is_mesh(tmp_path / f"mesh{suffix}")


def test_a_splat_with_an_element_of_no_faces_is_no_mesh(tmp_path) -> None:
    path = tmp_path / "edited.ply"
    write(Sphere()(30, torch.Generator().manual_seed(0)), path)
    faces = b"element face 0\nproperty list uchar int vertex_indices\nend_header"
    path.write_bytes(path.read_bytes().replace(b"end_header", faces))
    assert not mesh.is_mesh(path)
    assert len(read(path).splats) == 30


@pytest.mark.parametrize("content", [b"", b"glTF\x02\0\0\0 nothing", b"o nothing\n"])
def test_a_file_that_is_no_mesh_is_refused_in_words(content: bytes, tmp_path) -> None:
    (tmp_path / "none.obj").write_bytes(content)
    with pytest.raises(ValueError, match=r"none\.obj"):
        check_mesh(tmp_path / "none.obj")


@pytest.fixture(scope="session")
def validator(tmp_path_factory) -> Path:
    """A folder from which Node finds Khronos' validator."""
    if not (npm := shutil.which("npm")):
        pytest.skip("Node and npm are not installed")
    folder = tmp_path_factory.mktemp("node")
    command = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", "gltf-validator@2.0.0-dev.3.10"]
    if subprocess.run(command, capture_output=True, check=False, timeout=120).returncode:
        pytest.skip("npm cannot fetch gltf-validator")
    return folder


def test_khronos_validator_passes_ours_and_fails_a_broken_one(validator, tmp_path) -> None:
    dressed(ball()).export(tmp_path / "sound.glb")
    ball().export(tmp_path / "sound.gltf")
    assert errors(tmp_path / "sound.glb", validator) == 0
    assert errors(tmp_path / "sound.gltf", validator) == 0
    document = json.loads((tmp_path / "sound.gltf").read_text())
    document["accessors"][0]["count"] *= 2
    (tmp_path / "sound.gltf").write_text(json.dumps(document))
    assert isinstance(found := errors(tmp_path / "sound.gltf", validator), int)
    assert found > 0
