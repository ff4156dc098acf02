"""Tools and instruments. They stand upright, as one would hang them on a wall."""

from math import cos, pi, sin

from splatdream.corpus.objects import Kind, Parts
from splatdream.corpus.shapes import arc, ball, box, cylinder, join, plate, prism, tube


def _sword() -> Parts:
    edge = [(-0.19, 0.0), (0.0, -0.075), (0.19, 0.0), (0.0, 0.075)]
    blade = join(prism(edge, 1.65).move(z=0.7), prism(edge, 0.32, 0.0).move(z=2.35))
    guard = join(box(0.95, 0.2, 0.17).move(z=0.56), *[ball(0.13, 8, 16).move(s * 0.48, 0.0, 0.645) for s in (-1, 1)])
    return {
        "blade": blade,
        "hilt": join(guard, ball(0.17, 10, 20).move(z=0.05)),
        "grip": cylinder(0.1, 0.5, segments=20).move(z=0.1),
    }


def _hammer() -> Parts:
    face = cylinder(0.27, 0.3, segments=28).turn("y", -90).move(x=-0.35)
    neck = cylinder(0.18, 0.3, segments=24).turn("y", -90).move(x=-0.12)
    claw = [
        (0.1, -0.16),
        (0.35, -0.1),
        (0.62, -0.24),
        (0.8, -0.42),
        (0.74, -0.12),
        (0.5, 0.12),
        (0.25, 0.19),
        (0.1, 0.18),
    ]
    claws = [plate([(x, z) for x, z in claw], 0.13).turn("z", s * 7).move(0.0, s * 0.11) for s in (-1, 1)]
    head = join(face, neck, box(0.44, 0.38, 0.42).move(z=-0.2), *claws)
    handle = join(cylinder(0.13, 1.5, 0.11, 24), cylinder(0.17, 0.5, 0.14, 24))
    return {"handle": handle, "head": head.move(z=1.55)}


def _guitar() -> Parts:
    lower = [(0.62 * x, 0.62 * z) for x, z in arc(1.0, 0, 350, 36)]
    upper = [(0.45 * x, 0.45 * z) for x, z in arc(1.0, 0, 350, 36)]
    body = join(plate(lower, 0.34).move(z=0.62), plate(upper, 0.34).move(z=1.28), box(0.72, 0.34, 0.4).move(z=0.85))
    head = plate([(-0.13, 0.0), (0.13, 0.0), (0.19, 0.12), (0.17, 0.46), (-0.17, 0.46), (-0.19, 0.12)], 0.12)
    pegs = [ball(0.065, 6, 12).move(s * 0.23, 0.0, z) for s in (-1, 1) for z in (2.72, 2.86, 3.0)]
    strings = [box(0.03, 0.03, 2.05).move(x, -0.235, 0.5) for x in (-0.055, 0.055)]
    return {
        "body": body,
        "neck": join(box(0.2, 0.12, 1.35).move(0.0, -0.15, 1.3), head.move(0.0, -0.13, 2.6)),
        "hole": cylinder(0.21, 0.04, segments=28).turn("x", 90).move(0.0, -0.16, 1.05),
        "bridge": box(0.46, 0.1, 0.1).move(0.0, -0.19, 0.45),
        "pegs": join(*pegs),
        "strings": join(*strings),
    }


def _drum() -> Parts:
    rim = join(cylinder(0.8, 0.12), cylinder(0.8, 0.12).move(z=0.9))
    zigzag = [
        tube([(0.76 * cos(pi * k / 6), 0.76 * sin(pi * k / 6), z),
              (0.76 * cos(pi * (k + 1) / 6), 0.76 * sin(pi * (k + 1) / 6), 1.02 - z)], 0.035, 6)
        for k in range(12) for z in ((0.12, 0.9)[k % 2],)
    ]  # fmt: skip
    return {
        "shell": cylinder(0.74, 1.0).move(z=0.02),
        "skin": cylinder(0.74, 0.08).move(z=0.96),
        "rims": rim,
        "ropes": join(*zigzag),
    }


KINDS = (
    Kind("sword", _sword, "grey", {"blade": "body", "hilt": "yellow", "grip": "brown"}, slots=("hilt",), stands=False),
    Kind("hammer", _hammer, "brown", {"handle": "body", "head": "grey"}, slots=("head",), stands=False),
    Kind(
        "guitar",
        _guitar,
        "orange",
        {"neck": "brown", "hole": "black", "bridge": "black", "pegs": "white", "strings": "white"},
        slots=("neck",),
        has_front=True,
    ),
    Kind(
        "drum",
        _drum,
        "red",
        {"shell": "body", "skin": "white", "rims": "yellow", "ropes": "white"},
        slots=("rims",),
        carries=True,
    ),
)
