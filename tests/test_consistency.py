"""Consistency terms on surfaces whose depth and colour are known in closed form, and their gradients."""

from dataclasses import replace
from math import pi, radians

import pytest
import torch
from torch import Tensor

from splatdream.cameras import Cameras, around, orbit
from splatdream.consistency import (
    camera_points,
    depth_variance,
    normal_variation,
    reprojection_error,
    second_moments,
    surface_normals,
)
from splatdream.contracts import Render


def cameras_at(azimuth: float, size: int = 24, elevation: float = 0.3) -> Cameras:
    one = torch.ones(1, dtype=torch.float64)
    return around(azimuth * one, elevation * one, 3.4 * one, radians(40) * one, size)


def shown(images: Tensor, depths: Tensor, alphas: Tensor | None = None) -> Render:
    """A render of these pictures; opaque unless `alphas` say otherwise."""
    nothing = torch.zeros(len(images), 0, 2)
    return Render(images, torch.ones_like(depths) if alphas is None else alphas, depths, nothing, nothing.int())


def ball(cameras: Cameras, radius: float = 0.8) -> Render:
    """A ball painted with a smooth pattern that belongs to its surface, as a ray tracer sees it."""
    rays = camera_points(torch.ones(len(cameras), cameras.height, cameras.width, 1).double(), cameras)
    rotations = cameras.viewmats[:, :3, :3]
    directions = torch.einsum("bji,bhwj->bhwi", rotations, rays)
    origins = cameras.positions[:, None, None]
    a, b = directions.square().sum(-1), (directions * origins).sum(-1)
    c = origins.square().sum(-1) - radius**2
    discriminant = b**2 - a * c
    hit = (discriminant > 0)[..., None]
    depths = torch.where(hit, ((-b - discriminant.clamp_min(0).sqrt()) / a)[..., None], 0.0)
    points = origins + depths * directions
    colours = torch.where(hit, 0.5 + 0.4 * torch.sin(2.0 * points), 0.0)
    return shown(colours, depths, hit.double())


def test_a_plane_has_one_normal_and_no_variation() -> None:
    cameras = orbit(1, 16)
    rays = camera_points(torch.ones(1, 16, 16, 1), cameras)
    normal = torch.tensor([0.3, -0.2, -0.9]) / torch.tensor([0.3, -0.2, -0.9]).norm()
    depths = -2.0 / (rays @ normal)[..., None]
    found = surface_normals(camera_points(depths, cameras))
    # Differences of points near 2 in float32, divided by pixels of 0.1: errors near 1e-5.
    torch.testing.assert_close(found, normal.expand_as(found), atol=1e-4, rtol=0)
    flat = shown(torch.zeros(1, 16, 16, 3), depths)
    assert normal_variation(flat, cameras).item() < 1e-7


def test_the_normals_of_a_ball_point_from_its_centre_towards_the_camera() -> None:
    cameras = cameras_at(0.4, size=200)
    render = ball(cameras)
    points = camera_points(render.depths, cameras)
    centre = cameras.viewmats[0, :3, 3]
    outward = torch.nn.functional.normalize(points - centre, dim=-1)[:, :-1, :-1]
    inner = (torch.nn.functional.max_pool2d(1 - render.alphas.permute(0, 3, 1, 2), 9, 1, 4) == 0)[0, 0, :-1, :-1]
    alike = (surface_normals(points) * outward).sum(-1)[0][inner]
    # A pixel is 0.012 of the ball's radius wide, and its normal is taken half a pixel to the side.
    assert alike.min() > 0.99


def test_rough_surfaces_vary_more_than_smooth_ones() -> None:
    cameras = cameras_at(0.4, size=64)
    smooth = ball(cameras)
    bumps = 0.02 * torch.sin(torch.arange(64.0).double() * 2.0)[None, None, :, None]
    rough = shown(smooth.images, smooth.depths + bumps * smooth.alphas, smooth.alphas)
    assert normal_variation(rough, cameras) > 5 * normal_variation(smooth, cameras)


def test_what_is_transparent_counts_for_nothing() -> None:
    cameras = cameras_at(0.0)
    noise = torch.rand(1, 24, 24, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    nowhere = shown(noise[..., :3], 3.0 + noise[..., 3:], torch.zeros(1, 24, 24, 1).double())
    other = ball(cameras_at(0.2))
    assert normal_variation(nowhere, cameras) == 0.0
    assert reprojection_error(nowhere, cameras, other, cameras_at(0.2)) == 0.0
    assert reprojection_error(other, cameras_at(0.2), nowhere, cameras) == 0.0


def test_an_object_is_not_faded_to_lower_a_term() -> None:
    cameras = cameras_at(0.0)
    here, there = ball(cameras), ball(cameras_at(0.2))
    alphas = (0.5 * here.alphas).requires_grad_()
    faint, other = replace(here, alphas=alphas), replace(there, alphas=alphas)
    terms = normal_variation(faint, cameras) + reprojection_error(faint, cameras, other, cameras_at(0.2))
    assert terms > 0
    if terms.requires_grad:
        (gradient,) = torch.autograd.grad(terms, alphas)
        assert not gradient.any()


def test_cameras_turned_aside_see_the_true_ball_alike_and_a_wrong_depth_not() -> None:
    cameras = cameras_at(1.0, size=96)
    aside = cameras.turned(radians(10))
    here, there = ball(cameras), ball(aside)
    consistent = reprojection_error(here, cameras, there, aside)
    # Bilinear reading of a pattern with curvature 1.6 at pixels of 0.026 leaves errors of 1e-4 a value, at grazing
    # angles several times that.
    assert consistent < 1e-6
    nearer = shown(here.images, 0.95 * here.depths, here.alphas)
    assert reprojection_error(nearer, cameras, there, aside) > 100 * consistent
    repainted = shown(0.8 * there.images, there.depths, there.alphas)
    assert reprojection_error(here, cameras, repainted, aside) > 100 * consistent


def test_the_gradient_moves_a_wrong_depth_towards_the_surface() -> None:
    cameras = cameras_at(1.0, size=96)
    aside = cameras.turned(radians(10))
    here, there = ball(cameras), ball(aside)
    depths = (0.99 * here.depths).requires_grad_(True)
    reprojection_error(shown(here.images, depths, here.alphas), cameras, there, aside).backward()
    assert depths.grad is not None
    moved = depths.grad[depths.grad != 0]
    assert (moved < 0).double().mean() > 0.9  # descending makes them deeper


def test_a_point_behind_what_the_other_camera_sees_does_not_count() -> None:
    cameras = cameras_at(0.0)
    here = ball(cameras)
    front = shown(torch.zeros_like(here.images), torch.full_like(here.depths, 1.0))
    assert reprojection_error(here, cameras, front, cameras) == 0.0
    assert reprojection_error(here, cameras, shown(front.images, here.depths), cameras) > 0.01


@pytest.mark.parametrize("leaf", ["depths", "images", "other images"])
def test_gradients_are_central_differences(leaf) -> None:
    cameras = cameras_at(0.5, size=7)
    aside = cameras.turned(radians(10))
    generator = torch.Generator().manual_seed(0)
    noise = 0.2 * torch.rand(1, 7, 7, 3, generator=generator, dtype=torch.float64)
    here, there = ball(cameras), ball(aside)
    values = {
        "depths": torch.where(here.depths > 0, here.depths, 3.4) + 0.1 * noise[..., :1],
        "images": here.images + noise,
        "other images": there.images - noise,
    }

    def loss(point: Tensor) -> Tensor:
        now = values | {leaf: point}
        render = shown(now["images"], now["depths"], here.alphas)
        # Opaque everywhere, since reading its opacity elsewhere changes the value, but by design not the gradient.
        other = shown(now["other images"], torch.where(there.depths > 0, there.depths, 3.4))
        return normal_variation(render, cameras) + reprojection_error(render, cameras, other, aside)

    point = values[leaf].clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(point), point)
    numeric = torch.zeros_like(point)
    for index in range(point.numel()):
        shift = torch.zeros_like(point)
        shift.view(-1)[index] = 1e-6
        with torch.no_grad():
            numeric.view(-1)[index] = (loss(point + shift) - loss(point - shift)) / 2e-6
    assert gradient.any()
    # Differences of step 1e-6 in float64 carry an error near 1e-9 relative to values near 1.
    torch.testing.assert_close(gradient, numeric, rtol=1e-5, atol=1e-8)


def test_turning_cameras_carries_them_around_the_vertical_axis() -> None:
    turned = orbit(4, 32).turned(pi / 2)
    torch.testing.assert_close(turned.viewmats, orbit(4, 32).viewmats[[1, 2, 3, 0]], atol=1e-5, rtol=0)
    torch.testing.assert_close(turned.azimuths, orbit(4, 32).azimuths[[1, 2, 3, 0]], atol=1e-5, rtol=0)


def test_a_cloud_along_a_ray_has_the_variance_of_its_weights() -> None:
    """Two Gaussians one behind the other, of which the pixel sees 0.6 and 0.4 * 0.5, from two sides."""
    cameras = cameras_at(0.4)
    axis = cameras.viewmats[0, 2, :3]
    means = torch.stack([-0.5 * axis, 0.3 * axis])
    weights = torch.tensor([0.6, 0.2], dtype=torch.float64)
    seen = (weights[:, None] * second_moments(means)).sum(0)
    features = torch.cat([torch.zeros(3).double(), seen]).expand(1, 4, 4, 15)
    nothing = torch.zeros(1, 0, 2)
    alphas = weights.sum() * torch.ones(1, 4, 4, 1).double()
    render = Render(features, alphas, 3.4 * torch.ones_like(alphas), nothing, nothing.int())
    shares = weights / weights.sum()
    depths = torch.tensor([-0.5, 0.3]).double()
    variance = (shares * depths**2).sum() - (shares * depths).sum() ** 2
    # The float64 cameras were built from float32 angles; products of coordinates below 1 err by less than 1e-6.
    assert depth_variance(render, cameras).item() == pytest.approx(0.8 * variance.item(), rel=1e-5)


def test_one_thin_wall_has_no_depth_variance() -> None:
    cameras = cameras_at(1.1)
    render = ball(cameras)
    points = camera_points(render.depths, cameras)
    world = torch.einsum("bji,bhwj->bhwi", cameras.viewmats[:, :3, :3], points - cameras.viewmats[:, None, None, :3, 3])
    moments = second_moments(world.reshape(-1, 3)).reshape(*world.shape[:3], 12)
    shows = replace(render, features=torch.cat([render.images, render.alphas * moments], -1))
    assert depth_variance(shows, cameras).item() == pytest.approx(0.0, abs=1e-9)
