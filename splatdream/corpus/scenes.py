"""Scenes: what a caption says, as data, and the one solid that it names."""

from dataclasses import dataclass
from functools import cache
from zlib import crc32

import numpy as np

from splatdream.corpus.kinds import KINDS
from splatdream.corpus.objects import Painted, Parts, bounds, normalised, placed, solid
from splatdream.corpus.palette import Paint
from splatdream.corpus.shapes import Mesh, cylinder, join
from splatdream.corpus.truth import Solid

RELATIONS = ("on top of", "next to")
HELD_OUT_SHARE = 10
"""One in so many pairs (kind and colour, kind and surface, ...) is kept from training."""


@dataclass(frozen=True)
class Thing:
    """One thing: None means that the caption does not say. `hat` is the colour of the hat that it wears."""

    kind: str
    colour: str | None = None
    surface: str | None = None
    slot: tuple[str, str] | None = None  # (part, colour)
    hat: str | None = None

    def pairs(self) -> list[str]:
        """The combinations that this thing is made of, as the held-out rule counts them."""
        named = {"colour": self.colour, "surface": self.surface, "hat": self.hat}
        pairs = [f"{self.kind} {what} {value}" for what, value in named.items() if value]
        return pairs + ([f"{self.kind} {self.slot[0]} {self.slot[1]}"] if self.slot else [])


@dataclass(frozen=True)
class Scene:
    """A thing, alone or in relation to another: `subject` on top of, or next to, `other`."""

    subject: Thing
    relation: str | None = None
    other: Thing | None = None

    @property
    def things(self) -> tuple[Thing, ...]:
        return (self.subject,) if self.other is None else (self.subject, self.other)

    def pairs(self) -> list[str]:
        pairs = [pair for thing in self.things for pair in thing.pairs()]
        if self.other is not None:
            pairs.append(f"{self.subject.kind} {self.relation} {self.other.kind}")
        return pairs

    def held_out(self) -> bool:
        """Whether training never sees this scene: a fixed rule on the words alone."""
        return any(pair_held_out(pair) for pair in self.pairs())

    def has_front(self) -> bool:
        return any(KINDS[thing.kind].has_front for thing in self.things)


def pair_held_out(pair: str) -> bool:
    """The deterministic tenth of all pairs; plain "kind colour default" pairs have no text and are never held out."""
    return crc32(pair.encode()) % HELD_OUT_SHARE == 0


def _hat(radius: float) -> Mesh:
    brim = cylinder(1.55 * radius, 0.22 * radius)
    return join(brim, cylinder(0.95 * radius, 1.5 * radius, 0.88 * radius).move(z=0.2 * radius))


@cache
def _parts(kind: str) -> Parts:
    """The bare parts of a kind, built once: nothing changes a mesh in place, and looks come on top."""
    return KINDS[kind].build()


def painted(thing: Thing) -> list[Painted]:
    """The thing's parts with their looks, in the unit sphere."""
    kind = KINDS[thing.kind]
    parts = []
    for name, mesh in _parts(thing.kind).items():
        colour = kind.paints.get(name, "body")
        is_body = colour == "body"
        if is_body:
            colour = thing.colour or kind.colour
        if thing.slot and thing.slot[0] == name:
            colour, is_body = thing.slot[1], False
        parts.append(Painted(name, mesh, Paint(colour, thing.surface if is_body and thing.surface else "plain")))
    if thing.hat:
        if kind.head is None:
            raise ValueError(f"a {thing.kind} has no head to wear a hat on")
        x, y, z, radius = kind.head
        parts.append(Painted("hat", _hat(radius).move(x, y, z), Paint(thing.hat)))
    return normalised(parts)


def build(scene: Scene) -> Solid:
    """The scene's object in the unit sphere. The subject stands on the other thing, or to its left as seen in front."""
    subject = painted(scene.subject)
    if scene.other is None:
        return solid(subject)
    other = painted(scene.other)
    low, high = bounds(subject)
    other_low, other_high = bounds(other)
    if scene.relation == "on top of":
        width = max(high[0] - low[0], high[1] - low[1])
        room = min(other_high[0] - other_low[0], other_high[1] - other_low[1])
        factor = float(np.clip(0.95 * room / width, 0.55, 0.9))
        return solid(other + placed(subject, factor, 0.0, 0.0, float(other_high[2] - factor * low[2])))
    gap = 0.12
    return solid(
        placed(subject, 1.0, float(-gap - high[0]), 0.0, float(-low[2]))
        + placed(other, 1.0, float(gap - other_low[0]), 0.0, float(-other_low[2]))
    )
