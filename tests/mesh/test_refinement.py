"""Refinement: Gaussians bound to a surface, and what they hand back."""

import numpy as np
import pytest
import torch
from exact import FinitePrior

from mesh.bodies import ball
from splatdream.mesh.atlas import Texels, texels, unwrap
from splatdream.mesh.drawing import everywhere, silhouettes
from splatdream.mesh.refinement import bound, handed, refined, refinement_recipe, turning_z_to
from splatdream.mesh.surface import Surface
from splatdream.recipe import Recipe
from splatdream.render.cpu import render
from splatdream.render.dense import rotation_matrices

SURFACE = ball(3, 0.8)


@pytest.fixture(scope="module")
def table() -> Texels:
    return texels(unwrap(SURFACE, 160), 160)


def disc(radius: float):
    """A prior that knows one picture: a green ball of this radius on grey."""

    def pictures(cameras) -> torch.Tensor:
        mask = silhouettes(ball(4, radius), cameras.resize(32))
        return (mask * torch.tensor([0.1, 0.8, 0.1]) + (1 - mask) * 0.6)[:, None]

    return FinitePrior(pictures, 32)


def recipe(steps: int, *, shape: bool) -> Recipe:
    made = Recipe("a ball", views=2, distill="sdedit:guidance_scale=1", background=(0.6, 0.6), background_tint=0.0)
    return refinement_recipe(made, steps, shape=shape)


def test_the_shortest_turns_take_z_to_every_direction() -> None:
    normals = np.array([[0, 0, 1], [0, 0, -1], [1, 0, 0], [0.6, -0.8, 0], [0.48, 0.64, -0.6]], np.float32)
    turned = rotation_matrices(torch.from_numpy(turning_z_to(normals)))[:, :, 2]
    assert np.allclose(turned.numpy(), normals, atol=1e-6)


def test_bound_gaussians_look_like_the_surface(table) -> None:
    colours = np.full((len(table.places), 3), 0.3, np.float32)
    splats, middles = bound(table, colours, float(SURFACE.areas.sum()))
    assert np.array_equal(splats.means.numpy(), table.places[middles])
    cameras = everywhere(4, 64)
    shot = render(splats, cameras)
    mask = silhouettes(SURFACE, cameras)[..., 0] > 0.5
    # At the rim they stand out by up to a pixel: a ring of 130 of the 4096.
    assert ((shot.alphas[..., 0] > 0.5) == mask).float().mean() > 0.95
    inner = silhouettes(ball(3, 0.6), cameras)[..., 0] > 0.5
    assert (shot.images[inner] - 0.3).abs().max() < 0.08


def test_what_is_handed_back_at_the_places_themselves_is_the_value() -> None:
    places = np.random.default_rng(0).normal(size=(50, 3))
    values = np.random.default_rng(1).normal(size=(50, 2))
    assert np.allclose(handed(values, places, places), values, atol=1e-3)


def test_colours_follow_the_prior_and_the_shape_stays(table) -> None:
    grey = np.full((len(table.places), 3), 0.5, np.float32)
    seen = []
    colours, vertices = refined(
        table, grey, SURFACE, recipe(12, shape=False), prior=disc(0.8), renderer=render, watch=seen.append
    )
    assert len(seen) == 12
    assert np.array_equal(vertices, SURFACE.vertices)
    # Below, where no view of an optimisation looks, colours stay.
    above = table.places[:, 2] > -0.2
    assert np.abs(colours[above] - [0.1, 0.8, 0.1]).mean() < 0.5 * np.abs(grey[above] - [0.1, 0.8, 0.1]).mean()


def test_with_the_shape_vertices_follow_too(table) -> None:
    green = np.tile(np.array([[0.1, 0.8, 0.1]], np.float32), (len(table.places), 1))
    _, vertices = refined(table, green, SURFACE, recipe(12, shape=True), prior=disc(0.7), renderer=render)
    moved = Surface(vertices, SURFACE.faces)
    assert moved.is_closed()
    assert moved.volume < 0.97 * SURFACE.volume


def test_an_object_outside_of_the_unit_ball_is_refused(table) -> None:
    far = Surface(SURFACE.vertices + np.float32(5), SURFACE.faces)
    with pytest.raises(ValueError, match="the prior looks for it in the unit ball"):
        refined(table, np.zeros((len(table.places), 3), np.float32), far, recipe(1, shape=False))
