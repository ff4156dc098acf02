"""Animals: they face the viewer in front."""

from splatdream.corpus.objects import Kind, Parts
from splatdream.corpus.shapes import ball, cylinder, dome, join, plate, tube


def _cat() -> Parts:
    ear = cylinder(0.2, 0.36, 0.0, 24).stretch(1.0, 0.6, 1.0)
    inner = ear.scale(0.62).stretch(1.0, 0.6, 1.0)
    tail = tube(
        [(0.3, 0.4, 0.16), (0.72, 0.35, 0.16), (0.92, 0.05, 0.3), (0.86, -0.05, 0.6), (0.95, 0.0, 0.85)], 0.11, 10
    )
    paws = [ball(1.0, 8, 16).stretch(0.17, 0.25, 0.14).move(s * 0.2, -0.48, 0.13) for s in (-1, 1)]
    hips = [ball(1.0, 10, 16).stretch(0.26, 0.36, 0.34).move(s * 0.4, -0.02, 0.32) for s in (-1, 1)]
    head = ball(0.46, 13, 28).stretch(1.12, 0.95, 0.92).move(0.0, -0.22, 1.3)
    body = join(ball(1.0, 13, 28).stretch(0.5, 0.5, 0.62).move(z=0.58), head, tail, *hips)
    muzzle = [ball(0.15, 8, 16).stretch(1.0, 0.7, 0.75).move(s * 0.1, -0.62, 1.15) for s in (-1, 1)]
    whiskers = [
        tube([(s * 0.2, -0.62, 1.16 + 0.5 * lift), (s * 0.68, -0.6, 1.16 + 1.4 * lift)], 0.028, 6)
        for s in (-1, 1) for lift in (-0.06, 0.06)
    ]  # fmt: skip
    return {
        "body": join(body, *[ear.turn("y", s * 22).move(s * 0.3, -0.2, 1.56) for s in (-1, 1)]),
        "ears": join(*[inner.turn("y", s * 22).move(s * 0.3, -0.3, 1.58) for s in (-1, 1)]),
        "belly": join(ball(1.0, 10, 20).stretch(0.32, 0.3, 0.42).move(0.0, -0.28, 0.6), *muzzle, *paws),
        "eyes": join(*[ball(1.0, 8, 14).stretch(0.085, 0.06, 0.11).move(s * 0.19, -0.62, 1.37) for s in (-1, 1)]),
        "nose": ball(1.0, 6, 12).stretch(0.075, 0.06, 0.055).move(0.0, -0.73, 1.22),
        "whiskers": join(*whiskers),
    }


def _penguin() -> Parts:
    wing = ball(1.0, 10, 20).stretch(0.1, 0.27, 0.52)
    feet = [ball(1.0, 8, 16).stretch(0.22, 0.32, 0.1).move(s * 0.26, -0.25, 0.09) for s in (-1, 1)]
    eyes = [ball(0.12, 8, 14).move(s * 0.16, -0.37, 1.68) for s in (-1, 1)]
    pupils = [ball(0.068, 6, 12).move(s * 0.15, -0.46, 1.69) for s in (-1, 1)]
    return {
        "body": join(ball(1.0).stretch(0.62, 0.56, 0.82).move(z=0.86), ball(0.42).move(0.0, -0.04, 1.6)),
        "wings": join(*[wing.turn("y", -s * 22).move(s * 0.68, 0.0, 0.95) for s in (-1, 1)]),
        "belly": ball(1.0, 14, 28).stretch(0.48, 0.42, 0.66).move(0.0, -0.22, 0.8),
        "beak": cylinder(0.14, 0.34, 0.0, 20).stretch(1.0, 0.7, 1.0).turn("x", 90).move(0.0, -0.4, 1.53),
        "feet": join(*feet),
        "eyes": join(*eyes),
        "pupils": join(*pupils),
    }


def _fish() -> Parts:
    fork = [(-0.3, 0.0), (0.1, -0.1), (0.55, -0.52), (0.4, 0.0), (0.55, 0.52), (0.1, 0.1)]
    tail = plate(fork, 0.12).turn("z", 90).move(0.0, 0.95, 0.62)
    back = plate([(-0.45, 0.3), (0.5, 0.3), (0.52, 0.62), (0.25, 0.84), (-0.1, 0.8)], 0.12).turn("z", 90).move(z=0.72)
    keel = plate([(-0.1, 0.0), (0.2, -0.32), (0.42, -0.32), (0.35, 0.0)], 0.12).turn("z", 90).move(z=0.16)
    side = [ball(1.0, 8, 16).stretch(0.08, 0.28, 0.16).turn("z", s * 35).move(s * 0.46, 0.1, 0.5) for s in (-1, 1)]
    lips = ball(1.0, 8, 16).stretch(0.2, 0.12, 0.1).move(0.0, -0.97, 0.52)
    return {
        "body": ball(1.0, 18).stretch(0.42, 1.0, 0.6).move(z=0.62),
        "fins": join(tail, back, keel, *side),
        "mouth": lips,
        "eyes": join(*[ball(0.17, 8, 16).move(s * 0.24, -0.62, 0.8) for s in (-1, 1)]),
        "pupils": join(*[ball(0.105, 8, 14).move(s * 0.32, -0.68, 0.81) for s in (-1, 1)]),
    }


def _turtle() -> Parts:
    legs = [ball(1.0, 10, 16).stretch(0.22, 0.27, 0.28).move(s * 0.58, y, 0.24) for s in (-1, 1) for y in (-0.52, 0.55)]
    spots = [
        ball(1.0, 8, 14).stretch(0.22, 0.2, 0.09).turn("x", 43).move(0.0, -0.71, 0.78).turn("z", 60 * k)
        for k in range(6)
    ]
    neck = tube([(0.0, -0.6, 0.35), (0.0, -0.95, 0.48), (0.0, -1.15, 0.66)], 0.18)
    tail = cylinder(0.13, 0.4, 0.0, 16).turn("x", -100).move(0.0, 0.85, 0.28)
    head = ball(0.33, 12, 24).stretch(1.0, 1.05, 0.95).move(0.0, -1.22, 0.8)
    return {
        "skin": join(head, neck, tail, *legs),
        "shell": dome(0.93, 10).stretch(1.0, 1.0, 0.8).move(z=0.3),
        "rim": cylinder(1.0, 0.14, 0.96).move(z=0.22),
        "spots": join(ball(1.0, 8, 20).stretch(0.3, 0.3, 0.1).move(z=1.03), *spots),
        "eyes": join(*[ball(0.075, 8, 12).move(s * 0.2, -1.46, 0.9) for s in (-1, 1)]),
    }


KINDS = (
    Kind(
        "cat",
        _cat,
        "orange",
        {"ears": "pink", "belly": "white", "eyes": "black", "nose": "pink", "whiskers": "black"},
        slots=("belly",),
        synonyms=("kitten",),
        has_front=True,
        head=(0.0, -0.2, 1.64, 0.26),
    ),
    Kind(
        "penguin",
        _penguin,
        "black",
        {"wings": "body", "belly": "white", "beak": "orange", "feet": "orange", "eyes": "white", "pupils": "black"},
        slots=("belly", "wings"),
        has_front=True,
        head=(0.0, -0.04, 1.9, 0.29),
    ),
    Kind(
        "fish",
        _fish,
        "orange",
        {"fins": "yellow", "mouth": "red", "eyes": "white", "pupils": "black"},
        slots=("fins",),
        has_front=True,
    ),
    Kind(
        "turtle",
        _turtle,
        "green",
        {"skin": "body", "shell": "brown", "rim": "orange", "spots": "body", "eyes": "black"},
        slots=("shell",),
        synonyms=("tortoise",),
        has_front=True,
        head=(0.0, -1.2, 1.04, 0.25),
    ),
)
