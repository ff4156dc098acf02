"""Every kind of thing: sound meshes, paints that exist, and parts, fronts and hats that a picture shows."""

from collections import Counter
from math import radians

import numpy as np
import pytest

from splatdream.cameras import orbit
from splatdream.corpus.kinds import KINDS
from splatdream.corpus.palette import COLOURS
from splatdream.corpus.raster import draw
from splatdream.corpus.scenes import Scene, Thing, build
from splatdream.corpus.truth import Solid, render_truth

SIZE = 128
MOST_TRIANGLES = 6000
FEWEST_PIXELS = 6
"""What of each part must show in the view that shows most of it."""
FRONT_CHANGE, HAT_CHANGE = 0.01, 0.005
"""Least mean absolute difference of two pictures that a person would call different."""

VIEWS = orbit(8, SIZE, elevation=radians(20))
VIEWS_FROM_ABOVE = orbit(4, SIZE, elevation=radians(60))
names = pytest.mark.parametrize("name", KINDS)


def most_pixels_of_each_part(solid: Solid) -> np.ndarray:
    counts = []
    for cameras in (VIEWS[::2], VIEWS_FROM_ABOVE):
        for viewmat, K in zip(cameras.viewmats.double().numpy(), cameras.Ks, strict=True):
            camera = (solid.vertices @ viewmat[:3, :3].T + viewmat[:3, 3]).astype(np.float32)
            found, _, _ = draw(camera, solid.faces, float(K[0, 0]), SIZE)
            counts.append(np.bincount(solid.parts[found[found >= 0]], minlength=len(solid.names)))
    return np.max(counts, axis=0)


def picture(thing: Thing, view: int) -> np.ndarray:
    return render_truth(build(Scene(thing)), VIEWS[view]).over(VIEWS.Ks.new_full((3,), 0.5))[0].numpy()


def test_there_are_at_least_forty_kinds_and_no_word_means_two_of_them():
    assert len(KINDS) >= 40
    words = Counter(word for kind in KINDS.values() for word in (kind.name, *kind.synonyms))
    assert max(words.values()) == 1, words.most_common(3)


@names
def test_paints_slots_and_colours_exist(name):
    kind = KINDS[name]
    parts = set(kind.build())
    assert set(kind.paints) <= parts
    assert set(kind.slots) <= parts
    assert kind.colour in COLOURS
    assert set(kind.paints.values()) <= {*COLOURS, "body"}


@names
def test_a_captions_colour_shows_even_where_a_slot_has_another(name):
    kind = KINDS[name]
    bodies = {part for part in kind.build() if kind.paints.get(part, "body") == "body"}
    assert bodies
    assert all(bodies - {slot} for slot in kind.slots)


@names
def test_meshes_are_finite_with_unit_normals_in_the_unit_sphere(name):
    solid = build(Scene(Thing(name)))
    assert np.isfinite(solid.vertices).all()
    assert np.linalg.norm(solid.vertices, axis=1).max() == pytest.approx(1.0, abs=1e-4)
    np.testing.assert_allclose(np.linalg.norm(solid.normals, axis=1), 1.0, atol=1e-3)
    assert solid.faces.min() >= 0
    assert solid.faces.max() < len(solid.vertices)
    assert len(solid.faces) <= MOST_TRIANGLES


@names
def test_every_part_shows_in_some_view(name):
    solid = build(Scene(Thing(name)))
    shown = dict(zip(solid.names, most_pixels_of_each_part(solid).tolist(), strict=True))
    assert min(shown.values()) >= FEWEST_PIXELS, shown


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.has_front])
def test_front_and_back_look_different(name):
    """The back is mirrored, so that it is not the outline alone that differs."""
    front, back = picture(Thing(name), 0), picture(Thing(name), 4)
    assert np.abs(front - back[:, ::-1]).mean() > FRONT_CHANGE


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.head])
def test_a_hat_shows_and_touches_its_wearer(name):
    bare, hatted = Thing(name), Thing(name, hat="purple")
    assert np.abs(picture(bare, 0) - picture(hatted, 0)).mean() > HAT_CHANGE
    solid = build(Scene(hatted))
    is_hat = np.zeros(len(solid.vertices), bool)
    is_hat[solid.faces[solid.parts == solid.names.index("hat")]] = True
    brim, wearer = solid.vertices[is_hat], solid.vertices[~is_hat]
    off_centre = np.linalg.norm(wearer[:, :2] - brim[:, :2].mean(0), axis=1)
    below = wearer[off_centre < 0.5 * np.ptp(brim[:, 0])]
    assert below[:, 2].max() >= brim[:, 2].min()


def test_a_scene_is_the_same_whatever_was_built_before_it():
    scene = Scene(Thing("duck", "red", hat="blue"), "on top of", Thing("table", surface="striped"))
    first = build(scene)
    build(Scene(Thing("table", "green"), "next to", Thing("duck", hat="white")))
    again = build(scene)
    for name in ("vertices", "normals", "faces", "albedos"):
        assert np.array_equal(getattr(first, name), getattr(again, name)), name
