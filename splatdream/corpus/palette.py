"""Colours and surfaces: the adjectives of the corpus and what they look like."""

from dataclasses import dataclass

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.10, 0.10),
    "orange": (0.98, 0.52, 0.08),
    "yellow": (0.97, 0.86, 0.16),
    "green": (0.16, 0.62, 0.20),
    "cyan": (0.22, 0.80, 0.86),
    "blue": (0.12, 0.26, 0.84),
    "purple": (0.50, 0.18, 0.70),
    "pink": (0.97, 0.56, 0.72),
    "brown": (0.45, 0.27, 0.13),
    "black": (0.09, 0.09, 0.10),
    "grey": (0.52, 0.52, 0.53),
    "white": (0.94, 0.94, 0.94),
}
"""sRGB albedo of the twelve colours."""

SURFACES = ("striped", "dotted", "checkered", "shiny", "wooden")
PATTERN = {"plain": 0, "striped": 1, "dotted": 2, "checkered": 3, "wooden": 4, "shiny": 0}
"""How `shade` paints each surface; a shiny one is plain with a highlight."""


@dataclass(frozen=True)
class Paint:
    """The look of one part: a colour by name, a second one for patterns, and a surface ("plain" or a word above)."""

    colour: str
    surface: str = "plain"

    @property
    def second(self) -> str:
        """The other colour of a pattern: white, or black where white would not show."""
        if self.surface == "wooden":
            return self.colour
        return "black" if self.colour in ("white", "yellow", "cyan", "pink", "grey") else "white"

    @property
    def gloss(self) -> float:
        return 0.75 if self.surface == "shiny" else 0.0
