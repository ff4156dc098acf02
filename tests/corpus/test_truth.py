"""Ground truth against geometry worked out by hand."""

from math import radians

import numpy as np
import pytest
import torch

from splatdream.cameras import around, orbit
from splatdream.corpus.palette import COLOURS
from splatdream.corpus.scenes import Scene, Thing, build
from splatdream.corpus.truth import render_truth, surface_points

BALL = build(Scene(Thing("ball", "red")))


def camera(size: int = 128, distance: float = 3.4, elevation: float = 0.0):
    one = torch.ones(1)
    return around(0.0 * one, elevation * one, distance * one, radians(40) * one, size)


def test_a_ball_shows_the_disc_that_a_pinhole_camera_must_see() -> None:
    cameras = camera()
    truth = render_truth(BALL, cameras)
    focal = float(cameras.Ks[0, 0, 0])
    radius = focal / (3.4**2 - 1) ** 0.5
    # The ball is a polyhedron of 36 segments: its silhouette is at most 0.8 % smaller in area.
    assert float(truth.alphas.sum()) == pytest.approx(np.pi * radius**2, rel=0.012)


def test_the_nearest_point_of_a_ball_is_its_distance_less_its_radius() -> None:
    depths = render_truth(BALL, camera()).depths
    assert float(depths[depths > 0].min()) == pytest.approx(2.4, abs=0.02)
    assert float(depths[0, 0, 0]) == 0.0


def test_normals_of_a_ball_point_from_its_centre() -> None:
    cameras = camera(64)
    truth = render_truth(BALL, cameras)
    middle = truth.normals[0, 31:33, 31:33].mean((0, 1))
    torch.testing.assert_close(middle, torch.tensor([0.0, -1.0, 0.0]), atol=0.05, rtol=0)
    inside = truth.alphas[..., 0] == 1
    # Means of four unit normals are a little shorter than one.
    assert truth.normals[inside].norm(dim=-1).min() > 0.9


def test_albedo_is_the_named_colour_without_light() -> None:
    truth = render_truth(BALL, camera(64))
    inside = truth.alphas[0, ..., 0] == 1
    colours = truth.albedos[0][inside]
    torch.testing.assert_close(colours, torch.tensor(COLOURS["red"]).expand_as(colours), atol=1e-5, rtol=0)


def test_light_belongs_to_the_object_and_not_to_the_camera() -> None:
    """A point on top of a ball has the same colour from two sides."""
    front, back = render_truth(BALL, orbit(2, 64, elevation=radians(89))).images
    # The two rays meet the ball 2 degrees apart, which is worth 0.01; a light on the camera would differ by 0.4.
    torch.testing.assert_close(front[31:33, 31:33].mean((0, 1)), back[31:33, 31:33].mean((0, 1)), atol=0.04, rtol=0)


def test_premultiplied_pictures_lie_over_any_background() -> None:
    truth = render_truth(BALL, camera(32))
    white = truth.over(torch.ones(3))
    assert float(white[0, 0, 0].min()) == 1.0
    black = truth.over(torch.zeros(3))
    assert float(black[0, 0, 0].max()) == 0.0


def test_threads_draw_the_same_pictures() -> None:
    cameras = orbit(5, 32)
    one, many = render_truth(BALL, cameras), render_truth(BALL, cameras, threads=3)
    assert torch.equal(one.images, many.images)


def test_surface_points_lie_on_the_ball_and_cover_it_evenly() -> None:
    points = surface_points(BALL, 4000, torch.Generator().manual_seed(0))
    radii = points.norm(dim=-1)
    assert radii.min() > 0.97
    assert radii.max() < 1.0 + 1e-5
    # 4000 draws: the share in the upper half has a standard error of 0.008.
    assert float((points[:, 2] > 0).float().mean()) == pytest.approx(0.5, abs=0.04)
