"""Things in a house."""

import numpy as np

from splatdream.corpus.objects import Kind, Parts
from splatdream.corpus.shapes import Mesh, arc, ball, box, cylinder, join, lathe, tube


def _mug() -> Parts:
    wall = [(0.0, 0.0), (0.58, 0.0), (0.64, 0.06), (0.66, 1.25), (0.58, 1.25), (0.55, 0.12), (0.0, 0.12)]
    handle = tube([(0.62 + 0.42 * x, 0.0, 0.65 + 0.36 * z) for x, z in arc(1.0, -95, 95, 16)], 0.09)
    return {"body": lathe(wall), "handle": handle}


def _table() -> Parts:
    leg = box(0.16, 0.16, 0.85)
    legs = [leg.move(x, y, 0.0) for x in (-0.68, 0.68) for y in (-0.43, 0.43)]
    return {"top": box(1.7, 1.2, 0.16).move(z=0.85), "legs": join(*legs)}


def _chair() -> Parts:
    leg = box(0.14, 0.14, 0.6)
    legs = [leg.move(x, y, 0.0) for x in (-0.35, 0.35) for y in (-0.35, 0.35)]
    back = join(box(0.86, 0.12, 0.85).move(y=0.38, z=0.72))
    return {"seat": box(0.86, 0.86, 0.14).move(z=0.6), "back": back, "legs": join(*legs)}


def _lamp() -> Parts:
    base = lathe([(0.0, 0.0), (0.42, 0.0), (0.42, 0.08), (0.2, 0.16), (0.36, 0.45), (0.36, 0.62), (0.22, 0.85),
                  (0.09, 0.98), (0.09, 1.3), (0.0, 1.3)])  # fmt: skip
    shade = lathe([(0.68, 1.12), (0.74, 1.12), (0.42, 1.9), (0.36, 1.9), (0.68, 1.12)])
    return {"base": base, "shade": shade, "bulb": ball(0.2, 8, 16).move(z=1.6)}


def _bottle() -> Parts:
    glass = lathe([(0.0, 0.0), (0.38, 0.0), (0.42, 0.05), (0.42, 1.1), (0.38, 1.25), (0.2, 1.5), (0.15, 1.65),
                   (0.14, 2.0), (0.0, 2.0)])  # fmt: skip
    cap = join(cylinder(0.18, 0.22, segments=24).move(z=1.96), cylinder(0.19, 0.07, segments=24).move(z=1.8))
    return {"glass": glass, "label": cylinder(0.435, 0.5).move(z=0.35), "cap": cap}


def _teapot() -> Parts:
    pot = lathe([(0.0, 0.0), (0.42, 0.0), (0.45, 0.06), *[(0.72 * x, 0.62 + 0.56 * z) for x, z in arc(1, -68, 62, 14)],
                 (0.0, 1.12)])  # fmt: skip
    spout = tube([(0.5, 0.0, 0.45), (0.8, 0.0, 0.58), (0.96, 0.0, 0.82), (1.14, 0.0, 1.1)], [0.24, 0.18, 0.13, 0.1])
    handle = tube([(-0.6 + 0.45 * x, 0.0, 0.68 + 0.38 * z) for x, z in arc(1.0, 80, 280, 16)], 0.085)
    lid = lathe([(0.0, 1.08), (0.4, 1.08), (0.4, 1.14), (0.3, 1.24), (0.0, 1.3)])
    return {"pot": join(pot, spout), "handle": handle, "lid": join(lid, ball(0.12, 8, 16).move(z=1.38))}


def _bed() -> Parts:
    posts = [box(0.14, 0.14, 0.6).move(x, -1.0, 0.0) for x in (-0.63, 0.63)]
    head = join(box(1.4, 0.12, 0.75).move(y=1.0, z=0.12), *[box(0.14, 0.14, 1.0).move(x, 1.0) for x in (-0.63, 0.63)])
    foot = join(box(1.4, 0.12, 0.3).move(y=-1.0, z=0.18), *posts)
    pillow = ball(1.0, 10, 20).stretch(0.46, 0.24, 0.14).move(0.0, 0.68, 0.72)
    return {
        "frame": join(head, foot, box(1.3, 1.95, 0.16).move(z=0.2)),
        "mattress": box(1.2, 1.88, 0.3).move(z=0.34),
        "pillow": pillow,
        "blanket": box(1.3, 1.3, 0.36).move(0.0, -0.28, 0.34),
    }


def _scalloped(mesh: Mesh, panels: int) -> Mesh:
    """A dome's rim lifted between its `panels` ribs, as cloth is."""
    x, y = mesh.vertices[:, 0], mesh.vertices[:, 1]
    between = 0.5 - 0.5 * np.cos(panels * np.arctan2(y, x))
    lift = 0.2 * between * (x * x + y * y)
    return Mesh(mesh.vertices + np.stack([0.0 * x, 0.0 * x, lift], axis=1), mesh.normals, mesh.faces)


def _umbrella() -> Parts:
    outer = [(x, 0.66 * z) for x, z in arc(1.0, 0, 90, 9)]
    inner = [(0.95 * x, 0.6 * z) for x, z in reversed(arc(1.0, 0, 90, 9))]
    panel = lathe(inner + outer, 64)
    shaft = tube([(0.0, 0.0, -1.1), (0.0, 0.0, 0.78)], 0.06, 10)
    hook = tube([(0.2 + 0.2 * x, 0.0, -1.1 + 0.2 * z) for x, z in arc(1.0, 180, 360, 10)], 0.07, 10)
    return {"canopy": _scalloped(panel, 8), "shaft": shaft, "handle": hook}


KINDS = (
    Kind("mug", _mug, "white", {"handle": "body"}, slots=("handle",), synonyms=("cup",), carries=False),
    Kind("table", _table, "brown", {"top": "body", "legs": "body"}, slots=("legs",), carries=True),
    Kind("chair", _chair, "brown", {"seat": "body", "back": "body", "legs": "body"}, slots=("legs",), has_front=True),
    Kind("lamp", _lamp, "blue", {"base": "body", "shade": "yellow", "bulb": "white"}, slots=("shade",)),
    Kind("bottle", _bottle, "green", {"glass": "body", "label": "white", "cap": "red"}, slots=("label", "cap")),
    Kind("teapot", _teapot, "blue", {"pot": "body", "handle": "body", "lid": "body"}, slots=("lid", "handle")),
    Kind(
        "bed",
        _bed,
        "blue",
        {"frame": "brown", "mattress": "white", "pillow": "white", "blanket": "body"},
        slots=("pillow", "frame"),
        has_front=True,
    ),
    Kind(
        "umbrella",
        _umbrella,
        "red",
        {"canopy": "body", "shaft": "grey", "handle": "brown"},
        slots=("handle",),
        stands=False,
    ),
)
