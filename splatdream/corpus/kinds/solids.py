"""The plain solids."""

from splatdream.corpus.objects import Kind, Parts
from splatdream.corpus.shapes import ball, box, cylinder, prism


def _ball() -> Parts:
    return {"body": ball(1.0, 20)}


def _cube() -> Parts:
    return {"body": box(1.2, 1.2, 1.2)}


def _cone() -> Parts:
    return {"body": cylinder(0.75, 1.7, 0.0)}


def _cylinder() -> Parts:
    return {"body": cylinder(0.6, 1.5)}


def _pyramid() -> Parts:
    return {"body": prism([(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)], 1.35, 0.0)}


KINDS = (
    Kind("ball", _ball, "red", synonyms=("sphere",)),
    Kind("cube", _cube, "blue", synonyms=("block",), carries=True),
    Kind("cone", _cone, "orange"),
    Kind("cylinder", _cylinder, "green", carries=True),
    Kind("pyramid", _pyramid, "yellow"),
)
