"""From a cloud to a textured model: atlas, texture, normal map, light."""

import numpy as np
import pytest
import torch

from mesh.bodies import ball, cloud_ball
from splatdream.corpus.truth import LIGHT
from splatdream.mesh.atlas import tangent_frames, texels, unwrap
from splatdream.mesh.density import density
from splatdream.mesh.drawing import everywhere, shown
from splatdream.mesh.hull import OPAQUE
from splatdream.mesh.isosurface import smoothed
from splatdream.mesh.light import builtin, estimated, unlit
from splatdream.mesh.making import Options, mesh
from splatdream.mesh.model import Model
from splatdream.mesh.normal_map import field_normals, tangent_space
from splatdream.mesh.surface import unit
from splatdream.mesh.texture import bake
from splatdream.render.cpu import render

SMALL = Options(faces=800, texture=128, resolution=40)


@pytest.fixture(scope="module")
def model() -> Model:
    return mesh(cloud_ball(centre=(0.5, 0.0, 2.0)), render, SMALL)


def test_the_mesh_stands_where_the_splats_do_within_its_budget(model) -> None:
    assert model.surface.is_closed()
    assert model.surface.bodies() == 1
    assert 400 < len(model.surface.faces) <= 800
    radii = np.linalg.norm(model.surface.vertices - [0.5, 0.0, 2.0], axis=1)
    # The silhouette of Gaussians of 0.05 on a sphere of 0.8 ends about one of them farther out; so long is a step too.
    assert np.abs(radii - 0.85).max() < 0.08


def test_every_face_has_an_area_of_its_own_in_the_texture(model) -> None:
    assert model.uvs.min() >= 0
    assert model.uvs.max() <= 1
    a, b, c = model.uvs[model.surface.faces].transpose(1, 0, 2)
    areas = np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2
    assert 0.4 < areas.sum() < 1.0


def test_the_texture_shows_red_above_and_blue_below(model) -> None:
    heights = model.surface.vertices[:, 2] - 2.0
    colours = model.colours_at(model.uvs)
    # At the equator, within two Gaussians' reach, colours mix.
    assert np.abs(colours[heights > 0.2] - [0.9, 0.1, 0.1]).max() < 0.1
    assert np.abs(colours[heights < -0.2] - [0.1, 0.1, 0.9]).max() < 0.1


def test_renders_of_mesh_and_splats_agree() -> None:
    splats, cameras = cloud_ball(), everywhere(5, 64)
    images, alphas = shown(mesh(splats, render, SMALL), cameras)
    truth = render(splats, cameras)
    both = (alphas[..., 0] > 0.99) & (truth.alphas[..., 0] > 0.9)
    assert (images - truth.images).abs()[both].mean() < 0.04
    assert ((alphas > 0.5) == (truth.alphas > OPAQUE)).float().mean() > 0.985


def test_texels_lie_on_the_surface_and_know_its_frame() -> None:
    atlas = unwrap(ball(3), 128)
    table = texels(atlas, 128)
    assert len(table.rows) > 0.4 * 128**2
    # Chords of a sphere of 1280 faces lie less than 0.01 below it.
    assert np.abs(np.linalg.norm(table.places, axis=1) - 1).max() < 0.01
    assert ((table.normals * unit(table.places)).sum(1) > 0.999).all()
    assert np.abs((table.normals * table.tangents[:, :3]).sum(1)).max() < 0.05


def test_tangents_follow_u_and_bitangents_the_top_of_the_picture() -> None:
    atlas = unwrap(ball(3), 128)
    frames, surface = tangent_frames(atlas), atlas.surface
    bitangents = frames[:, 3:] * np.cross(atlas.normals, frames[:, :3])
    one, other = surface.faces[:, 0], surface.faces[:, 1]
    edges, (du, dv) = surface.vertices[other] - surface.vertices[one], (atlas.uvs[other] - atlas.uvs[one]).T
    along, across = ((edges * axis[one]).sum(1) for axis in (frames[:, :3], bitangents))
    # A chart stretches lengths by one factor, nearly, and turns no direction: v falls towards the top.
    assert np.corrcoef(along, du)[0, 1] > 0.97
    assert np.corrcoef(across, -dv)[0, 1] > 0.97


def test_texels_beside_a_chart_have_its_colour() -> None:
    table = texels(unwrap(ball(2), 64), 64)
    picture = table.picture(table.places)
    padded = np.zeros((64, 64), bool)
    padded[table.rows, table.columns] = True
    assert not padded.all()
    assert (np.linalg.norm(picture, axis=-1) > 0.9).all()


def test_a_texel_takes_no_colour_from_what_hides_it() -> None:
    """A wall stands before a ball: from in front the wall is seen, and only the views that pass it count."""
    surface = ball(3, 0.5)
    table, cameras = texels(unwrap(surface, 64), 64), everywhere(12, 96)
    images, alphas = torch.ones(12, 96, 96, 3), torch.ones(12, 96, 96, 1)
    seen = bake(table, surface, cameras, images, alphas)
    assert np.allclose(seen, 1)
    blocked = 0
    images[blocked] = 0.0
    behind = (table.places @ cameras.positions[blocked].numpy()) < -0.1
    assert np.allclose(bake(table, surface, cameras, images, alphas)[behind], 1)


def test_the_normal_map_of_a_ball_is_its_own_normals() -> None:
    splats = cloud_ball(4000, size=0.06)
    grid = smoothed(density(splats, 48))
    table = texels(unwrap(ball(2, 0.86), 64), 64)
    normals = field_normals(grid, table)
    assert ((normals * unit(table.places)).sum(1) > 0.98).mean() > 0.95
    # Of the frame's own normal it is the colour of "straight up".
    assert np.allclose(tangent_space(table.normals, table), [0.5, 0.5, 1.0], atol=1e-3)


def lit(count: int = 4000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normals, albedo (two paints in patches all over) and their colours in the light of the corpus."""
    generator = np.random.default_rng(3)
    normals = unit(generator.normal(size=(count, 3))).astype(np.float32)
    albedo = np.where(generator.random((count, 1)) < 0.6, [0.7, 0.2, 0.1], [0.2, 0.3, 0.8]).astype(np.float32)
    return normals, albedo, (albedo * builtin(normals)[:, None]).astype(np.float32)


def test_the_known_light_leaves_the_albedo() -> None:
    normals, albedo, colours = lit()
    assert np.allclose(unlit(colours, normals, builtin), albedo, atol=1e-6)


def test_an_estimated_light_leaves_the_albedo_up_to_its_strength() -> None:
    normals, albedo, colours = lit()
    found = unlit(colours, normals, estimated(colours, normals))
    before, after = (
        np.std(values[:, 0] / albedo[:, 0]) / np.mean(values[:, 0] / albedo[:, 0]) for values in (colours, found)
    )
    # The light of one lamp has a crease, which a quadratic polynomial rounds off.
    assert before > 0.1
    assert after < 0.3 * before
    assert estimated(colours, normals)(LIGHT[None].astype(np.float32)) > 1.1
