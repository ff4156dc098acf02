"""Axes and distributions of cameras: +z up, front -y, azimuth 0 sees the front."""

from math import pi, radians, sin

import pytest
import torch

from splatdream.cameras import CameraSampler, around, camera_vectors, orbit, random_backgrounds, view_word


def project(cameras, point) -> torch.Tensor:
    """Pixels of one world point in every view."""
    inside = cameras.viewmats[:, :3, :3] @ torch.tensor(point) + cameras.viewmats[:, :3, 3]
    pixels = (cameras.Ks @ inside[:, :, None])[:, :, 0]
    return pixels[:, :2] / pixels[:, 2:]


def test_azimuth_zero_stands_in_front_and_grows_counter_clockwise() -> None:
    positions = orbit(4, 64, elevation=0.0, distance=2.0).positions
    expected = torch.tensor([[0.0, -2, 0], [2, 0, 0], [0, 2, 0], [-2, 0, 0]])
    torch.testing.assert_close(positions, expected, atol=1e-6, rtol=0)


def test_up_is_up_and_the_objects_left_is_on_the_viewers_right_from_behind() -> None:
    front, _, back, _ = project(orbit(4, 100, elevation=0.0), [0.0, 0.0, 0.5])
    assert front[1] < 50
    assert back[1] < 50
    front, _, back, _ = project(orbit(4, 100, elevation=0.0), [0.5, 0.0, 0.0])
    assert front[0] > 50 > back[0]


@pytest.mark.parametrize("elevation", [pi / 2, -pi / 2, 0.3])
def test_every_view_matrix_is_a_rotation_also_at_the_poles(elevation) -> None:
    one = torch.ones(1)
    rotation = around(0.7 * one, elevation * one, 3 * one, one, 32).viewmats[0, :3, :3]
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3), atol=1e-5, rtol=0)
    assert torch.linalg.det(rotation) == pytest.approx(1.0, abs=1e-5)


def test_the_unit_sphere_fits_every_random_picture() -> None:
    cameras = CameraSampler()(64, 100, torch.Generator().manual_seed(0))
    distances = cameras.positions.norm(dim=-1)
    half_angles = torch.asin(1 / distances)
    half_fovs = torch.atan(50 / cameras.Ks[:, 0, 0])
    assert (half_angles < half_fovs).all()


def test_azimuths_are_stratified_and_elevations_uniform_in_the_sine() -> None:
    sampler = CameraSampler(elevation_range=(0.0, radians(60)))
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        gaps = sampler(4, 8, generator).azimuths.sort().values.diff()
        assert gaps.max() < pi / 2 * 1.5 + 1e-5
    sines = torch.cat([sampler(100, 8, generator).elevations for _ in range(50)]).sin()
    # The mean of 5000 uniform draws on [0, sin 60] lies within 5 standard errors of the middle.
    assert sines.mean().item() == pytest.approx(sin(radians(60)) / 2, abs=5 * 0.25 / 5000**0.5)
    # FIELD P5: the top of the range is reached.
    assert sines.max() > 0.99 * sin(radians(60))


def test_resizing_keeps_what_is_seen() -> None:
    cameras = orbit(3, 64)
    torch.testing.assert_close(project(cameras.resize(128), [0.2, 0.1, 0.3]), 2 * project(cameras, [0.2, 0.1, 0.3]))


@pytest.mark.parametrize(
    ("azimuth", "elevation", "word"),
    [(0, 0, "front"), (44, 0, "front"), (46, 0, "side"), (-90, 30, "side"), (134, 0, "side"), (136, 0, "back"),
     (360 - 44, 59, "front"), (10, 61, "overhead")],
)  # fmt: skip
def test_views_are_named_as_people_name_them(azimuth, elevation, word) -> None:
    assert view_word(radians(azimuth), radians(elevation)) == word


def test_the_borders_between_the_names_can_be_moved() -> None:
    narrow = {"front": radians(30), "back": radians(60), "overhead": radians(40)}
    assert view_word(radians(31), 0.0, **narrow) == "side"
    assert view_word(radians(121), 0.0, **narrow) == "back"
    assert view_word(0.0, radians(41), **narrow) == "overhead"


def test_backgrounds_stay_nearly_grey() -> None:
    colours = random_backgrounds(500, torch.Generator().manual_seed(0))
    assert (colours.amax(1) - colours.amin(1)).max() <= 0.16 + 1e-6
    assert colours.min() >= 0.0
    assert colours.max() <= 1.0


def test_camera_vectors_do_not_depend_on_the_resolution() -> None:
    cameras = orbit(3, 64)
    vectors = camera_vectors(cameras)
    torch.testing.assert_close(vectors, camera_vectors(cameras.resize(128)))
    torch.testing.assert_close(vectors[:, :12].reshape(3, 3, 4), cameras.viewmats[:, :3])
    torch.testing.assert_close(vectors[:, 12], 0.5 / torch.tan(torch.full((3,), radians(20.0))))
    torch.testing.assert_close(vectors[:, 14:], torch.full((3, 2), 0.5))
