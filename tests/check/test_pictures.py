"""The criteria for pictures: a splat like the truth passes, and one broken in one way fails that one and no other."""

from math import pi

import numpy as np
import pytest
import torch

from splatdream.check import check_pictures
from splatdream.check.criteria import read_criteria
from splatdream.check.pictures import BACKGROUND, wrong_captions
from splatdream.corpus.scenes import Scene, Thing, build
from splatdream.corpus.truth import AMBIENT, DIFFUSE, LIGHT, SKY
from splatdream.export.axes import rotate
from splatdream.inspect.judge import Judge
from splatdream.priors import builtin_folder
from splatdream.render.cpu import render
from splatdream.splats import Splats, logit, sh0_from_colours

PROMPT, ROBOT = "a pink robot", Scene(Thing("robot", "pink"))


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.load(builtin_folder().parent / "judge")


def likeness(scene: Scene, count: int = 6000) -> Splats:
    """Gaussians on the surface of the corpus' own object, in its colours and under its light."""
    solid, rng = build(scene), np.random.default_rng(0)
    corners = solid.vertices[solid.faces]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    chosen = rng.choice(len(areas), count, p=areas / areas.sum())
    weights = rng.dirichlet([1, 1, 1], count)
    means = np.einsum("nc,nci->ni", weights, corners[chosen])
    normals = np.einsum("nc,nci->ni", weights, solid.normals[solid.faces[chosen]])
    light = AMBIENT + DIFFUSE * (normals @ LIGHT).clip(0)[:, None] + SKY * normals[:, 2:].clip(0)
    colours = (solid.albedos[solid.parts[chosen], 0] * light).clip(0, 1)
    return Splats(
        means=torch.from_numpy(means).float(),
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        log_scales=torch.full((count, 3), 0.02).log(),
        logit_opacities=logit(torch.full((count,), 0.95)),
        sh0=sh0_from_colours(torch.from_numpy(colours).float()),
        shN=torch.zeros(count, 0, 3),
    )


@pytest.fixture(scope="module")
def robot() -> Splats:
    return likeness(ROBOT)


def coloured(splats: Splats, colours: torch.Tensor) -> Splats:
    return splats.replace(sh0=sh0_from_colours(colours.expand(len(splats), 3)))


def flickering(splats: Splats) -> Splats:
    """Colours that depend on where they are seen from."""
    shN = torch.zeros(len(splats), 8, 3)
    shN[:, 4:, :] = 0.9
    return splats.replace(shN=shN)


def turned(splats: Splats, axis: int, angle: float) -> Splats:
    c, s = np.cos(angle), np.sin(angle)
    rotation = torch.eye(3)
    one, two = [each for each in range(3) if each != axis]
    rotation[one, one], rotation[one, two], rotation[two, one], rotation[two, two] = c, -s, s, c
    return rotate(splats, rotation)


BROKEN = {
    "empty_views": lambda cloud: cloud.take(torch.arange(4)),
    "saturation": lambda cloud: coloured(cloud, torch.tensor([1.0, 0.02, 0.05])),
    "sharpness": lambda cloud: coloured(cloud, torch.tensor([BACKGROUND] * 3)),
    "inconsistency": flickering,
}
MUSHROOM = Scene(Thing("mushroom", "red"))
MISREAD = {
    "outbid": lambda: (likeness(MUSHROOM), "a blue mushroom"),
    "right_way_up": lambda: (turned(likeness(Scene(Thing("umbrella", "green"))), 1, pi), "a green umbrella"),
    "janus": lambda: (turned(likeness(ROBOT), 2, pi), PROMPT),
}


def failing(splats: Splats, judge: Judge | None = None, prompt: str | None = None) -> set[str]:
    return {each.name for each in check_pictures(splats, render, judge, prompt, strict=True).failures}


def test_a_splat_like_the_truth_passes_every_criterion(robot, judge) -> None:
    report = check_pictures(robot, render, judge, PROMPT, strict=True)
    assert not report.failures
    assert all(each.passed for each in report.findings)


@pytest.mark.parametrize("defect", list(BROKEN))
def test_a_defect_fails_its_own_criterion_and_no_other(defect, robot) -> None:
    assert failing(BROKEN[defect](robot)) == {defect}


@pytest.mark.parametrize("defect", list(MISREAD))
def test_what_does_not_show_its_prompt_fails_its_own_criterion_and_no_other(defect, judge) -> None:
    splats, prompt = MISREAD[defect]()
    # What stands on its head is no more read as what it is.
    also = {"outbid"} if defect == "right_way_up" else set()
    assert failing(splats, judge, prompt) == {defect} | also


def test_every_criterion_has_its_broken_splat() -> None:
    assert {*BROKEN, *MISREAD} == set(read_criteria("pictures"))


@pytest.mark.parametrize(
    ("prompt", "note"),
    [(None, "the prompt is not known"), ("a corgi on glass", "the judges do not know 'corgi', 'glass'")],
)
def test_what_the_judges_do_not_know_is_not_measured(prompt, note, robot, judge) -> None:
    found = check_pictures(robot.take(torch.arange(500)), render, judge, prompt).findings
    assert [each.note[: len(note)] for each in found if each.value is None] == [note] * 3


def test_wrong_captions_are_many_and_all_wrong() -> None:
    words = PROMPT.split()
    captions = wrong_captions(words, 64, np.random.default_rng(0))
    assert len(set(captions)) == len(captions) == 64
    assert PROMPT not in captions
    assert sum(each.endswith("robot") for each in captions) >= 5
