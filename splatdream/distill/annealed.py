"""Any number of any rule as a schedule: `guidance_scale=15..7.5` passes evenly from 15 to 7.5 over the run."""

from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from splatdream.contracts import Distiller, Gradient, Prior, RuleState, View
from splatdream.timesteps import linear


@dataclass(frozen=True)
class Annealed:
    """The rule whose numbers are those of `first` when the run begins, those of `last` when it ends."""

    first: Any
    last: Any

    def __post_init__(self) -> None:
        if type(self.first) is not type(self.last):
            raise ValueError(f"a rule cannot pass into another kind of rule, from {self.first} to {self.last}")
        for field in fields(self.first):
            if field.name in self.changes() and field.type is not float:
                raise ValueError(f"{field.name} is no number that could pass from one value to another")

    def changes(self) -> dict[str, tuple[Any, Any]]:
        """The options that differ, at both ends."""
        names = [field.name for field in fields(self.first)]
        ends = {name: (getattr(self.first, name), getattr(self.last, name)) for name in names}
        return {name: (first, last) for name, (first, last) in ends.items() if first != last}

    def at(self, progress: float) -> Distiller:
        """The rule of this moment."""
        return replace(self.first, **{name: linear(ends, progress) for name, ends in self.changes().items()})

    @property
    def needs_negative_prompt(self) -> bool:
        """Whether it does at either end, and so on the way between them."""
        return any(getattr(rule, "needs_negative_prompt", False) for rule in (self.first, self.last))

    def init(self, prior: Prior, generator: torch.Generator) -> RuleState:
        return self.first.init(prior, generator)

    def __call__(
        self, view: View, prior: Prior, state: RuleState, generator: torch.Generator
    ) -> tuple[Gradient, RuleState]:
        return self.at(view.progress)(view, prior, state, generator)

    def __getattr__(self, name: str) -> Any:
        """What else a rule says of itself, such as the words that it asks about."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.first, name)
