"""The grey ball, and the distances to neighbours by which all clouds are sized."""

import math

import pytest
import torch

from splatdream.init import neighbour_distances
from splatdream.init.sphere import Sphere
from splatdream.splats import colours_from_sh0


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_equal_generators_give_equal_clouds_and_others_do_not():
    one, same, other = Sphere()(50, seeded()), Sphere()(50, seeded()), Sphere()(50, seeded(1))
    assert all(torch.equal(one.parameters()[name], same.parameters()[name]) for name in one.parameters())
    assert not torch.equal(one.means, other.means)


@pytest.mark.parametrize("count", [2, 3, 500])
def test_everything_is_finite_and_in_range(count):
    cloud = Sphere(radius=0.7, opacity=0.2, colour=0.4, jitter=0.1)(count, seeded())
    assert len(cloud) == count
    assert cloud.sh_degree == 0
    assert all(value.isfinite().all() for value in cloud.parameters().values())
    assert cloud.means.norm(dim=-1).max() <= 0.7 + 1e-6
    assert torch.allclose(cloud.opacities, torch.full((count,), 0.2))
    colours = colours_from_sh0(cloud.sh0)
    assert colours.min() >= 0.3 - 1e-6
    assert colours.max() <= 0.5 + 1e-6
    assert torch.equal(cloud.quats, torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(count, 4))


def test_without_jitter_all_are_the_same_grey():
    assert torch.allclose(colours_from_sh0(Sphere()(20, seeded()).sh0), torch.full((20, 3), 0.5))


def test_the_ball_is_filled_uniformly():
    distances = Sphere(radius=1.0)(4000, seeded()).means.norm(dim=-1)
    for radius in (0.5, 0.8):
        share = radius**3
        # Four standard deviations of a binomial share of 4000 draws.
        assert abs((distances < radius).float().mean() - share) < 4 * math.sqrt(share * (1 - share) / 4000)


def test_scales_are_the_mean_distance_to_the_three_nearest_others():
    cloud = Sphere()(40, seeded())
    for row in range(40):
        distances = sorted(math.dist(cloud.means[row].tolist(), other) for other in cloud.means.tolist())
        expected = sum(distances[1:4]) / 3
        assert cloud.scales[row].tolist() == pytest.approx([expected] * 3, rel=1e-5)


@pytest.mark.parametrize("leaf", [8, 30, 1000])
def test_neighbours_are_found_in_clusters_lines_and_doubles_whatever_the_leaf(monkeypatch, leaf):
    cloud = Sphere()(150, seeded()).means
    points = torch.cat([cloud, 0.01 * cloud[:50] + 3.0, cloud[:5], torch.tensor([[9.0, 0, 0], [0, 0, -80.0]])])
    points = torch.cat([points, torch.arange(40.0)[:, None] * torch.tensor([[0.1, 0.0, 0.0]])])
    distances = (points[:, None] - points).square().sum(-1).sqrt()
    expected = distances.sort(dim=1).values[:, 1:4].mean(1)
    monkeypatch.setattr("splatdream.init.LEAF", leaf)
    torch.testing.assert_close(neighbour_distances(points), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 1}, "count is 1"),
        ({"radius": 0.0}, "radius is 0.0"),
        ({"opacity": 1.0}, "opacity is 1.0"),
        ({"colour": 1.5}, "colour is 1.5"),
        ({"jitter": -0.1}, "jitter is -0.1"),
    ],
)
def test_what_makes_no_cloud_is_refused(options, message):
    options, count = {name: value for name, value in options.items() if name != "count"}, options.get("count", 10)
    with pytest.raises(ValueError, match=message):
        Sphere(**options)(count, seeded())
