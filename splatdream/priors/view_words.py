"""How a view is put into words: the suffixes of DreamFusion, and Perp-Neg's mixtures with words to turn away from.

Options are degrees, as at the command line; azimuths and elevations are radians, as everywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import degrees, exp, inf, radians

from splatdream.cameras import from_front, view_word

STRONGEST = 1000.0
"""The largest weight of words to turn away from: larger ones overflow."""


@dataclass(frozen=True)
class Wording:
    """Of one view: shares of the words whose embeddings are mixed, and words to turn away from with weights below 0.

    "side" stands for the prompt with ", side view" behind it and "" for the prompt alone.
    """

    shares: dict[str, float]
    negatives: dict[str, float] = field(default_factory=dict)


ViewWords = Callable[[float, float], Wording]
"""What a view of this azimuth and elevation is called."""


@dataclass(frozen=True)
class NoWords:
    """The prompt as it is, whatever the view."""

    def __call__(self, azimuth: float, elevation: float) -> Wording:
        return Wording({"": 1.0})


@dataclass(frozen=True)
class Named:
    """One word a view: front and back so far to either side, overhead above so much (DreamFusion, section 3.2)."""

    front: float = 45.0
    back: float = 45.0
    overhead: float = 60.0

    def __post_init__(self) -> None:
        if not (0.0 <= self.front <= 180.0 - self.back <= 180.0 and -90.0 <= self.overhead <= 90.0):
            raise ValueError(
                "named views need front and back of at least 0 and at most 180 degrees together, and overhead within "
                f"-90..90; got {self.front:g}, {self.back:g} and {self.overhead:g}"
            )

    def __call__(self, azimuth: float, elevation: float) -> Wording:
        front, back, overhead = radians(self.front), radians(self.back), radians(self.overhead)
        return Wording({view_word(azimuth, elevation, front=front, back=back, overhead=overhead): 1.0})


NAMED = Named()


@dataclass(frozen=True)
class PerpNeg:
    """The authors' weights (Armandpour et al. 2023, as in stable-dreamfusion).

    From the side a view turns away from the front with the whole `weight`, towards the front and towards the back with
    less. Above `overhead` it is only named.
    """

    weight: float = -2.0
    front_decay: float = 2.0
    side_decay: float = 10.0
    overhead: float = 60.0

    def __post_init__(self) -> None:
        decays = (self.front_decay, self.side_decay)
        if not (-STRONGEST <= self.weight <= 0.0 <= min(decays) <= max(decays) < inf):
            raise ValueError(
                f"perp-neg needs a weight within {-STRONGEST:g}..0 and decays of at least 0; "
                f"got {self.weight:g}, {self.front_decay:g} and {self.side_decay:g}"
            )

    def __call__(self, azimuth: float, elevation: float) -> Wording:
        if degrees(elevation) > self.overhead:
            return Wording({"overhead": 1.0})
        first, last, r = between(azimuth)
        if first == "front":
            front = 0.0 if r > 0.8 else self.weight * exp(-self.front_decay * r)
            side = 0.0 if r < 0.2 else self.weight * exp(-self.side_decay * (1.0 - r))
        else:
            front = self.weight
            side = 0.0 if r > 0.8 else 0.5 * self.weight * exp(-self.side_decay * r)
        return Wording({first: r, last: 1.0 - r}, {"front": front, "side": side})


@dataclass(frozen=True)
class PerpNegThreestudio:
    """threestudio's weights -f(r), f(r) = a exp(-b r) + c, with (a, b, c) for each pair of neighbouring views.

    `fs` turns from the front and `sf` from the side between the two, `sb` from the side and `fsb` from the front
    between side and back. Above `overhead` a view is only named.
    """

    fs: tuple[float, float, float] = (4.0, 0.5, -2.426)
    sf: tuple[float, float, float] = (4.0, 0.5, -2.426)
    sb: tuple[float, float, float] = (1.0, 0.5, -0.606)
    fsb: tuple[float, float, float] = (1.0, 0.5, 0.967)
    overhead: float = 60.0

    def __post_init__(self) -> None:
        for name in ("fs", "sf", "sb", "fsb"):
            a, b, c = coefficients = getattr(self, name)
            if not (b >= 0.0 and all(0.0 <= decay(coefficients, r) <= STRONGEST for r in (0.0, 1.0))):
                raise ValueError(
                    f"{name} of perp-neg-threestudio needs a decay of at least 0 and a exp(-b r) + c within "
                    f"0..{STRONGEST:g} for r from 0 to 1; got {a:g}, {b:g} and {c:g}"
                )

    def __call__(self, azimuth: float, elevation: float) -> Wording:
        if degrees(elevation) > self.overhead:
            return Wording({"overhead": 1.0})
        first, last, r = between(azimuth)
        if first == "front":
            front, side = decay(self.fs, r), decay(self.sf, 1.0 - r)
        else:
            front, side = decay(self.fsb, r), decay(self.sb, r)
        return Wording({first: r, last: 1.0 - r}, {"front": -front, "side": -side})


def between(azimuth: float) -> tuple[str, str, float]:
    """The named views on either side of this one, and the share of the first, which falls from 1 to 0."""
    quarters = degrees(from_front(azimuth)) / 90.0
    return ("front", "side", 1.0 - quarters) if quarters < 1.0 else ("side", "back", 2.0 - quarters)


def decay(coefficients: tuple[float, float, float], r: float) -> float:
    a, b, c = coefficients
    return a * exp(-b * r) + c
