"""Criteria: what is allowed of a measured number, and the report of how an asset fares by them. Imports no torch.

Measures are numbers by name; a text instead of a number says why it could not be measured.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from math import inf, isfinite
from pathlib import Path
from typing import Any

from splatdream.catalog import choose

Measures = Mapping[str, float | str]


@dataclass(frozen=True)
class Criterion:
    """A number lies from `low` to `high`; an asset is in order when all those that are `required` hold."""

    says: str
    low: float = -inf
    high: float = inf
    required: bool = False

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"the criterion {self.says!r} allows nothing: its low {self.low} is above {self.high}")

    @property
    def limits(self) -> str:
        """ "at most 0", "100 to 2e+06"."""
        if self.low == -inf:
            return f"at most {self.high:g}"
        return f"at least {self.low:g}" if self.high == inf else f"{self.low:g} to {self.high:g}"

    def mark(self, value: float) -> float:
        """How good a value is: 1 at best, one half at a limit, 0 far beyond.

        Between two limits the middle is best; where nothing at all is allowed, any is less than one half.
        """
        if not isfinite(value):
            return 0.0
        if self.high == inf:
            return 1 - 0.5 ** max(0.0, value / self.low) if self.low > 0 else float(value >= self.low)
        if self.low == -inf:
            if self.high <= 0:
                return 1.0 if value <= self.high else 0.5 ** (1 + value - self.high)
            return 0.5 ** max(0.0, value / self.high)
        half = 0.5 * (self.high - self.low)
        return 0.5 ** (abs(value - self.low - half) / half) if half > 0 else float(value == self.low)


@dataclass(frozen=True)
class Finding:
    """One criterion's answer; `value` is None, and `passed` too, where `note` says why nothing was measured."""

    name: str
    criterion: Criterion
    value: float | None
    note: str = ""

    @property
    def passed(self) -> bool | None:
        return None if self.value is None else self.criterion.low <= self.value <= self.criterion.high


@dataclass(frozen=True)
class Report:
    findings: tuple[Finding, ...]
    strict: bool = False

    @property
    def failures(self) -> list[Finding]:
        """What must hold and does not; in a strict report everything that was measured must."""
        return [each for each in self.findings if each.passed is False and (self.strict or each.criterion.required)]

    @property
    def passed(self) -> bool:
        return not self.failures

    @property
    def score(self) -> float:
        """A number from 0 to 1 to choose among assets: the mean of the marks, in the upper half for those that pass."""
        marks = [each.criterion.mark(each.value) for each in self.findings if each.value is not None]
        return 0.5 * self.passed + 0.5 * sum(marks) / max(len(marks), 1)

    def __add__(self, other: "Report") -> "Report":
        return Report(self.findings + other.findings, self.strict or other.strict)

    def table(self) -> dict[str, Any]:
        """The report as plain values for JSON."""
        return {
            "passed": self.passed,
            "strict": self.strict,
            "score": round(self.score, 4),
            "failures": [each.name for each in self.failures],
            "criteria": {each.name: entry(each) for each in self.findings},
        }


def entry(finding: Finding) -> dict[str, Any]:
    criterion, value = finding.criterion, finding.value
    limits = {"low": criterion.low, "high": criterion.high}
    return {
        "passed": finding.passed,
        "value": float(f"{value:.6g}") if value is not None and isfinite(value) else None,
        **{name: limit for name, limit in limits.items() if isfinite(limit)},
        "required": criterion.required,
        "says": criterion.says,
        **({"note": finding.note} if finding.note else {}),
    }


def report(measures: Measures, criteria: Mapping[str, Criterion], *, strict: bool = False) -> Report:
    """Every criterion's finding, in their order. KeyError for one that nothing was measured for."""
    found = []
    for name, criterion in criteria.items():
        value = measures[name]
        told = isinstance(value, str)
        found.append(Finding(name, criterion, None if told else float(value), value if told else ""))
    return Report(tuple(found), strict)


def read_criteria(kind: str, path: str | Path | None = None) -> dict[str, Criterion]:
    """The criteria of one kind ("splats", "meshes", "pictures") in a TOML file, by default the shipped one.

    ValueError for a file that is no such table, or names what is not measured.
    """
    known = read_criteria(kind) if path else None
    path = Path(path) if path else Path(str(files("splatdream_assets"))) / "check.toml"
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        entries = tables[choose(f"table of {path}", kind, list(tables))]
        return {
            choose(f"criterion of {kind}", name, list(known or entries)): Criterion(**of_their_types(values))
            for name, values in entries.items()
        }
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} holds no criteria: {error}") from error


def of_their_types(values: dict[str, Any]) -> dict[str, Any]:
    """A criterion's values as a file has them; TypeError for one of a wrong type, ValueError for an unknown one."""
    number = (int, float), "number"
    kinds = {"says": (str, "text"), "low": number, "high": number, "required": (bool, "true or false")}
    for name, value in values.items():
        kind, called = kinds[choose("key of a criterion", name, list(kinds))]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise TypeError(f"{name} is {value!r}, which is no {called}")
    return values
