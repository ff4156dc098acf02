"""The yardstick: scenes to judge by, and the scores of a result against its scene's ground truth."""

import tomllib
from collections.abc import Callable
from dataclasses import replace
from math import pi, radians
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from splatdream.cameras import Cameras, around
from splatdream.catalog import choose
from splatdream.corpus.captions import caption
from splatdream.corpus.distractors import distractors
from splatdream.corpus.kinds import KINDS
from splatdream.corpus.palette import COLOURS, SURFACES
from splatdream.corpus.scenes import RELATIONS, Scene, Thing, build
from splatdream.corpus.truth import Solid, render_truth
from splatdream.inspect.compare import GREY, comparison, silhouette_iou
from splatdream.inspect.judge import Judge

SIZE = 128
DISTRACTORS = 64

Look = Callable[[Cameras], tuple[Tensor, Tensor]]
"""Premultiplied colours (B H W 3) and alphas (B H W 1) of a result from any cameras."""


def read_scenes(path: Path, name: str) -> list[Scene]:
    """One list of the prompt file. ValueError for an unknown list."""
    lists = tomllib.loads(path.read_text())
    return [_scene(entry) for entry in lists[choose("prompt list", name, list(lists))]]


def _scene(entry: dict) -> Scene:
    relation, other = entry.pop("relation", None), entry.pop("other", None)
    return Scene(_thing(entry), relation, _thing(other) if other else None)


def _thing(entry: dict) -> Thing:
    slot = entry.get("slot")
    words: dict[str, Any] = entry | {"slot": tuple(slot) if slot else None}
    return Thing(**words)


def judging_cameras() -> Cameras:
    """Twelve views that no optimisation uses: three heights, azimuths off the round numbers."""
    azimuths = torch.arange(12) * (2 * pi / 12) + 0.13
    elevations = torch.tensor([radians(angle) for angle in (0.0, 20.0, 45.0)]).repeat(4)
    ones = torch.ones(12)
    return around(azimuths, elevations, 3.4 * ones, radians(40) * ones, SIZE)


def turning_cameras() -> Cameras:
    """Four other views, on which the rotation of an object without a front is chosen."""
    azimuths = torch.arange(4) * (pi / 2) + 0.4
    ones = torch.ones(4)
    return around(azimuths, radians(12) * ones, 3.4 * ones, radians(40) * ones, SIZE)


def turned(solid: Solid, angle: float) -> Solid:
    """The object turned by `angle` about the vertical axis, under the light that stays where it is.

    Turning the cameras instead would turn the light too: a ball, whose silhouette fits at every angle, would then be
    compared with one that is lit from somewhere else.
    """
    c, s = np.cos(angle), np.sin(angle)
    rotation = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]], np.float32)
    return replace(solid, vertices=solid.vertices @ rotation.T, normals=solid.normals @ rotation.T)


def best_turn(look: Look, scene: Scene) -> float:
    """The angle about the vertical axis at which the truth's silhouette fits best; 0 where the object has a front."""
    if scene.has_front():
        return 0.0
    solid, cameras = build(scene), turning_cameras()
    _, alphas = look(cameras)
    angles = np.radians(np.arange(0, 360, 15))
    fits = [silhouette_iou(alphas, render_truth(turned(solid, float(a)), cameras).alphas) for a in angles]
    return float(angles[int(np.argmax(fits))])


def score(look: Look, scene: Scene, judge: Judge | None) -> dict[str, float]:
    """Every column of the quality table for one result. R-precision and attributes are 0 or 1 and shares of 1."""
    cameras = judging_cameras()
    colours, alphas = look(cameras)
    truth = render_truth(turned(build(scene), best_turn(look, scene)), cameras)
    row = comparison(colours, alphas, truth.images, truth.alphas)
    if judge is not None:
        images = colours + (1 - alphas) * (GREY + 0.2)
        row |= {"r_precision": r_precision(judge, images, scene), "attributes": attributes(judge, images, scene)}
        if scene.has_front():
            row["janus"] = janus_rate(judge, images, cameras)
    return row


def r_precision(judge: Judge, images: Float[Tensor, "B H W 3"], scene: Scene) -> float:
    """1 where the scene's caption fits the pictures better than each of its 64 distractors, else 0."""
    captions = [caption(scene), *distractors(scene, DISTRACTORS, np.random.default_rng(0))]
    right, *wrong = judge.scores(images, captions).tolist()
    return float(right > max(wrong))


def attributes(judge: Judge, images: Float[Tensor, "B H W 3"], scene: Scene) -> float:
    """The share of the caption's own words (kinds, colours, surfaces, relation) that beat all words of their sort."""
    right = total = 0
    for variants in _variants(scene):
        scores = judge.scores(images, [caption(variant) for variant in variants])
        right += int(scores.argmax()) == variants.index(scene)
        total += 1
    return right / total


def _variants(scene: Scene) -> list[list[Scene]]:
    groups = []
    for place in ("subject", "other"):
        thing = getattr(scene, place)
        if thing is None:
            continue
        kinds = [
            name
            for name, kind in KINDS.items()
            if (not thing.hat or kind.head) and (not thing.slot or thing.slot[0] in kind.slots)
        ]
        things = [[replace(thing, kind=name) for name in kinds]]
        things += [[replace(thing, colour=c) for c in COLOURS]] if thing.colour else []
        things += [[replace(thing, surface=s) for s in SURFACES]] if thing.surface else []
        things += [[replace(thing, hat=c) for c in COLOURS]] if thing.hat else []
        things += [[replace(thing, slot=(thing.slot[0], c)) for c in COLOURS]] if thing.slot else []
        groups += [[replace(scene, **{place: variant}) for variant in variants] for variants in things]
    if scene.relation:
        groups.append([replace(scene, relation=relation) for relation in RELATIONS])
    return groups


def janus_rate(judge: Judge, images: Float[Tensor, "B H W 3"], cameras: Cameras) -> float:
    """The share of views more than 100 degrees from the front that the side classifier takes for the front."""
    away = torch.remainder(cameras.azimuths + pi, 2 * pi) - pi
    behind = away.abs() > radians(100)
    return float(np.mean([side == "front" for side in judge.sides(images[behind])]))
