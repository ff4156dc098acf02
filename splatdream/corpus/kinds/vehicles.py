"""Things that drive and fly. A vehicle's front is its nose, which faces -y."""

from splatdream.corpus.objects import Kind, Parts
from splatdream.corpus.shapes import ball, box, cylinder, dome, join, lathe, plate, prism


def _car() -> Parts:
    hull = prism([(-0.95, 0.2), (0.95, 0.2), (0.95, 0.48), (0.85, 0.56), (-0.9, 0.62), (-0.95, 0.56)], 0.92)
    cabin = prism([(-0.72, 0.55), (0.38, 0.55), (0.16, 0.93), (-0.52, 0.93)], 0.78)
    glass = prism([(-0.68, 0.6), (0.36, 0.58), (0.15, 0.87), (-0.48, 0.87)], 0.8)
    screen = prism([(-0.75, 0.6), (0.42, 0.58), (0.19, 0.87), (-0.55, 0.87)], 0.66)

    def sideways(mesh, width):
        return mesh.turn("x", 90).move(y=width / 2).turn("z", -90)

    wheel = cylinder(0.24, 0.16).turn("y", 90)
    wheels = [wheel.move(x, y, 0.24) for x in (-0.54, 0.38) for y in (-0.58, 0.58)]
    lamps = [ball(0.1, 8).stretch(1.0, 0.5, 1.0).move(x, -0.95, 0.42) for x in (-0.3, 0.3)]
    return {
        "body": join(sideways(hull, 0.92), sideways(cabin, 0.78)),
        "windows": join(sideways(glass, 0.8), sideways(screen, 0.66)),
        "wheels": join(*wheels),
        "lamps": join(*lamps),
    }


def _rocket() -> Parts:
    hull = lathe([(0.0, 0.3), (0.3, 0.3), (0.42, 0.7), (0.45, 1.1), (0.42, 1.5), (0.36, 1.75)])
    nose = lathe([(0.36, 1.75), (0.27, 2.0), (0.14, 2.25), (0.0, 2.42)])
    fin = prism([(0.3, 0.1), (0.82, 0.0), (0.78, 0.35), (0.38, 0.95)], 0.09).turn("x", 90).move(y=0.045)
    fins = [fin.turn("z", 45 + 90 * k) for k in range(4)]
    porthole = cylinder(0.17, 0.1).turn("x", 90).move(0.0, -0.38, 1.35)
    return {
        "body": hull,
        "tip": nose,
        "fins": join(*fins),
        "window": porthole,
        "engine": cylinder(0.26, 0.3, 0.2).move(z=0.02),
    }


def _boat() -> Parts:
    deck = [(-0.3, 0.85), (-0.36, 0.0), (-0.32, -0.45), (-0.18, -0.85), (0.0, -1.1), (0.18, -0.85), (0.32, -0.45),
            (0.36, 0.0), (0.3, 0.85)]  # fmt: skip
    hull = prism([(0.95 * x, 0.78 * y) for x, y in deck], 0.6, 1.36)
    rail = prism([(1.36 * x, 1.12 * y) for x, y in deck], 0.1).move(z=0.58)
    main = plate([(-0.04, 0.0), (0.92, 0.0), (0.5, 0.62), (-0.04, 1.45)], 0.08).turn("z", 50).move(0.0, 0.06, 0.86)
    jib = plate([(0.0, 0.0), (0.0, 1.15), (-0.72, 0.0)], 0.08).turn("z", 50).move(0.0, -0.1, 0.86)
    flag = plate([(0.0, 0.0), (0.4, 0.13), (0.0, 0.26)], 0.06).turn("z", 50).move(z=2.24)
    return {
        "hull": hull,
        "rail": rail,
        "mast": cylinder(0.06, 2.05, segments=12).move(0.0, 0.0, 0.45),
        "sails": join(main, jib),
        "flag": flag,
    }


def _airplane() -> Parts:
    hull = [(0.0, -1.2), (0.09, -1.15), (0.2, -0.9), (0.27, -0.5), (0.28, 0.5), (0.26, 0.85), (0.2, 1.05), (0.1, 1.17),
             (0.0, 1.2)]  # fmt: skip
    wing = [(0.1, -0.5), (1.3, 0.12), (1.3, 0.4), (0.1, 0.15)]
    wings = [prism(_mirrored(wing, s), 0.13).move(z=-0.16) for s in (-1, 1)]
    tailplane = [prism(_mirrored([(0.05, 0.78), (0.58, 1.05), (0.58, 1.28), (0.05, 1.15)], s), 0.11) for s in (-1, 1)]
    fin = plate([(0.55, 0.15), (1.15, 0.15), (1.3, 0.78), (1.02, 0.78)], 0.12).turn("z", 90)
    engine = cylinder(0.13, 0.4, segments=20).turn("x", 90)
    panes = [ball(0.07, 8, 12).move(s * 0.24, y, 0.08) for s in (-1, 1) for y in (-0.4, -0.15, 0.1, 0.35, 0.6)]
    screen = box(0.34, 0.24, 0.13).turn("x", -28).move(0.0, -0.92, 0.1)
    return {
        "body": lathe(hull).turn("x", 90),
        "wings": join(*wings, *tailplane, fin),
        "engines": join(*[engine.move(s * 0.62, 0.1, -0.24) for s in (-1, 1)]),
        "windows": join(*panes, screen),
    }


def _mirrored(outline: list[tuple[float, float]], side: int) -> list[tuple[float, float]]:
    """The outline, or with side = -1 its mirror image about the y axis, counter-clockwise still."""
    return [(side * x, y) for x, y in outline][::side]


def _train() -> Parts:
    boiler = cylinder(0.36, 1.25).turn("x", 90).move(0.0, 0.3, 0.72)
    cab = box(0.86, 0.62, 0.95).move(0.0, 0.62, 0.3)
    chimney = lathe([(0.0, 0.0), (0.11, 0.0), (0.11, 0.3), (0.2, 0.5), (0.2, 0.58), (0.0, 0.58)], 24)
    big = cylinder(0.27, 0.13, segments=24).turn("y", 90)
    small = cylinder(0.19, 0.13, segments=24).turn("y", 90)
    wheels = [big.move(x, 0.62, 0.27) for x in (-0.5, 0.37)]
    wheels += [small.move(x, y, 0.19) for x in (-0.5, 0.37) for y in (-0.65, -0.2, 0.17)]
    catcher = prism([(-0.4, -0.05), (0.4, -0.05), (0.4, 0.3), (-0.4, 0.3)], 0.3).move(0.0, -1.08, 0.08)
    panes = [box(0.9, 0.36, 0.32).move(0.0, 0.62, 0.82), box(0.24, 0.66, 0.28).move(-0.22, 0.62, 0.9),
             box(0.24, 0.66, 0.28).move(0.22, 0.62, 0.9)]  # fmt: skip
    return {
        "body": join(boiler, cab, box(0.74, 1.8, 0.18).move(0.0, 0.02, 0.28)),
        "wheels": join(*wheels),
        "chimney": chimney.move(0.0, -0.65, 1.02),
        "dome": join(dome(0.17, 6).move(0.0, -0.08, 1.05), ball(0.12, 8, 16).move(0.0, -1.0, 0.72)),
        "roof": box(1.0, 0.8, 0.1).move(0.0, 0.62, 1.24),
        "windows": join(*panes),
        "buffer": join(catcher, cylinder(0.3, 0.06).turn("x", 90).move(0.0, -0.92, 0.72)),
    }


KINDS = (
    Kind(
        "car", _car, "red", {"windows": "cyan", "wheels": "black", "lamps": "yellow"}, slots=("wheels",), has_front=True
    ),
    Kind(
        "rocket",
        _rocket,
        "white",
        {"tip": "red", "fins": "red", "window": "cyan", "engine": "grey"},
        slots=("fins",),
        has_front=True,
        stands=True,
    ),
    Kind(
        "boat",
        _boat,
        "red",
        {"hull": "body", "rail": "brown", "mast": "brown", "sails": "white", "flag": "blue"},
        slots=("sails",),
        synonyms=("sailboat", "sailing boat"),
        has_front=True,
    ),
    Kind(
        "airplane",
        _airplane,
        "white",
        {"wings": "blue", "engines": "grey", "windows": "black"},
        slots=("wings",),
        synonyms=("plane", "aeroplane"),
        has_front=True,
    ),
    Kind(
        "train",
        _train,
        "blue",
        {"wheels": "red", "chimney": "black", "dome": "yellow", "roof": "red", "windows": "cyan", "buffer": "black"},
        slots=("wheels", "roof"),
        synonyms=("locomotive",),
        has_front=True,
    ),
)
