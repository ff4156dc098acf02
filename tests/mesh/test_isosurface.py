"""Fields and their level sets."""

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from mesh.bodies import cloud_ball
from splatdream.cameras import Cameras
from splatdream.mesh.density import Grid, density, extent
from splatdream.mesh.drawing import everywhere, silhouettes
from splatdream.mesh.hull import OPAQUE, least_opacity
from splatdream.mesh.isosurface import best_level, filled, isosurface, within
from splatdream.mesh.surface import Surface
from splatdream.render.dense import render, rotation_matrices
from splatdream.splats import Splats, logit


def few(count: int = 12) -> Splats:
    generator = torch.Generator().manual_seed(5)
    return Splats(
        means=torch.rand(count, 3, generator=generator) - 0.5,
        quats=torch.randn(count, 4, generator=generator),
        log_scales=-1.6 + 0.2 * torch.randn(count, 3, generator=generator),
        logit_opacities=logit(0.2 + 0.7 * torch.rand(count, generator=generator)),
        sh0=torch.zeros(count, 1, 3),
        shN=torch.zeros(count, 0, 3),
    )


def test_density_is_the_sum_over_all_gaussians() -> None:
    splats = few()
    grid = density(splats, 24)
    where = np.stack(np.meshgrid(*map(np.arange, grid.values.shape), indexing="ij"), -1) * grid.step + grid.low
    axes = rotation_matrices(splats.quats) * splats.scales[:, None, :]
    inverses = torch.linalg.inv(axes @ axes.transpose(1, 2)).numpy()
    apart = where[..., None, :] - splats.means.numpy()
    squares = np.einsum("xyzni,nij,xyznj->xyzn", apart, inverses, apart)
    expected = (splats.opacities.numpy() * np.exp(-0.5 * squares) * (squares < 9)).sum(-1)
    # A term at the edge of its reach, 0.011 alpha, may fall to either side.
    assert np.abs(grid.values - expected).max() < 0.012


def test_the_box_holds_the_object_but_not_what_is_invisible_or_far_off() -> None:
    splats = cloud_ball(4000)
    means = splats.means.clone()
    means[0] = 50.0
    low, high = extent(splats.replace(means=means))
    assert (low > -1.1).all()
    assert (high < 1.1).all()
    assert (low < -0.85).all()


def test_nothing_visible_is_told() -> None:
    splats = cloud_ball(50)
    with pytest.raises(ValueError, match="none of 50 Gaussians has an opacity above"):
        density(splats.replace(logit_opacities=torch.full((50,), -5.0)), 16)


def sphere_field(size: int = 40) -> Grid:
    line = np.linspace(-1.2, 1.2, size)
    x, y, z = np.meshgrid(line, line, line, indexing="ij")
    return Grid((2 - np.sqrt(x * x + y * y + z * z)).astype(np.float32), np.full(3, -1.2), float(line[1] - line[0]))


def test_the_level_set_of_a_distance_field_is_its_sphere_and_faces_outwards() -> None:
    surface = isosurface(sphere_field(), 1.0)
    assert surface.is_closed()
    # Linear interpolation of a distance is off by a quarter of step^2 / radius at most.
    assert np.abs(np.linalg.norm(surface.vertices, axis=1) - 1).max() < sphere_field().step ** 2
    assert surface.volume == pytest.approx(4 / 3 * np.pi, rel=0.01)
    assert ((surface.vertex_normals * surface.vertices).sum(1) > 0.9).all()


def test_cavities_are_filled_and_what_leaves_the_grid_is_closed() -> None:
    grid = sphere_field()
    hollow = Grid(np.where(grid.values > 1.5, 0, grid.values).astype(np.float32), grid.low, grid.step)
    assert isosurface(hollow, 1.0).bodies() == 1
    assert ((filled(hollow, 1.0).values > 1) == (grid.values > 1)).all()
    assert isosurface(Grid(grid.values[:, :, :20], grid.low, grid.step), 1.0).is_closed()


def test_values_on_the_level_itself_leave_the_surface_closed() -> None:
    grid = sphere_field()
    assert isosurface(Grid((np.round(grid.values * 4) / 4).astype(np.float32), grid.low, grid.step), 1.0).is_closed()


def test_a_level_above_everything_is_told() -> None:
    with pytest.raises(ValueError, match="nowhere above 9"):
        isosurface(sphere_field(), 9.0)


def test_the_best_level_shows_the_silhouette_of_the_cloud() -> None:
    splats, cameras = cloud_ball(600, size=0.08), everywhere(6, 48)
    alphas = render(splats, cameras).alphas
    grid = density(splats, 64)
    least = least_opacity(grid, cameras, alphas)
    # A shell lets light through at high levels, and a low one ends where the hull does.
    assert best_level(grid, least, cameras, alphas) < 0.8
    best = (silhouettes(shape(grid, least, cameras, alphas), cameras) > 0.5).float().mean()
    assert best == pytest.approx(float((alphas > OPAQUE).float().mean()), rel=0.05)


def shape(grid: Grid, least: np.ndarray, cameras: Cameras, alphas: torch.Tensor) -> Surface:
    return isosurface(within(grid, best_level(grid, least, cameras, alphas), least), 1.0)


def test_the_least_opacity_is_that_of_the_view_that_sees_past_a_point() -> None:
    splats, cameras = cloud_ball(300, size=0.1), everywhere(5, 32)
    alphas = render(splats, cameras).alphas
    grid = density(splats, 12)
    where = np.stack(np.meshgrid(*map(np.arange, grid.values.shape), indexing="ij"), -1) * grid.step + grid.low
    expected = np.ones(grid.values.shape)
    for viewmat, K, alpha in zip(cameras.viewmats.numpy(), cameras.Ks.numpy(), alphas[..., 0].numpy(), strict=True):
        x, y, depth = np.moveaxis(where @ viewmat[:3, :3].T + viewmat[:3, 3], -1, 0)
        rows, columns = (K[0, 0] * along / depth + 15.5 for along in (y, x))
        seen = map_coordinates(alpha, [rows, columns], order=1, mode="constant")
        expected = np.minimum(expected, np.where((rows < 0) | (columns < 0), 0.0, seen))
    assert np.abs(least_opacity(grid, cameras, alphas) - expected).max() < 1e-4


def test_haze_around_an_object_is_no_part_of_it() -> None:
    ball, haze = cloud_ball(2000, radius=0.5), cloud_ball(150, radius=0.75, size=0.08)
    both = Splats(*(torch.cat(pair) for pair in zip(vars(ball).values(), vars(haze).values(), strict=True)))
    faint = both.replace(logit_opacities=torch.where(torch.arange(len(both)) < 2000, both.logit_opacities, -1.7))
    cameras = everywhere(40, 64)
    alphas, grid = render(faint, cameras).alphas, density(faint, 64)
    found = shape(grid, least_opacity(grid, cameras, alphas), cameras, alphas)
    assert np.abs(isosurface(grid, 0.1).vertices).max() > 0.7
    # A pixel is 0.04 there, a Gaussian of the ball 0.05.
    assert np.linalg.norm(found.vertices, axis=1).max() < 0.65


def test_a_cloud_that_every_view_sees_through_is_told() -> None:
    splats, cameras = cloud_ball(40, size=0.02), everywhere(6, 48)
    alphas, grid = render(splats, cameras).alphas, density(splats, 32)
    with pytest.raises(ValueError, match="too few or too faint for a surface"):
        best_level(grid, least_opacity(grid, cameras, alphas), cameras, alphas)
