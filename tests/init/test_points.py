"""Clouds of meshes and point clouds: evenly on the surface, in its colours, in our axes, within the unit ball."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from splatdream.first_cloud import Around
from splatdream.init.points import FromPoints
from splatdream.splats import Splats, colours_from_sh0

SOURCES = Around()


def made(path: Path, count: int = 400, **options) -> Splats:
    part, _ = FromPoints(file=str(path), **options).settled(count, SOURCES)
    return part(count, torch.Generator().manual_seed(0), "a box", SOURCES)


def saved(geometry, path: Path) -> Path:
    geometry.export(path)
    return path


def test_places_are_uniform_on_the_area(tmp_path):
    # Two squares, one of four times the area of the other.
    big = trimesh.Trimesh([[0, 0, 0], [2, 0, 0], [2, 2, 0], [0, 2, 0]], [[0, 1, 2], [0, 2, 3]])
    small = trimesh.Trimesh([[3, 0, 0], [4, 0, 0], [4, 1, 0], [3, 1, 0]], [[0, 1, 2], [0, 2, 3]])
    cloud = made(saved(trimesh.util.concatenate([big, small]), tmp_path / "squares.stl"), 5000, radius=0.0)
    share = float((cloud.means[:, 0] > 2.5).float().mean())
    # Four standard deviations of a share of a fifth of 5000 draws.
    assert abs(share - 0.2) < 4 * math.sqrt(0.2 * 0.8 / 5000)
    inside = cloud.means[cloud.means[:, 0] < 2.5]
    for axis in range(2):
        assert abs(float((inside[:, axis] < 1.0).float().mean()) - 0.5) < 4 * math.sqrt(0.25 / len(inside))
    assert cloud.means[:, 2].abs().max() == 0


def test_the_box_is_centred_and_its_corners_touch_the_ball(tmp_path):
    box = trimesh.creation.box((4, 2, 2)).apply_translation([100, -7, 3])
    cloud = made(saved(box, tmp_path / "box.stl"), 3000, radius=0.8)
    reach = cloud.means.abs().amax(0)
    half = 0.8 * torch.tensor([2.0, 1.0, 1.0]) / math.sqrt(6)
    # Three thousand draws come near every side, and lie on it.
    assert torch.allclose(reach, half, atol=1e-4)
    assert cloud.means.norm(dim=-1).max() <= 0.8 + 1e-6


def test_radius_0_keeps_the_files_own_coordinates(tmp_path):
    box = trimesh.creation.box((1, 1, 1)).apply_translation([2, 0, 0])
    cloud = made(saved(box, tmp_path / "box.stl"), 1000, radius=0.0)
    assert cloud.means[:, 0].min() >= 1.5 - 1e-6
    with pytest.raises(ValueError, match=r"reaches 50\.5 from the origin, and cameras see 1; radius=1 fits it"):
        made(saved(box.apply_translation([48, 0, 0]), tmp_path / "far.stl"), radius=0.0)


@pytest.mark.parametrize(("suffix", "up", "top"), [("obj", "", 1), ("glb", "", 1), ("ply", "", 2), ("obj", "z-up", 2)])
def test_what_stands_upright_in_its_file_stands_upright_here(suffix, up, top, tmp_path):
    tower = trimesh.creation.box([1.0 if axis != top else 4.0 for axis in range(3)])
    path = saved(tower, tmp_path / f"tower.{suffix}")
    extents = np.ptp(made(path, 3000, up=up).means.numpy(), axis=0)
    assert extents.argmax() == 2
    with pytest.raises(ValueError, match="unknown axes 'zup', choose from z-up, y-down, y-up; did you mean 'z-up'"):
        made(path, up="zup")


def test_a_front_that_faces_a_file_s_viewer_faces_ours(tmp_path):
    """glTF's front is +z, ours -y: a thing with its mass in front must keep it there."""
    front = trimesh.creation.box((1, 1, 0.1)).apply_translation([0, 0, 1.0])
    rod = trimesh.creation.box((0.1, 0.1, 2))
    cloud = made(saved(trimesh.util.concatenate([front, rod]), tmp_path / "sign.glb"), 2000)
    assert float(cloud.means[:, 1].median()) < 0


def test_colours_of_vertices_are_blended_over_a_triangle(tmp_path):
    triangle = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    triangle.visual.vertex_colors = [[255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 255, 255]]
    cloud = made(saved(triangle, tmp_path / "triangle.ply"), 500, radius=0.0)
    shares = torch.stack([1 - cloud.means[:, 0] - cloud.means[:, 1], cloud.means[:, 0], cloud.means[:, 1]], 1)
    assert torch.allclose(colours_from_sh0(cloud.sh0), shares, atol=1e-5)


def test_faces_and_materials_colour_what_they_cover(tmp_path):
    box = trimesh.creation.box((1, 1, 1))
    box.visual = trimesh.visual.TextureVisuals(
        material=trimesh.visual.material.PBRMaterial(baseColorFactor=[51, 102, 204, 255])
    )
    colours = colours_from_sh0(made(saved(box, tmp_path / "box.glb")).sh0)
    assert torch.allclose(colours, torch.tensor([0.2, 0.4, 0.8]).expand(400, 3), atol=1e-5)
    plain = colours_from_sh0(made(saved(trimesh.creation.box((1, 1, 1)), tmp_path / "plain.stl"), colour=0.3).sh0)
    assert torch.allclose(plain, torch.full((400, 3), 0.3), atol=1e-5)


@pytest.mark.parametrize(
    ("columns", "colours"),
    [
        ("255 0 51", [1.0, 0.0, 0.2]),
        ("1.0 0.0 0.2", [1.0, 0.0, 0.2]),
        ("1 0 0", [1.0, 0.0, 0.0]),
        ("0.5 0.25 1 0.3", [0.5, 0.25, 1.0]),  # and how much is seen
        ("0 0 -1", [0.4, 0.4, 0.4]),  # a normal
        ("", [0.4, 0.4, 0.4]),
    ],
)
def test_rows_of_numbers_are_coloured_by_bytes_or_by_shares_of_1(columns, colours, tmp_path):
    rows = [f"{x} {y} 0 {columns}" for x in range(5) for y in range(5)]
    (tmp_path / "rows.xyz").write_text("\n".join(rows))
    found = colours_from_sh0(made(tmp_path / "rows.xyz", 25, colour=0.4).sh0)
    assert torch.allclose(found, torch.tensor(colours).expand(25, 3), atol=1e-5)


@pytest.mark.parametrize("suffix", ["glb", "obj"])
def test_a_texture_colours_what_it_lies_on(suffix, tmp_path):
    """Red at the left of the picture, blue at the right, green at its top."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :32, 0], pixels[:, 32:, 2], pixels[:16, :, 1] = 255, 255, 255
    square = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]])
    image = Image.fromarray(pixels)
    material = (
        trimesh.visual.material.PBRMaterial(baseColorTexture=image)
        if suffix == "glb"
        else trimesh.visual.material.SimpleMaterial(image=image)
    )
    square.visual = trimesh.visual.TextureVisuals(uv=[[0, 0], [1, 0], [1, 1], [0, 1]], material=material)
    cloud = made(saved(square, tmp_path / f"square.{suffix}"), 1000, radius=0.0, up="z-up")
    colours, x, y = colours_from_sh0(cloud.sh0), cloud.means[:, 0], cloud.means[:, 1]
    left, right, top = x < 0.45, x > 0.55, y > 0.85
    assert torch.allclose(colours[left & ~top & (y < 0.7), 0], torch.ones(()), atol=0.02)
    assert torch.allclose(colours[right, 2], torch.ones(()), atol=0.02)
    assert torch.allclose(colours[top, 1], torch.ones(()), atol=0.02)
    assert torch.allclose(colours[y < 0.7, 1], torch.zeros(()), atol=0.02)


def test_the_files_of_an_obj_are_all_told(tmp_path):
    square = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]])
    image = Image.new("RGB", (4, 4), "red")
    material = trimesh.visual.material.SimpleMaterial(image=image)
    square.visual = trimesh.visual.TextureVisuals(uv=[[0, 0], [1, 0], [1, 1], [0, 1]], material=material)
    files = FromPoints(file=str(saved(square, tmp_path / "square.obj"))).files()
    assert {Path(name).suffix for name in files} == {".obj", ".mtl", ".png"}


def cloud_file(path: Path, places: np.ndarray, colours: np.ndarray | None = None) -> Path:
    return saved(trimesh.PointCloud(places, colors=colours), path)


def apart(points: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    return (points[:, None] - others).norm(dim=-1)


def test_more_points_than_asked_for_are_thinned_and_keep_place_and_colour(tmp_path):
    draws = np.random.default_rng(0)
    places = draws.uniform(-1, 1, (300, 3)).astype(np.float32)
    colours = draws.integers(0, 256, (300, 4)).astype(np.uint8)
    cloud = made(cloud_file(tmp_path / "cloud.ply", places, colours), 100, radius=0.0)
    distances = apart(cloud.means, torch.from_numpy(places))
    nearest = distances.argmin(1)
    assert len(set(nearest.tolist())) == 100
    assert distances.amin(1).max() < 1e-6
    expected = torch.from_numpy(colours[:, :3] / 255).float()[nearest]
    assert torch.allclose(colours_from_sh0(cloud.sh0), expected, atol=1e-5)


@pytest.mark.parametrize("grown", [0.0, 0.5])
def test_lacking_points_grow_within_a_neighbours_distance_in_its_colour(grown, tmp_path):
    draws = np.random.default_rng(0)
    places = draws.uniform(-1, 1, (50, 3)).astype(np.float32)
    colours = draws.integers(0, 256, (50, 4)).astype(np.uint8)
    cloud = made(cloud_file(tmp_path / "cloud.ply", places, colours), 200, radius=0.0, grown=grown)
    distances = apart(cloud.means, torch.from_numpy(places))
    assert int((distances.amin(1) < 1e-6).sum()) == 50
    farthest_neighbour = apart(torch.from_numpy(places), torch.from_numpy(places)).sort(dim=1).values[:, 3].max()
    assert distances.amin(1).max() <= farthest_neighbour
    theirs = {tuple(row) for row in colours[:, :3].tolist()}
    ours = {tuple(row) for row in (255 * colours_from_sh0(cloud.sh0)).round().int().tolist()}
    assert ours <= theirs


def test_a_share_may_be_grown_though_points_abound(tmp_path):
    sphere = trimesh.creation.icosphere(3)
    cloud = made(saved(sphere, tmp_path / "sphere.stl"), 1000, grown=0.3)
    on_surface = (cloud.means.norm(dim=-1) - 1).abs() < 0.02  # a sphere of flat triangles
    assert 600 < int(on_surface.sum()) < 1000


def test_scales_follow_the_neighbours_and_no_stray_point_covers_all(tmp_path):
    places = np.concatenate([np.random.default_rng(0).uniform(-0.1, 0.1, (200, 3)), [[30.0, 0, 0]]])
    cloud = made(cloud_file(tmp_path / "stray.ply", places.astype(np.float32)), 201)
    median = float(cloud.scales.median())
    assert float(cloud.scales.max()) <= 10 * median * 1.001


def test_enormous_and_tiny_coordinates_are_fitted(tmp_path):
    for size in (1e-30, 1e30):
        (tmp_path / "far.xyz").write_text("\n".join(f"{size * x:g} {size * y:g} 0" for x in range(5) for y in range(5)))
        cloud = made(tmp_path / "far.xyz", 25)
        assert cloud.means.norm(dim=-1).max() == pytest.approx(1.0)


ONE_POINT = (
    "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\nend_header\n1 2 3\n"
)
BROKEN = {
    "nan.xyz": ("0 0 0\nnan 0 0\n1 1 1", "1 of 3 points are not finite"),
    "one.ply": (ONE_POINT, "holds a single point; a cloud needs at least 2"),
    "doubles.xyz": ("1 2 3\n1 2 3\n1 2 3", "all 3 points of .* lie at one place"),
    "far.xyz": ("0 0 0\n1e200 0 0\n0 1e200 0", r"has coordinates up to 1e\+200; no object reaches so far"),
    "flat.obj": ("v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3", "the triangles of .* have no area"),
    "empty.obj": ("# nothing", "is no mesh or point cloud that can be read|holds neither"),
    "junk.glb": ("this is no glTF", "is no mesh or point cloud that can be read"),
    "junk.stl": ("this is no STL", "is no mesh or point cloud that can be read|holds neither"),
    "mesh.blend": ("BLENDER", "is no mesh or point cloud that can be read"),
    "line.ply": ("ply\nformat ascii 1.0\nelement vertex 0\nend_header\n", "can be read|holds neither"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_cannot_serve_is_refused_in_a_sentence(name, tmp_path):
    content, message = BROKEN[name]
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message) as refused:
        FromPoints(file=str(tmp_path / name)).settled(40, SOURCES)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": -1.0}, "radius is -1.0"),
        ({"opacity": 0.0}, "opacity is 0.0"),
        ({"colour": 2.0}, "colour is 2.0"),
        ({"grown": 1.1}, "grown is 1.1"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FromPoints(file="chair.obj", **options)
