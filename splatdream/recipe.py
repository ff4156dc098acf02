"""Recipe: everything that decides a result, as plain values, readable from and writable to TOML. Imports no torch."""

import math
import tomllib
from dataclasses import asdict, dataclass, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from splatdream.catalog import CATALOG, choose, parse

QUALITIES = ("draft", "normal", "high")
MOVED = {"t_min": "low", "t_max": "high"}
"""Keys of earlier recipes that have become options of `timesteps`."""
FALLING = ("lr_means", "lr_colours", "lr_scales", "lr_quats", "lr_opacities")
"""Rates of the first and of the last step; all but the first were one number in earlier recipes."""


@dataclass(frozen=True)
class Recipe:
    """Lengths are in units of the object's radius; fractions of the run or of the noise range lie in [0, 1]."""

    prompt: str
    negative_prompt: str = ""
    seed: int = 0
    steps: int = 400
    inner_steps: int = 3  # optimiser steps towards the same target pictures, for rules that give them
    views: int = 4
    size: int = 0  # pixels; 0 takes the prior's own
    coarse_size: int = 64  # pixels, until `coarse_until` of the run
    coarse_until: float = 0.0
    prior: str = "auto"
    renderer: str = "auto"
    device: str = "auto"
    clip_value: tuple[float, float] = (0.0, 0.0)  # largest number in a rule's gradient, first and last step; 0: none
    clip_rms: tuple[float, float] = (0.0, 0.0)  # largest root mean square of a view's gradient, likewise
    distill: str = "sdedit:guidance_scale=5..1.5"
    init: str = "sphere"
    count: int = 3000  # Gaussians to begin with; a splat brings its own number
    densify: str = "fixed"
    view_words: str = "named"  # what the prompt says of each view: "none", "named" or a form of Perp-Neg
    guidance_rescale: float = 0.0  # how far guidance is held to the spread of the prompt's own answer
    timesteps: str = "linear:low=0.5..0.1,high=0.98..0.7"  # noise levels asked about: a law or a published ladder
    lr_means: tuple[float, float] = (0.02, 0.004)  # first and last step, exponential in between
    lr_colours: tuple[float, float] = (0.04, 0.04)
    lr_scales: tuple[float, float] = (0.02, 0.02)
    lr_quats: tuple[float, float] = (0.01, 0.01)
    lr_opacities: tuple[float, float] = (0.1, 0.1)
    lr_until: float = 1.0  # the part of the run in which the rates fall
    largest_scale: float = 0.15  # widest standard deviation that a Gaussian may grow to; 0: any
    elevation: tuple[float, float] = (-15.0, 75.0)  # degrees
    distance: tuple[float, float] = (3.2, 3.6)
    fov: tuple[float, float] = (38.0, 42.0)  # degrees, vertical
    background: tuple[float, float] = (0.25, 1.0)  # range of greys behind the object
    background_tint: float = 0.08  # largest deviation of a channel from that grey
    shading: float = 0.0  # share of the views that are shown under a random lamp
    weight_opacity: float = 0.0  # regulariser: opacities towards 0 or 1
    weight_scale: float = 0.0  # regulariser: mean scale
    weight_anisotropy: float = 0.0  # regulariser: needles
    weight_position: float = 100.0  # regulariser: inside the unit ball
    weight_smooth: float = 0.0  # regulariser: total variation of depth
    weight_variance: float = 0.0  # regulariser: variance of depth along each ray, by a second render
    weight_normals: float = 0.0  # regulariser: variation of the normals of that depth
    weight_consistency: float = 0.0  # regulariser: each surface point's colour in a second render, a little to the side

    def __post_init__(self) -> None:
        """ValueError with the key, the value and what is allowed."""
        if not self.prompt.strip():
            raise ValueError("the prompt is empty: say what to make, as in 'a red mug'")
        for text in (self.prompt, self.negative_prompt):
            if not text.isascii() and text.encode("utf-8", "replace").decode() != text:
                raise ValueError(f"the prompt {text!r} holds bytes that are no UTF-8 text")
        least = {"steps": 1, "inner_steps": 1, "views": 1, "count": 2, "coarse_size": 1, "size": 0}
        for name, lowest in least.items():
            if getattr(self, name) < lowest:
                raise ValueError(f"{name} must be at least {lowest}; got {getattr(self, name)}")
        if not -(2**63) <= self.seed < 2**63:
            raise ValueError(f"seed must be a number of 64 bits; got {format(self.seed, 'd')[:30]}")
        for field in fields(self):
            value = getattr(self, field.name)
            numbers = value if isinstance(value, tuple) else (value,)
            if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
                raise ValueError(f"{field.name} must be finite; got {value}")
            if field.name.startswith(("lr_", "weight_")) and min(numbers) < 0:
                raise ValueError(f"{field.name} must not be negative; got {value}")
            if field.name in FALLING and len(numbers) != 2:
                raise ValueError(
                    f"{field.name} is the rate of the first and of the last step, as (0.1, 0.1); got {value}"
                )
            if field.name in FALLING and 0.0 in numbers and any(numbers):
                raise ValueError(f"{field.name} falls by equal factors, so one end alone cannot be 0; got {value}")
        for name in ("coarse_until", "background_tint", "shading", "guidance_rescale"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must lie within 0..1; got {getattr(self, name)}")
        if self.largest_scale < 0.0:
            raise ValueError(f"largest_scale is above 0, or 0 for any; got {self.largest_scale}")
        if not 0.0 < self.lr_until <= 1.0:
            raise ValueError(f"lr_until must lie above 0 and within 1; got {self.lr_until}")
        for name in ("clip_value", "clip_rms"):
            ends = getattr(self, name)
            if min(ends) < 0.0 or (0.0 in ends and ends != (0.0, 0.0)):
                raise ValueError(f"{name} is above 0 at both ends, or 0 at both for no limit; got {ends}")
        limits = {"elevation": (-90.0, 90.0), "distance": (1.05, 100.0), "fov": (1.0, 150.0), "background": (0.0, 1.0)}
        for name, (low, high) in limits.items():
            first, last = getattr(self, name)
            if not low <= first <= last <= high:
                raise ValueError(f"{name} is LOW..HIGH within {low}..{high}; got {first}..{last}")

    def replace(self, **changes: Any) -> "Recipe":
        return replace(self, **changes)

    def set(self, assignments: list[str]) -> "Recipe":
        """With "key=value" texts applied. ValueError for an unknown key or a bad value."""
        changes = {}
        for assignment in assignments:
            key, equals, text = (piece.strip() for piece in assignment.partition("="))
            if key in MOVED:
                raise ValueError(
                    f"{key} is an option of timesteps now: write --set timesteps=linear:{MOVED[key]}={text}"
                )
            choose("recipe key", key, keys())
            if not equals:
                raise ValueError(f"write --set {key}=VALUE")
            changes[key] = parse(text, getattr(self, key), key)
        return replace(self, **changes)

    def to_toml(self) -> str:
        return "".join(f"{name} = {_toml(value)}\n" for name, value in asdict(self).items())

    @classmethod
    def from_toml(cls, path: str | Path, **changes: Any) -> "Recipe":
        """The recipe in a file; `changes` win. ValueError where the file is no recipe."""
        try:
            table = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))  # Windows editors add a mark
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not a TOML file: {error}") from error
        return cls.from_table(table, path, **changes)

    @classmethod
    def from_table(cls, table: dict[str, Any], source: str | Path, **changes: Any) -> "Recipe":
        """The recipe of parsed TOML or JSON, of this version or an earlier one; `source` is named in errors."""
        table = modern(table, source)
        for key in table:
            choose(f"recipe key in {source}", key, keys())
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in table.items()} | changes
        if "prompt" not in values:
            raise ValueError(f'{source} has no prompt; add prompt = "..." or give one on the command line')
        defaults = {field.name: field.default for field in fields(cls)}
        for key, value in values.items():
            values[key] = _checked(key, value, defaults[key] if key != "prompt" else "")
        return cls(**values)


def keys() -> list[str]:
    return [field.name for field in fields(Recipe)]


def modern(table: dict[str, Any], source: str | Path) -> dict[str, Any]:
    """The table of an earlier version's recipe in today's keys and values."""
    if set(keys()) - set(table) == {"largest_scale"}:
        table = table | {"largest_scale": 0.0}  # a run's record names every key, and widths had no bound then
    if isinstance(table.get("view_words"), bool):
        table = table | {"view_words": "named" if table["view_words"] else "none"}
    table = table | {key: [table[key]] * 2 for key in FALLING[1:] if isinstance(table.get(key), int | float)}
    old = {key: value if isinstance(value, list) else [value] for key, value in table.items() if key in MOVED}
    if not old:
        return table
    if "timesteps" in table:
        raise ValueError(
            f"{source} gives timesteps and, from earlier recipes, {' and '.join(old)}; leave out the latter"
        )
    options = [f"{MOVED[key]}={'..'.join(map(str, ends))}" for key, ends in old.items()]
    kept = {key: value for key, value in table.items() if key not in old}
    return kept | {"timesteps": f"linear:{','.join(options)}"}


def preset(quality: str, prompt: str, **changes: Any) -> Recipe:
    """One dial for the whole recipe: "draft", "normal" or "high"; `changes` win."""
    return shipped(choose("quality", quality, list(QUALITIES)), prompt, **changes)


def shipped(name: str, prompt: str, **changes: Any) -> Recipe:
    """A recipe that ships, by its name; `changes` win. ValueError that lists the names for any other."""
    return Recipe.from_toml(shipped_file(name), prompt=prompt, **changes)


def shipped_file(name: str) -> Path:
    """Where it lies, with the source of every number. ValueError likewise."""
    choose("recipe", name, list(CATALOG["recipe"]))
    return Path(str(files("splatdream_assets"))) / "recipes" / f"{name}.toml"


def _checked(key: str, value: Any, like: Any) -> Any:
    """A value from a file with the type of the recipe's own; whole numbers serve as floats."""
    if isinstance(like, tuple):
        if not isinstance(value, tuple) or len(value) != len(like):
            raise ValueError(f"{key} is a list of {len(like)} numbers, like {list(like)}; got {value!r}")
        return tuple(_checked(key, item, like[0]) for item in value)
    if isinstance(like, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(like):
        raise ValueError(f"{key} is a {type(like).__name__}, like {like!r}; got {value!r}")
    return value


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'
    return repr(value)
