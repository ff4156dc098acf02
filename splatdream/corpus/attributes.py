"""What a scene is, without its words: one choice among named values for each of its attributes.

Of two things side by side the first is the one whose kind, then colour, comes first here, not the one that is said
first and stands on the left: most pictures do not tell that, and all tell which colour goes with which kind.
"""

from splatdream.corpus.kinds import KINDS
from splatdream.corpus.palette import COLOURS, SURFACES
from splatdream.corpus.scenes import RELATIONS, Scene, Thing

NONE = "none"
_PARTS = sorted({slot for kind in KINDS.values() for slot in kind.slots})
_OF_A_THING: dict[str, tuple[str, ...]] = {
    "kind": (NONE, *KINDS),
    "colour": (NONE, *COLOURS),
    "surface": (NONE, "plain", *SURFACES),
    "part": (NONE, *_PARTS),
    "part colour": (NONE, *COLOURS),
    "hat": (NONE, *COLOURS),
}
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    **{f"first {name}": values for name, values in _OF_A_THING.items()},
    "relation": (NONE, *RELATIONS),
    "left": (NONE, "first", "second"),
    **{f"second {name}": values for name, values in _OF_A_THING.items()},
}
"""The values that each attribute may have. `NONE` is what a scene lacks: a second thing, a hat, a named part."""


def _numbered(thing: Thing | None) -> list[int]:
    if thing is None:
        return [0] * len(_OF_A_THING)
    part, colour = thing.slot or (NONE, NONE)
    body = thing.colour or KINDS[thing.kind].colour  # what shows, whether the caption says it or not
    chosen = [thing.kind, body, thing.surface or "plain", part, colour, thing.hat or NONE]
    return [values.index(value) for value, values in zip(chosen, _OF_A_THING.values(), strict=True)]


def choices(scene: Scene) -> list[int]:
    """The place of the scene's value among those of each attribute, in their order."""
    first, second = _numbered(scene.subject), _numbered(scene.other)
    left = 0
    if scene.relation == "next to":
        left = 1 if first <= second else 2
        first, second = sorted([first, second])
    return [*first, ATTRIBUTES["relation"].index(scene.relation or NONE), left, *second]
