"""Captions: the words for a scene, and random scenes to write them for."""

from collections.abc import Sequence

import numpy as np

from splatdream.corpus.kinds import KINDS
from splatdream.corpus.palette import COLOURS, SURFACES
from splatdream.corpus.scenes import RELATIONS, Scene, Thing

PREFIXES = ("", "", "", "a photo of ", "a picture of ", "a 3d model of ", "a rendering of ")
ARTICLES = ("a", "a", "a", "a", "the", "one", "")
WEARING = ("with", "wearing")
ON_TOP = ("on top of", "on top of", "on", "standing on")
NEXT_TO = ("next to", "next to", "beside")
VIEWS = ("front", "side", "back", "overhead")
DEGRADATIONS = ("blurry", "oversaturated", "noisy", "dark", "malformed", "low quality", "ugly")


def with_article(phrase: str, article: str = "a") -> str:
    if article == "a" and phrase[0] in "aeiou":
        article = "an"
    return f"{article} {phrase}".strip()


def coloured_part(part: str, colour: str) -> str:
    """ "a blue roof", "blue legs"."""
    return f"{colour} {part}" if part.endswith("s") else with_article(f"{colour} {part}")


def thing_phrase(thing: Thing, rng: np.random.Generator | None = None) -> str:
    """The words for one thing: canonical without `rng`, else with random synonyms, articles and word order."""
    kind = KINDS[thing.kind]
    noun, article, wearing, adjectives = thing.kind, "a", "with", [thing.surface, thing.colour]
    if rng is not None:
        noun = str(rng.choice([thing.kind, thing.kind, *kind.synonyms]))
        article, wearing = str(rng.choice(ARTICLES)), str(rng.choice(WEARING))
        adjectives = adjectives[::-1] if rng.random() < 0.3 else adjectives
    phrase = with_article(" ".join([*filter(None, adjectives), noun]), article)
    if thing.slot:
        phrase += f" with {coloured_part(*thing.slot)}"
    if thing.hat:
        phrase += f" {'and' if thing.slot else wearing} {coloured_part('hat', thing.hat)}"
    return phrase


def caption(scene: Scene, rng: np.random.Generator | None = None) -> str:
    """The caption of a scene: the one canonical form without `rng`, else one of its free forms."""
    words = thing_phrase(scene.subject, rng)
    if scene.other is not None and scene.relation is not None:
        forms = ON_TOP if scene.relation == "on top of" else NEXT_TO
        relation = scene.relation if rng is None else str(rng.choice(forms))
        words += f" {relation} {thing_phrase(scene.other, rng)}"
    return words if rng is None else str(rng.choice(PREFIXES)) + words


def random_thing(
    rng: np.random.Generator, kinds: Sequence[str] | None = None, *, plain: bool = False, coloured: float = 0.8
) -> Thing:
    """A thing of one of `kinds`; a `plain` one has at most a colour."""
    name = str(rng.choice(list(kinds or KINDS)))
    kind = KINDS[name]
    colour = str(rng.choice(list(COLOURS))) if rng.random() < coloured else None
    if plain:
        return Thing(name, colour)
    surface = str(rng.choice(SURFACES)) if rng.random() < 0.22 else None
    has_slot = kind.slots and rng.random() < 0.3
    slot = (str(rng.choice(kind.slots)), str(rng.choice(list(COLOURS)))) if has_slot else None
    hat = str(rng.choice(list(COLOURS))) if kind.head and rng.random() < 0.5 else None
    return Thing(name, colour, surface, slot, hat)


def random_scene(rng: np.random.Generator, kinds: Sequence[str] = tuple(KINDS)) -> Scene:
    """Any scene of things of these kinds, held out or not: half of them one thing, half of them two."""
    dice = rng.random()
    if dice < 0.55:
        return Scene(random_thing(rng, kinds))
    carriers = [name for name in kinds if KINDS[name].carries]
    riders = [name for name in kinds if KINDS[name].stands]
    if dice < 0.8 and carriers and riders:
        subject = random_thing(rng, riders, plain=rng.random() < 0.7)
        return Scene(subject, RELATIONS[0], random_thing(rng, carriers, plain=True))
    left, right = (random_thing(rng, kinds, plain=rng.random() < 0.7) for _ in range(2))
    return Scene(left, RELATIONS[1], right)


def training_scene(rng: np.random.Generator, kinds: Sequence[str] = tuple(KINDS)) -> Scene:
    """A random scene that the held-out rule leaves to training."""
    while True:
        scene = random_scene(rng, kinds)
        if not scene.held_out():
            return scene


def vocabulary(kinds: Sequence[str] = tuple(KINDS)) -> tuple[str, ...]:
    """Every word of every caption about these kinds, sorted."""
    phrases = [*PREFIXES, *ARTICLES, "an", *WEARING, *ON_TOP, *NEXT_TO, *VIEWS, "view", *DEGRADATIONS, "and", "hat"]
    phrases += [*COLOURS, *SURFACES, *RELATIONS]
    for name in kinds:
        phrases += [name, *KINDS[name].synonyms, *KINDS[name].slots]
    return tuple(sorted({word for phrase in phrases for word in phrase.split()}))
