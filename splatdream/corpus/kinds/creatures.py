"""Creatures and figures: things with a face, which may wear a hat."""

from splatdream.corpus.objects import Kind, Parts
from splatdream.corpus.shapes import ball, box, cylinder, join, tube


def _snowman() -> Parts:
    body = join(ball(0.62).move(z=0.55), ball(0.46).move(z=1.32), ball(0.34).move(z=1.92))
    eyes = [ball(0.055, 8, 16).move(x, -0.30, 2.0) for x in (-0.13, 0.13)]
    buttons = [ball(0.06, 8, 16).move(0.0, y, z) for y, z in ((-0.43, 1.47), (-0.45, 1.24))]
    nose = cylinder(0.075, 0.36, 0.0).turn("x", 90).move(0.0, -0.3, 1.9)
    arms = [tube([(s * 0.4, 0.0, 1.4), (s * 0.7, -0.05, 1.55), (s * 0.95, -0.1, 1.75)], 0.045) for s in (-1, 1)]
    return {"body": body, "eyes": join(*eyes), "buttons": join(*buttons), "nose": nose, "arms": join(*arms)}


def _duck() -> Parts:
    body = ball(1.0).stretch(0.58, 0.78, 0.5).move(z=0.5)
    tail = cylinder(0.3, 0.5, 0.03).stretch(1.0, 0.5, 1.0).turn("x", -55).move(0.0, 0.5, 0.62)
    head = ball(0.38).move(0.0, -0.48, 1.2)
    wings = [ball(1.0, 10).stretch(0.12, 0.42, 0.26).move(s * 0.55, 0.08, 0.58) for s in (-1, 1)]
    beak = ball(1.0, 10).stretch(0.19, 0.26, 0.085).move(0.0, -0.9, 1.14)
    eyes = [ball(0.065, 8).move(s * 0.2, -0.76, 1.33) for s in (-1, 1)]
    return {"body": join(body, tail, head), "wings": join(*wings), "beak": beak, "eyes": join(*eyes)}


def _robot() -> Parts:
    torso, head = box(0.95, 0.62, 0.95).move(z=0.62), box(0.64, 0.54, 0.52).move(z=1.64)
    arms = [box(0.2, 0.26, 0.85).move(s * 0.6, 0.0, 0.68) for s in (-1, 1)]
    legs = [box(0.28, 0.34, 0.64).move(s * 0.25, 0.0, 0.0) for s in (-1, 1)]
    eyes = [ball(0.085, 8).move(s * 0.15, -0.27, 1.97) for s in (-1, 1)]
    panel = box(0.5, 0.06, 0.36).move(0.0, -0.32, 0.98)
    antenna = join(cylinder(0.035, 0.25).move(z=2.16), ball(0.08, 8).move(z=2.45))
    return {
        "body": join(torso, head),
        "arms": join(*arms),
        "legs": join(*legs),
        "eyes": join(*eyes),
        "mouth": box(0.34, 0.06, 0.07).move(0.0, -0.27, 1.74),
        "panel": panel,
        "antenna": antenna,
    }


KINDS = (
    Kind(
        "snowman",
        _snowman,
        "white",
        {"eyes": "black", "buttons": "black", "nose": "orange", "arms": "brown"},
        slots=("nose",),
        has_front=True,
        head=(0.0, 0.0, 2.2, 0.27),
        carries=False,
    ),
    Kind(
        "duck",
        _duck,
        "yellow",
        {"wings": "body", "beak": "orange", "eyes": "black"},
        slots=("wings",),
        has_front=True,
        head=(0.0, -0.46, 1.5, 0.3),
    ),
    Kind(
        "robot",
        _robot,
        "grey",
        {"arms": "body", "legs": "body", "eyes": "yellow", "mouth": "black", "panel": "cyan", "antenna": "red"},
        slots=("arms", "legs"),
        has_front=True,
        head=(0.0, 0.0, 2.15, 0.3),
    ),
)
