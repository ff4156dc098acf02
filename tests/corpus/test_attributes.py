"""What scenes are, apart from their words: equal for what looks equal, different for what looks different."""

import numpy as np

from splatdream.corpus.attributes import ATTRIBUTES, choices
from splatdream.corpus.captions import random_scene
from splatdream.corpus.distractors import near_scenes
from splatdream.corpus.scenes import Scene, Thing


def named(scene: Scene) -> dict[str, str]:
    pairs = zip(ATTRIBUTES.items(), choices(scene), strict=True)
    return {name: values[place] for (name, values), place in pairs if values[place] != "none"}


def test_a_scene_is_spelt_out() -> None:
    house = Thing("house", "red", "striped", slot=("roof", "blue"))
    assert named(Scene(Thing("duck", hat="green"), "on top of", house)) == {
        "first kind": "duck",
        "first colour": "yellow",  # nobody said so: ducks are
        "first surface": "plain",
        "first hat": "green",
        "relation": "on top of",
        "second kind": "house",
        "second colour": "red",
        "second surface": "striped",
        "second part": "roof",
        "second part colour": "blue",
    }


def test_of_two_things_side_by_side_the_same_one_is_first_whichever_is_said_first() -> None:
    ball, cube = Thing("ball", "red"), Thing("cube", "blue")
    one, other = named(Scene(ball, "next to", cube)), named(Scene(cube, "next to", ball))
    assert one.pop("left") != other.pop("left")
    assert one == other
    above, below = named(Scene(ball, "on top of", cube)), named(Scene(cube, "on top of", ball))
    assert above["first kind"] == below["second kind"] == "ball"


def test_scenes_that_differ_in_a_word_differ_in_an_attribute() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        scene = random_scene(rng)
        for near in near_scenes(scene, rng):
            assert choices(near) != choices(scene), (scene, near)
