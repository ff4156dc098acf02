"""Wrong captions for a scene: some from other scenes, some that differ by one word or swap two colours."""

from dataclasses import replace

import numpy as np

from splatdream.corpus.captions import caption, random_scene
from splatdream.corpus.kinds import KINDS
from splatdream.corpus.palette import COLOURS, SURFACES
from splatdream.corpus.scenes import RELATIONS, Scene, Thing


def _other(value: str, choices, rng: np.random.Generator) -> str:
    return str(rng.choice([choice for choice in choices if choice != value]))


def _thing_edits(thing: Thing, rng: np.random.Generator) -> list[Thing]:
    """One edit for each word of the thing that can be exchanged."""
    kind = KINDS[thing.kind]
    fitting = [
        name
        for name, other in KINDS.items()
        if (not thing.hat or other.head) and (not thing.slot or thing.slot[0] in other.slots)
    ]
    edits = [replace(thing, kind=_other(thing.kind, fitting, rng))] if len(fitting) > 1 else []
    if thing.colour:
        edits.append(replace(thing, colour=_other(thing.colour, COLOURS, rng)))
    if thing.surface:
        edits.append(replace(thing, surface=_other(thing.surface, SURFACES, rng)))
    if thing.hat:
        edits.append(replace(thing, hat=_other(thing.hat, COLOURS, rng)))
    if thing.slot:
        edits.append(replace(thing, slot=(thing.slot[0], _other(thing.slot[1], COLOURS, rng))))
    body = thing.colour or kind.colour
    if thing.hat and thing.hat != body:
        edits.append(replace(thing, colour=thing.hat, hat=body))
    return edits


def near_scenes(scene: Scene, rng: np.random.Generator) -> list[Scene]:
    """Scenes that differ in one word, or in which two colours have changed places; their captions differ too."""
    edits = [replace(scene, subject=thing) for thing in _thing_edits(scene.subject, rng)]
    if scene.other is not None:
        edits += [replace(scene, other=thing) for thing in _thing_edits(scene.other, rng)]
        edits.append(replace(scene, relation=_other(scene.relation or "", RELATIONS, rng)))
        one, two = scene.subject.colour, scene.other.colour
        if one and two and one != two:
            swapped = replace(scene.subject, colour=two), replace(scene.other, colour=one)
            edits.append(replace(scene, subject=swapped[0], other=swapped[1]))
    return edits


def _bag(words: str) -> list[str]:
    """The words without their order and articles: equal for captions that differ by a swap."""
    return sorted(word for word in words.split() if word not in ("a", "an"))


def distractors(scene: Scene, count: int, rng: np.random.Generator) -> list[str]:
    """`count` captions that are wrong for the scene, half of them near ones, all swaps of colours among these."""
    right = caption(scene)
    near: dict[str, None] = {}
    for _ in range(60):
        near.update(dict.fromkeys(caption(edit) for edit in near_scenes(scene, rng)))
    near.pop(right, None)
    swapped = [words for words in near if _bag(words) == _bag(right)]
    others = [str(words) for words in rng.permutation([words for words in near if words not in swapped])]
    chosen = (swapped + others)[: count - count // 2]
    while len(chosen) < count:
        words = caption(random_scene(rng))
        if words != right and words not in chosen:
            chosen.append(words)
    return chosen
