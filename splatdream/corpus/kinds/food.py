"""Things to eat."""

from math import cos, exp, pi, sin

from splatdream.corpus.objects import Kind, Parts
from splatdream.corpus.shapes import Mesh, arc, ball, cylinder, dome, join, lathe, prism, tube


def _around(count: int, mesh: Mesh, start: float = 0.0) -> Mesh:
    """Copies of a mesh, spread evenly around the z axis."""
    return join(*[mesh.turn("z", start + 360 * k / count) for k in range(count)])


def _burger() -> Parts:
    frill = [((0.97 + 0.06 * cos(9 * a)) * cos(a), (0.97 + 0.06 * cos(9 * a)) * sin(a)) for a in _angles(54)]
    seed = ball(0.07, 6, 12).stretch(1.0, 0.7, 0.6)
    seeds = [_around(n, seed.turn("y", 90 - lift).move(0.88 * cos(up), 0.0, 0.95 + 0.5 * sin(up)), 17.0 * n)
             for n, lift, up in ((9, 60, 0.62), (5, 75, 1.05))]  # fmt: skip
    return {
        "bun": join(
            lathe([(0.0, 0.0), (0.75, 0.0), (0.88, 0.08), (0.9, 0.3), (0.0, 0.3)]),
            dome(0.92, 10).stretch(1.0, 1.0, 0.58).move(z=0.92),
        ),
        "patty": lathe([(0.0, 0.3), (0.9, 0.3), (0.98, 0.36), (0.98, 0.54), (0.9, 0.6), (0.0, 0.6)]),
        "cheese": prism([(-0.73, -0.73), (0.73, -0.73), (0.73, 0.73), (-0.73, 0.73)], 0.08).turn("z", 45).move(z=0.6),
        "tomato": cylinder(0.93, 0.13).move(z=0.68),
        "lettuce": prism(frill, 0.12).move(z=0.81),
        "seeds": join(*seeds),
    }


def _angles(count: int) -> list[float]:
    return [2 * pi * k / count for k in range(count)]


def _cake() -> Parts:
    drops = [0.3, 0.16, 0.36, 0.2, 0.28, 0.14, 0.34, 0.22, 0.3, 0.18, 0.36, 0.16, 0.26, 0.2]
    drips = [
        join(cylinder(0.11, drop, segments=10), ball(0.11, 6, 10)).move(0.85, 0.0, 0.78 - drop)
        .turn("z", 360 * k / len(drops)) for k, drop in enumerate(drops)
    ]  # fmt: skip
    icing = lathe([(0.0, 0.6), (0.88, 0.66), (0.93, 0.72), (0.93, 0.8), (0.86, 0.86), (0.0, 0.86)])
    candle = cylinder(0.065, 0.42, segments=12).move(0.5, 0.0, 0.84)
    flame = ball(1.0, 8, 12).stretch(0.08, 0.08, 0.14).move(0.5, 0.0, 1.38)
    return {
        "cake": cylinder(0.87, 0.72).move(z=0.04),
        "icing": join(icing, *drips),
        "plate": lathe([(0.0, 0.0), (0.9, 0.0), (1.15, 0.06), (1.15, 0.1), (0.0, 0.1)]),
        "candles": _around(5, candle, 18),
        "flames": _around(5, flame, 18),
    }


def _ice_cream_cone() -> Parts:
    blob = ball(0.19, 8, 14).move(0.47, 0.0, 1.36)
    spiral = [((0.04 + 0.08 * k) * 1.02, 0.28 * k) for k in range(6)]
    ribs = [
        tube([(r * cos(a), s * r * sin(a), 2.95 * r - 0.05) for r, a in spiral], [0.0, *[0.03] * 4, 0.0], 5)
        for s in (-1, 1)
    ]
    return {
        "scoop": join(ball(0.58, 14).move(z=1.62), _around(9, blob)),
        "cone": lathe([(0.0, 0.0), (0.05, 0.02), (0.48, 1.3), (0.0, 1.36)]),
        "ribs": _around(7, join(*ribs)),
        "cherry": ball(0.18, 8, 16).move(z=2.28),
    }


def _donut() -> Parts:
    icing = lathe([(0.62 + 0.375 * x, 0.375 * z) for x, z in arc(1.0, 12, 168, 14)])
    drip = ball(0.17, 6, 12).stretch(0.5, 1.0, 1.0).turn("y", -12).move(0.93, 0.0, 0.08)
    inner = ball(0.13, 6, 12).stretch(0.5, 1.0, 1.0).move(0.3, 0.0, 0.08)
    sprinkle = ball(1.0, 6, 8).stretch(0.1, 0.037, 0.037)
    spots = [(0, 70, 30), (1, 95, 80), (2, 60, 140), (3, 110, 10), (4, 75, 100), (5, 45, 60), (6, 90, 20), (7, 120, 70),
             (8, 60, 120), (9, 85, 45), (10, 110, 150), (11, 68, 90), (12, 40, 10)]  # fmt: skip
    sprinkles = [
        sprinkle.turn("z", spin).turn("y", 90 - lift).move(0.62 + 0.385 * cos(lift * pi / 180), 0.0,
        0.385 * sin(lift * pi / 180)).turn("z", 360 * k / 13) for k, lift, spin in spots
    ]  # fmt: skip
    dough = lathe([(0.62 + 0.36 * x, 0.36 * z) for x, z in arc(1.0, -180, 180, 17)])
    parts = {"icing": join(icing, _around(7, drip), _around(5, inner)), "dough": dough, "sprinkles": join(*sprinkles)}
    return {name: mesh.turn("x", 55) for name, mesh in parts.items()}


def _apple() -> Parts:
    flesh = []
    for k in range(-14, 15):
        up, across = sin(k * pi / 28), max(cos(k * pi / 28), 0.0) ** 0.8
        radius = 0.84 * across * (1.0 + 0.14 * up)
        flesh.append((radius, 0.7 + 0.72 * up - 0.28 * up * exp(-((radius / 0.26) ** 2))))
    leaf = ball(1.0, 10, 16).stretch(0.36, 0.18, 0.07).turn("y", -25).move(0.38, 0.0, 1.76)
    stem = tube([(0.0, 0.0, 1.2), (0.02, 0.0, 1.5), (-0.06, 0.0, 1.85)], [0.06, 0.065, 0.085], 10)
    return {"apple": lathe(flesh), "stem": stem, "leaf": leaf}


def _carrot() -> Parts:
    root = lathe([(0.0, 0.0), (0.06, 0.03), (0.18, 0.4), (0.32, 0.95), (0.42, 1.4), (0.42, 1.52), (0.32, 1.64),
                  (0.0, 1.68)])  # fmt: skip
    frond = ball(1.0, 8, 12).stretch(0.14, 0.14, 0.42).move(z=0.4)
    leaves = [frond.turn("y", lean).turn("z", 72 * k).move(z=1.6) for k, lean in enumerate((32, 36, 30, 38, 33))]
    return {"root": root, "leaves": join(frond.scale(1.15).move(z=1.6), *leaves)}


KINDS = (
    Kind(
        "burger",
        _burger,
        "orange",
        {"bun": "body", "patty": "brown", "cheese": "yellow", "tomato": "red", "lettuce": "green", "seeds": "white"},
        slots=("patty", "lettuce"),
        synonyms=("hamburger",),
    ),
    Kind(
        "cake",
        _cake,
        "pink",
        {"cake": "body", "icing": "white", "plate": "grey", "candles": "blue", "flames": "orange"},
        slots=("icing", "candles"),
        synonyms=("birthday cake",),
    ),
    Kind(
        "ice cream cone",
        _ice_cream_cone,
        "pink",
        {"scoop": "body", "cone": "orange", "ribs": "brown", "cherry": "red"},
        slots=("cone",),
        synonyms=("ice cream",),
    ),
    Kind(
        "donut",
        _donut,
        "pink",
        {"icing": "body", "dough": "orange", "sprinkles": "white"},
        slots=("sprinkles",),
        synonyms=("doughnut",),
        has_front=True,
    ),
    Kind("apple", _apple, "red", {"apple": "body", "stem": "brown", "leaf": "green"}, slots=("leaf",)),
    Kind("carrot", _carrot, "orange", {"root": "body", "leaves": "green"}, slots=("leaves",), stands=False),
)
