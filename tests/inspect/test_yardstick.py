"""The yardstick: its lists, its cameras, and that it scores truth as truth."""

from math import pi

import numpy as np
import pytest
import torch

from splatdream.corpus.captions import caption
from splatdream.corpus.scenes import Scene, Thing, build
from splatdream.corpus.truth import render_truth
from splatdream.inspect.yardstick import best_turn, judging_cameras, read_scenes, score, turned
from splatdream.priors import builtin_folder

PROMPTS = builtin_folder().parent / "prompts.toml"


def look_at(scene: Scene, angle: float = 0.0):
    solid = build(scene)

    def look(cameras):
        truth = render_truth(solid, turned(cameras, angle))
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


def test_turning_the_cameras_is_turning_the_object() -> None:
    cameras = judging_cameras()
    around = turned(cameras, 2 * pi)
    torch.testing.assert_close(around.viewmats, cameras.viewmats, atol=1e-5, rtol=0)
    point = torch.tensor([0.5, 0.2, 0.1, 1.0])
    c, s = np.cos(0.6), np.sin(0.6)
    moved = torch.tensor([c * 0.5 - s * 0.2, s * 0.5 + c * 0.2, 0.1, 1.0], dtype=torch.float32)
    torch.testing.assert_close(turned(cameras, 0.6).viewmats @ point, cameras.viewmats @ moved, atol=1e-5, rtol=0)


def test_an_unknown_list_names_the_lists() -> None:
    with pytest.raises(ValueError, match="held_out"):
        read_scenes(PROMPTS, "heldout")
