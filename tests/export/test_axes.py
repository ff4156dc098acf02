"""Turning a cloud between conventions changes its numbers and nothing that is seen."""

from itertools import permutations

import pytest
import torch

from splatdream.export.axes import multiply, sh_rotations, turn, turn_sh
from splatdream.splats import Splats, sh0_from_colours

MAPS = {
    "z-up": torch.eye(3),
    "y-down": torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "y-up": torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
}
"""p' as ARCHITECTURE.md gives it."""


def cloud(count: int = 20, K: int = 15) -> Splats:
    generator = torch.Generator().manual_seed(0)
    shapes = [(3,), (4,), (3,), (), (1, 3), (K, 3)]
    return Splats(*(torch.randn(count, *shape, generator=generator) for shape in shapes))


def matrices(quats: torch.Tensor) -> torch.Tensor:
    """Rotation matrices by the textbook formula."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def covariances(splats: Splats) -> torch.Tensor:
    axes = matrices(splats.quats) * splats.scales[:, None, :]
    return axes @ axes.transpose(1, 2)


def directions(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.nn.functional.normalize(torch.randn(count, 3, generator=generator, dtype=torch.float64), dim=-1)


def seen(splats: Splats, along: torch.Tensor) -> torch.Tensor:
    """Colours before the offset, from every direction, by gsplat's own spherical harmonics."""
    evaluate = pytest.importorskip("gsplat.cuda._torch_impl")._spherical_harmonics
    coefficients = torch.cat([splats.sh0, splats.shN], 1).double()[:, None].expand(-1, len(along), -1, -1)
    return evaluate(splats.sh_degree, along.expand(len(splats), -1, -1), coefficients)


@pytest.mark.parametrize(("source", "target"), list(permutations(MAPS, 2)))
def test_places_and_shapes_turn_together(source, target):
    splats = cloud()
    turned = turn(splats, source=source, target=target)
    rotation = MAPS[target] @ MAPS[source].T
    # A permutation with signs: not a bit may change.
    assert torch.equal(turned.means, splats.means @ rotation.T)
    torch.testing.assert_close(covariances(turned), rotation @ covariances(splats) @ rotation.T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("K", [3, 8, 15])
@pytest.mark.parametrize("target", ["y-down", "y-up"])
def test_the_colour_seen_along_a_turned_direction_is_unchanged(K, target):
    splats, along = cloud(6, K), directions(40)
    turned = turn(splats, target=target)
    after = seen(turned, along @ MAPS[target].T.double())
    # Coefficients are float32, of magnitude 1.
    torch.testing.assert_close(after, seen(splats, along), rtol=0, atol=2e-6)
    assert (seen(turned, along) - seen(splats, along)).abs().max() > 0.1


def test_any_rotation_turns_spherical_harmonics_not_only_quarter_turns():
    splats, along = cloud(3).to(torch.float64), directions(40)
    for quat in torch.randn(5, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64):
        rotation = matrices(quat[None])[0]
        turned = splats.replace(shN=turn_sh(splats.shN, rotation))
        torch.testing.assert_close(seen(turned, along @ rotation.T), seen(splats, along), rtol=0, atol=1e-12)


def test_the_matrices_of_a_product_are_the_products_of_the_matrices():
    one, two = matrices(torch.randn(2, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64))
    for both, first, second in zip(sh_rotations(one @ two), sh_rotations(one), sh_rotations(two), strict=True):
        torch.testing.assert_close(both, first @ second, rtol=0, atol=1e-12)
        torch.testing.assert_close(both @ both.T, torch.eye(len(both), dtype=both.dtype), rtol=0, atol=1e-12)


def test_the_product_of_quaternions_turns_first_by_the_right_one():
    left, right = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    product = matrices(multiply(left[0], right))
    torch.testing.assert_close(product, matrices(left[:1]) @ matrices(right), rtol=0, atol=1e-12)


@pytest.mark.parametrize("target", ["y-down", "y-up"])
def test_there_and_back_is_where_it_was(target):
    splats = cloud()
    back = turn(turn(splats, target=target), source=target)
    for name, value in splats.parameters().items():
        # Two products with the root of one half, and with matrices of float32.
        torch.testing.assert_close(getattr(back, name), value, rtol=0, atol=3e-6)


def test_up_front_and_left_go_where_the_conventions_say():
    # Facing -y with +z up, an object has its left at +x.
    places = torch.tensor([[0.0, 0, 1], [0, -1, 0], [1, 0, 0]])
    asset = cloud(3, 0).replace(means=places, sh0=sh0_from_colours(torch.eye(3)))
    down, up = turn(asset, target="y-down"), turn(asset, target="y-up")
    assert down.means.tolist() == [[0, -1, 0], [0, 0, -1], [1, 0, 0]]
    assert up.means.tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert torch.equal(down.sh0, asset.sh0)
    assert torch.equal(up.sh0, asset.sh0)


def test_unknown_axes_are_refused_with_the_choices():
    # Called past the types of the tests, as a user without them would.
    with pytest.raises(ValueError, match=r"unknown axes 'ydown'.*did you mean 'y-down'"):
        getattr(turn, "__wrapped__", turn)(cloud(), target="ydown")  # pyright: ignore[reportArgumentType]
