"""Fields and their level sets."""

import numpy as np
import pytest
import torch

from mesh.bodies import cloud_ball
from splatdream.mesh.density import Grid, density, extent
from splatdream.mesh.drawing import everywhere, silhouettes
from splatdream.mesh.isosurface import best_level, filled, isosurface
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
    shares = [(silhouettes(isosurface(grid, level), cameras) > 0.5).float().mean() for level in (0.1, 0.8)]
    best = (silhouettes(isosurface(grid, best_level(grid, cameras, alphas)), cameras) > 0.5).float().mean()
    seen = (alphas > 0.5).float().mean()
    assert shares[1] < best < shares[0]
    assert best == pytest.approx(float(seen), rel=0.05)
