"""Things outdoors: buildings and plants."""

from splatdream.corpus.objects import Kind, Parts
from splatdream.corpus.shapes import Mesh, arc, ball, box, cylinder, join, lathe, plate, prism, tube


def _mushroom() -> Parts:
    stem = lathe([(0.0, 0.0), (0.3, 0.0), (0.24, 0.25), (0.22, 0.8), (0.0, 0.8)])
    cap = lathe([(0.0, 0.7), (0.5, 0.66), (0.8, 0.72), *[(0.8 * x, 0.74 + 0.62 * z) for x, z in arc(1, 4, 90, 10)]])
    return {"cap": cap, "stem": stem}


def _tree() -> Parts:
    tiers = [cylinder(0.72 - 0.17 * k, 0.75 - 0.06 * k, 0.0).move(z=0.5 + 0.42 * k) for k in range(3)]
    return {"crown": join(*tiers), "trunk": cylinder(0.17, 0.55)}


def _house() -> Parts:
    gable = prism([(-0.78, 0.0), (0.78, 0.0), (0.0, 0.68)], 1.3).turn("x", 90).move(y=0.65, z=0.85)
    windows = [box(0.26, 0.06, 0.28).move(x, -0.56, 0.42) for x in (-0.4, 0.4)]
    chimney = box(0.2, 0.2, 0.6).move(0.38, 0.2, 1.05)
    return {
        "walls": box(1.3, 1.1, 0.9),
        "roof": gable,
        "door": box(0.28, 0.06, 0.55).move(0.0, -0.56, 0.0),
        "windows": join(*windows),
        "chimney": chimney,
    }


def _flower() -> Parts:
    petal = ball(1.0, 10, 18).stretch(0.3, 0.2, 0.13).move(x=0.4)
    petals = join(*[petal.turn("z", 60 * k) for k in range(6)])
    leaf = ball(1.0, 10, 16).stretch(0.38, 0.17, 0.07)
    leaves = [leaf.turn("y", -s * 32).move(s * 0.36, 0.0, 0.42 + 0.1 * s) for s in (-1, 1)]
    stem = tube([(0.0, 0.1, 0.0), (0.0, 0.12, 0.5), (0.0, 0.08, 1.0), (0.0, 0.02, 1.3)], 0.075)
    return {
        "petals": petals.turn("x", 58).move(z=1.45),
        "centre": ball(0.25, 10, 20).stretch(1.0, 1.0, 0.65).move(z=0.07).turn("x", 58).move(z=1.45),
        "stem": stem,
        "leaves": join(*leaves),
    }


def _cactus() -> Parts:
    trunk = tube([(0.0, 0.0, 0.4), (0.0, 0.0, 1.2), (0.0, 0.0, 2.0)], 0.3, 24)
    right = tube([(0.2, 0.0, 0.95), (0.5, 0.0, 0.97), (0.62, 0.0, 1.1), (0.64, 0.0, 1.55)], 0.17, 18)
    left = tube([(-0.2, 0.0, 1.2), (-0.5, 0.0, 1.22), (-0.62, 0.0, 1.35), (-0.64, 0.0, 1.7)], 0.16, 18)
    thorn = cylinder(0.035, 0.12, 0.0, 6).turn("y", 90).move(x=0.29)
    thorns = [thorn.turn("z", 60 * k + 30 * (n % 2)).move(z=0.75 + 0.24 * n) for k in range(6) for n in range(6)]
    bloom = ball(1.0, 6, 10).stretch(0.16, 0.1, 0.07).move(x=0.14)
    pot = lathe(
        [(0.0, 0.0), (0.38, 0.0), (0.5, 0.45), (0.57, 0.45), (0.57, 0.62), (0.5, 0.62), (0.48, 0.55), (0.0, 0.55)]
    )
    return {
        "cactus": join(trunk, right, left),
        "thorns": join(*thorns),
        "flower": join(*[bloom.turn("z", 72 * k) for k in range(5)]).move(z=2.3),
        "pot": pot,
    }


def _crenels(width: float, count: int, z: float) -> Mesh:
    """Battlements: blocks along the x axis with gaps as wide as they are."""
    size = width / (2 * count - 1)
    return join(*[box(size, 0.2, 0.2).move(-width / 2 + size / 2 + 2 * size * k, 0.0, z) for k in range(count)])


def _castle() -> Parts:
    corners = [(x, y) for x in (-0.75, 0.75) for y in (-0.75, 0.75)]
    tower = join(cylinder(0.28, 1.25, segments=24), cylinder(0.34, 0.16, segments=24).move(z=1.12))
    row = _crenels(0.95, 4, 0.85).move(y=-0.75)
    keep = join(box(0.7, 0.7, 1.5), _crenels(0.7, 3, 1.5).move(y=-0.25), _crenels(0.7, 3, 1.5).move(y=0.25))
    arch = [(-0.22, 0.0), (0.22, 0.0), *[(0.22 * x, 0.36 + 0.22 * z) for x, z in arc(1, 0, 180, 12)]]
    slits = [box(0.12, 0.06, 0.24).move(x, -0.36, 1.1) for x in (-0.17, 0.17)]
    lights = [box(0.1, 0.08, 0.22).move(x, -1.02, 0.7) for x in (-0.75, 0.75)]
    return {
        "walls": join(
            box(1.5, 1.5, 0.85),
            keep,
            *[tower.move(x, y) for x, y in corners],
            *[row.turn("z", 90 * k) for k in range(4)],
        ),
        "roofs": join(*[cylinder(0.4, 0.7, 0.0, 24).move(x, y, 1.27) for x, y in corners]),
        "gate": plate(arch, 0.1).move(y=-0.76),
        "windows": join(*slits, *lights),
    }


def _windmill() -> Parts:
    sail = join(box(0.12, 0.1, 1.0), box(0.34, 0.08, 0.78).move(0.12, 0.0, 0.26))
    sails = join(*[sail.turn("y", 90 * k + 20) for k in range(4)], ball(0.14, 8, 16))
    arch = [(-0.18, 0.0), (0.18, 0.0), *[(0.18 * x, 0.34 + 0.18 * z) for x, z in arc(1, 0, 180, 10)]]
    return {
        "tower": cylinder(0.62, 1.6, 0.4),
        "roof": join(cylinder(0.48, 0.08).move(z=1.58), cylinder(0.46, 0.5, 0.0).move(z=1.66)),
        "sails": sails.move(0.0, -0.62, 1.55),
        "axle": cylinder(0.07, 0.4, segments=14).turn("x", 90).move(0.0, -0.25, 1.55),
        "door": plate(arch, 0.2).move(y=-0.54),
        "windows": box(0.2, 0.1, 0.22).move(0.0, -0.5, 0.82),
    }


KINDS = (
    Kind("mushroom", _mushroom, "red", {"cap": "body", "stem": "white"}, slots=("stem",), synonyms=("toadstool",)),
    Kind("tree", _tree, "green", {"crown": "body", "trunk": "brown"}, slots=("trunk",)),
    Kind(
        "house",
        _house,
        "white",
        {"walls": "body", "roof": "red", "door": "brown", "windows": "cyan", "chimney": "grey"},
        slots=("roof", "door"),
        has_front=True,
    ),
    Kind(
        "flower",
        _flower,
        "pink",
        {"petals": "body", "centre": "yellow", "stem": "green", "leaves": "green"},
        slots=("centre", "leaves"),
        synonyms=("daisy",),
        has_front=True,
    ),
    Kind(
        "cactus",
        _cactus,
        "green",
        {"cactus": "body", "thorns": "white", "flower": "pink", "pot": "orange"},
        slots=("pot",),
    ),
    Kind(
        "castle",
        _castle,
        "grey",
        {"walls": "body", "roofs": "blue", "gate": "brown", "windows": "black"},
        slots=("roofs", "gate"),
        has_front=True,
    ),
    Kind(
        "windmill",
        _windmill,
        "white",
        {"tower": "body", "roof": "red", "sails": "brown", "axle": "grey", "door": "brown", "windows": "cyan"},
        slots=("sails", "roof"),
        has_front=True,
    ),
)
