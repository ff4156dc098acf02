"""Refinement: Gaussians bound to a surface, and what they hand back."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from exact import FinitePrior

from mesh.bodies import ball
from splatdream.mesh.atlas import Texels, tangent_frames, texels, unwrap
from splatdream.mesh.binding import bound, evened, handed, turning_z_to
from splatdream.mesh.drawing import everywhere, silhouettes
from splatdream.mesh.model import Model
from splatdream.mesh.refinement import refined, refinement_recipe
from splatdream.mesh.surface import Surface
from splatdream.recipe import Recipe
from splatdream.render.cpu import render
from splatdream.render.dense import rotation_matrices

ATLAS = unwrap(ball(3, 0.8), 160)


@pytest.fixture(scope="module")
def table() -> Texels:
    return texels(ATLAS, 160)


def painted(table: Texels, colours: np.ndarray) -> Model:
    flat = np.full((160, 160, 3), 0.5, np.float32)
    return Model(ATLAS.surface, ATLAS.normals, tangent_frames(ATLAS), ATLAS.uvs, table.picture(colours), flat)


def disc(radius: float):
    """A prior that knows one picture: a green ball of this radius on grey."""

    def pictures(cameras) -> torch.Tensor:
        mask = silhouettes(ball(4, radius), cameras.resize(32))
        return (mask * torch.tensor([0.1, 0.8, 0.1]) + (1 - mask) * 0.6)[:, None]

    return FinitePrior(pictures, 32)


def recipe(steps: int, *, shape: bool) -> Recipe:
    made = Recipe("a ball", views=2, background=(0.6, 0.6), background_tint=0.0)
    return refinement_recipe(made, steps, shape=shape)


def test_the_shortest_turns_take_z_to_every_direction() -> None:
    normals = np.array([[0, 0, 1], [0, 0, -1], [1, 0, 0], [0.6, -0.8, 0], [0.48, 0.64, -0.6]], np.float32)
    turned = rotation_matrices(torch.from_numpy(turning_z_to(normals)))[:, :, 2]
    assert np.allclose(turned.numpy(), normals, atol=1e-6)


def test_bound_gaussians_look_like_the_surface(table) -> None:
    colours = np.full((len(table.places), 3), 0.3, np.float32)
    splats, middles = bound(table, colours, float(ATLAS.surface.areas.sum()))
    assert np.array_equal(splats.means.numpy(), table.places[middles])
    cameras = everywhere(4, 64)
    shot = render(splats, cameras)
    mask = silhouettes(ATLAS.surface, cameras)[..., 0] > 0.5
    # At the rim they stand out by up to a pixel: a ring of 130 of the 4096.
    assert ((shot.alphas[..., 0] > 0.5) == mask).float().mean() > 0.95
    inner = silhouettes(ball(3, 0.6), cameras)[..., 0] > 0.5
    assert (shot.images[inner] - 0.3).abs().max() < 0.08


def test_what_is_handed_back_at_the_places_themselves_is_the_value() -> None:
    places = np.random.default_rng(0).normal(size=(50, 3))
    values = np.random.default_rng(1).normal(size=(50, 2))
    assert np.allclose(handed(values, places, places), values, atol=1e-3)


def test_evened_values_lose_their_noise_and_keep_their_slope() -> None:
    places = np.random.default_rng(0).uniform(size=(2000, 3))
    noise = np.random.default_rng(1).normal(size=(2000, 1))
    inner = (np.abs(places - 0.5) < 0.3).all(1)
    found = evened(places[:, :1] + 0.1 * noise, places)[inner]
    # Forty values' mean has a sixth of their deviation; forty neighbours of 2000 reach 0.17.
    assert np.abs(found - places[inner, :1]).std() < 0.03


def test_colours_follow_the_prior_and_the_shape_stays(table) -> None:
    grey = np.full((len(table.places), 3), 0.5, np.float32)
    seen = []
    colours, vertices = refined(
        table,
        painted(table, grey),
        grey,
        recipe(6, shape=False),
        prior=disc(0.8),
        watch=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(k, 6) for k in range(1, 7)]
    assert np.array_equal(vertices, ATLAS.surface.vertices)
    # Below, where no view of an optimisation looks, colours stay.
    above = table.places[:, 2] > -0.2
    assert np.abs(colours[above] - [0.1, 0.8, 0.1]).mean() < 0.2 * np.abs(grey[above] - [0.1, 0.8, 0.1]).mean()
    assert np.array_equal(colours[table.places[:, 2] < -0.75], grey[table.places[:, 2] < -0.75])


def test_what_the_autoencoder_loses_is_no_change(table) -> None:
    """A prior that agrees with every picture, but decodes it darker: the colours stay as they are."""

    class Dark(FinitePrior):
        def posterior_mean(self, x_t, alpha, sigma, tokens):
            return self.clean.repeat(len(x_t) // len(self.clean), 1, 1, 1)

        def encode(self, images):
            self.clean = super().encode(images)
            return self.clean

        def decode(self, latents):
            return 0.5 * super().decode(latents)

    grey = np.full((len(table.places), 3), 0.5, np.float32)
    prior = Dark(lambda cameras: torch.zeros(len(cameras), 1, 32, 32, 3), 32)
    colours, _ = refined(table, painted(table, grey), grey, recipe(2, shape=False), prior=prior)
    # The parametrisation of the answer rounds.
    assert np.abs(colours - grey).max() < 1e-4


def test_with_the_shape_vertices_follow_too(table) -> None:
    green = np.tile(np.array([[0.1, 0.8, 0.1]], np.float32), (len(table.places), 1))
    made = recipe(12, shape=True)
    _, vertices = refined(table, painted(table, green), green, made, prior=disc(0.7), renderer=render)
    moved = Surface(vertices, ATLAS.surface.faces)
    assert moved.is_closed()
    assert moved.volume < 0.97 * ATLAS.surface.volume


def test_a_rule_without_pictures_is_refused(table) -> None:
    grey = np.full((len(table.places), 3), 0.5, np.float32)
    made = recipe(1, shape=False).replace(distill="sds")
    with pytest.raises(TypeError, match="gives no pictures to move towards, which refinement needs; sdedit does"):
        refined(table, painted(table, grey), grey, made, prior=disc(0.8))


def test_an_object_outside_of_the_unit_ball_is_refused(table) -> None:
    grey = np.full((len(table.places), 3), 0.5, np.float32)
    model = painted(table, grey)
    far = replace(model, surface=Surface(model.surface.vertices + np.float32(5), model.surface.faces))
    with pytest.raises(ValueError, match="the prior looks for it in the unit ball"):
        refined(table, far, grey, recipe(1, shape=False))
