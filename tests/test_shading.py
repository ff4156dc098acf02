"""A lamp's light on pictures whose surface is known."""

from math import radians

import pytest
import torch

from splatdream.cameras import around, orbit
from splatdream.consistency import camera_points
from splatdream.contracts import Render
from splatdream.shading import AMBIENT, DIFFUSE, Lamps, draw_lamps, shaded

CAMERAS = orbit(3, 24)
BACKGROUNDS = torch.tensor([[0.2, 0.4, 0.6]] * 3)


def wall() -> Render:
    """A red wall across the axis of each camera, at depth 3, half transparent in the upper half."""
    alphas = torch.ones(3, 24, 24, 1)
    alphas[:, :12] = 0.5
    images = alphas * torch.tensor([0.8, 0.1, 0.1]) + (1 - alphas) * BACKGROUNDS[:, None, None]
    nothing = torch.zeros(3, 0, 2)
    return Render(images, alphas, torch.full((3, 24, 24, 1), 3.0), nothing, nothing.int())


def lamps(**kinds: bool) -> Lamps:
    lit, white = (torch.tensor([kinds.get(name, False)] * 3) for name in ("lit", "white"))
    return Lamps(torch.tensor([[0.0, 0.0, 2.0]] * 3), lit, white)


def test_a_view_without_a_lamp_stays_as_it_is() -> None:
    assert torch.equal(shaded(wall(), CAMERAS, BACKGROUNDS, lamps()), wall().images)


def test_light_falls_by_the_cosine_and_leaves_the_background() -> None:
    lit = shaded(wall(), CAMERAS, BACKGROUNDS, lamps(lit=True))
    points = camera_points(wall().depths, CAMERAS)
    away = torch.tensor([0.0, 0.0, 2.0]) - points
    light = AMBIENT + DIFFUSE * (-away[..., 2:] / away.norm(dim=-1, keepdim=True))
    behind = (1 - wall().alphas) * BACKGROUNDS[:, None, None]
    expected = light * wall().alphas * torch.tensor([0.8, 0.1, 0.1]) + behind
    torch.testing.assert_close(lit, expected)


def test_a_white_view_shows_the_shape_alone() -> None:
    lit = shaded(wall(), CAMERAS, BACKGROUNDS, lamps(lit=True, white=True))[:, 12:]
    torch.testing.assert_close(lit, lit[..., :1].expand_as(lit))


def test_lamps_stand_before_the_object_and_their_share_is_kept() -> None:
    many = around(torch.zeros(4000), torch.zeros(4000), torch.full((4000,), 3.4), torch.full((4000,), radians(40)), 8)
    drawn = draw_lamps(many, 0.75, torch.Generator().manual_seed(0))
    from_object = drawn.positions - many.viewmats[:, :3, 3]
    assert bool(((from_object.norm(dim=1) >= 0.8) & (from_object.norm(dim=1) <= 1.5)).all())
    assert from_object[:, 2].mean() < -0.3
    # Shares of 4000 draws have standard deviations below 0.008.
    assert drawn.lit.float().mean() == pytest.approx(0.75, abs=0.03)
    assert drawn.white.float().mean() == pytest.approx(0.5, abs=0.03)


def test_the_shape_receives_a_gradient_from_the_light() -> None:
    render = wall()
    depths = render.depths.clone().requires_grad_()
    leaned = Render(render.features, render.alphas, depths, render.screen, render.radii)
    shaded(leaned, CAMERAS, BACKGROUNDS, lamps(lit=True)).square().sum().backward()
    assert depths.grad is not None
    assert bool(depths.grad.isfinite().all())
    assert depths.grad.abs().max() > 0
