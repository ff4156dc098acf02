"""The yardstick: its lists, its cameras, and that it scores truth as truth."""

from math import pi

import numpy as np
import pytest
import torch

from splatdream.corpus.captions import caption
from splatdream.corpus.scenes import Scene, Thing, build
from splatdream.corpus.truth import render_truth
from splatdream.inspect.compare import comparison
from splatdream.inspect.judge import Judge
from splatdream.inspect.yardstick import (
    attributes,
    best_turn,
    janus_rate,
    judging_cameras,
    r_precision,
    read_scenes,
    score,
    turned,
)
from splatdream.priors import builtin_folder

PROMPTS = builtin_folder().parent / "prompts.toml"


def look_at(scene: Scene, angle: float = 0.0):
    solid = turned(build(scene), angle)

    def look(cameras):
        truth = render_truth(solid, cameras)
        return truth.images, truth.alphas

    return look


def test_lists_are_trained_and_held_out_as_they_say() -> None:
    assert len(read_scenes(PROMPTS, "trained")) == len(read_scenes(PROMPTS, "held_out")) == 12
    assert not any(scene.held_out() for scene in read_scenes(PROMPTS, "trained"))
    assert all(scene.held_out() for scene in read_scenes(PROMPTS, "held_out"))


def test_tuning_prompts_are_not_judged_by() -> None:
    judged = {caption(scene) for name in ("trained", "held_out") for scene in read_scenes(PROMPTS, name)}
    assert not judged & {caption(scene) for scene in read_scenes(PROMPTS, "tune")}


def test_the_truth_scores_one() -> None:
    scene = Scene(Thing("duck"))
    row = score(look_at(scene), scene, None)
    assert row["iou"] == 1.0
    assert row["psnr"] == 60.0


def test_an_object_without_a_front_is_turned_into_place_and_one_with_a_front_is_not() -> None:
    cube, duck = Scene(Thing("cube")), Scene(Thing("duck"))
    assert score(look_at(cube, pi / 4), cube, None)["iou"] > 0.99
    assert best_turn(look_at(duck, pi / 2), duck) == 0.0
    assert score(look_at(duck, pi / 2), duck, None)["iou"] < 0.9


def test_a_turn_moves_the_object_counter_clockwise_and_leaves_the_light() -> None:
    solid = build(Scene(Thing("cube")))
    x, y, z = solid.vertices.T
    quarter = turned(solid, pi / 2)
    np.testing.assert_allclose(quarter.vertices.T, [-y, x, z], atol=1e-6)
    cameras = judging_cameras()
    before, after = render_truth(solid, cameras), render_truth(quarter, cameras)
    # A cube looks the same after a quarter turn, but not when the light has gone round with it; edges may flicker.
    assert comparison(after.images, after.alphas, before.images, before.alphas)["psnr"] > 35


@pytest.mark.parametrize("angle", [pi / 6, pi / 2, pi])
def test_a_perfect_ball_is_perfect_at_whatever_angle_its_silhouette_fits(angle) -> None:
    ball = Scene(Thing("ball", colour="blue"))
    row = score(look_at(ball, angle), ball, None)
    assert row["iou"] > 0.99
    # With a light that turns along it is 19 to 26 dB.
    assert row["psnr"] > 35


class Listener(Judge):
    """A judge that scores captions by a function and knows every side from the blue channel, which holds it."""

    def __init__(self, score) -> None:
        super().__init__(("a",))
        self.score = score

    def scores(self, images, captions):
        return torch.tensor([self.score(words) for words in captions])

    def sides(self, images):
        return [("front", "side", "back")[int(image[0, 0, 2])] for image in images]


def test_only_a_caption_that_beats_all_others_is_precise() -> None:
    scene, images = Scene(Thing("mug", "blue")), torch.zeros(1, 4, 4, 3)
    assert r_precision(Listener(lambda words: float(words == "a blue mug")), images, scene) == 1.0
    assert r_precision(Listener(lambda words: float(words == "a red mug")), images, scene) == 0.0
    # A judge that cannot tell, or answers nonsense, gives nothing away.
    assert r_precision(Listener(lambda words: 0.5), images, scene) == 0.0
    assert r_precision(Listener(lambda words: float("nan")), images, scene) == 0.0


def test_attributes_are_asked_one_by_one() -> None:
    scene, images = Scene(Thing("ball", "red"), "on top of", Thing("cube", "blue")), torch.zeros(1, 4, 4, 3)
    assert attributes(Listener(lambda words: float(words == caption(scene))), images, scene) == 1.0
    # Wrong about one colour of two kinds, two colours and a relation.
    deaf = Listener(lambda words: float("green ball" in words) + 0.5 * float(words == caption(scene)))
    assert attributes(deaf, images, scene) == 0.8


def test_the_janus_rate_counts_fronts_behind_only() -> None:
    cameras = judging_cameras()
    away = [abs((a + pi) % (2 * pi) - pi) for a in cameras.azimuths.tolist()]
    images = torch.zeros(12, 4, 4, 3)
    assert janus_rate(Listener(None), images, cameras) == 1.0
    images[[a > 1.7453 for a in away], :, :, 2] = 2.0
    assert janus_rate(Listener(None), images, cameras) == 0.0


def test_an_unknown_list_names_the_lists() -> None:
    with pytest.raises(ValueError, match="held_out"):
        read_scenes(PROMPTS, "heldout")
