"""One Adam per stored parameter of a cloud of Gaussians; the moments move with the rows.

Written out instead of taken from `torch.optim`, because densification moves rows: a row's moments belong to the
Gaussian, not to its place in the tensor. Everything is explicit and functional: `step` and `take` return new states.
N Gaussians before a move of rows, M after it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from math import sqrt

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from splatdream.splats import Splats

Tensors = tuple[Tensor, ...]


@dataclass(frozen=True)
class SplatOptimiser:
    """Adam (Kingma & Ba 2015, algorithm 1) with a learning rate, a step count and two moments per parameter."""

    learning_rates: dict[str, float]
    steps: dict[str, int]
    exp_avg: dict[str, Tensor]
    exp_avg_sq: dict[str, Tensor]
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-15

    @classmethod
    def init(
        cls,
        splats: Splats,
        learning_rates: dict[str, float],
        *,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-15,
    ) -> "SplatOptimiser":
        """Zero moments for every parameter. ValueError unless there is a rate for each of them and no other."""
        names = splats.parameters()
        check_names(learning_rates, names)
        missing = [name for name in names if name not in learning_rates]
        if missing:
            raise ValueError(f"no learning rate for {', '.join(missing)}; 0.0 freezes a parameter")
        zeros = splats.detach().map(torch.zeros_like).parameters()
        return cls(
            learning_rates={name: float(learning_rates[name]) for name in names},
            steps=dict.fromkeys(names, 0),
            exp_avg=zeros,
            exp_avg_sq={name: value.clone() for name, value in zeros.items()},
            betas=betas,
            eps=eps,
        )

    def __len__(self) -> int:
        return len(self.exp_avg["means"])

    def with_learning_rates(self, **learning_rates: float) -> "SplatOptimiser":
        """The same moments with some rates changed, as a schedule does before each step."""
        check_names(learning_rates, self.learning_rates)
        return replace(self, learning_rates=self.learning_rates | learning_rates)

    def step(
        self, splats: Splats, gradients: dict[str, Tensor | None] | None = None
    ) -> tuple[Splats, "SplatOptimiser"]:
        """The cloud one step further, detached, and the new moments.

        Gradients are read from the leaves' `.grad` unless given; a parameter whose gradient is None stays as it is,
        moments and step count too. FloatingPointError names the first whose gradient is not finite.
        """
        if gradients is None:
            gradients = {name: value.grad for name, value in splats.parameters().items()}
        check_names(gradients, self.learning_rates)
        given = {name: value.detach() for name, value in gradients.items() if value is not None and value.numel()}
        if len(splats) != len(self):
            raise ValueError(
                f"{len(splats)} Gaussians meet moments of {len(self)}; move both with take(rows) of the same rows"
            )
        check_finite({f"the gradient of {name}": value for name, value in given.items()})
        steps = self.steps | {name: self.steps[name] + 1 for name in given}
        tables = (splats.detach().parameters(), given, self.exp_avg, self.exp_avg_sq)
        values, exp_avg, exp_avg_sq = (
            dict(zip(given, column, strict=True))
            for column in adam(
                *(tuple(table[name] for name in given) for table in tables),
                steps=[steps[name] for name in given],
                rates=[self.learning_rates[name] for name in given],
                betas=self.betas,
                eps=self.eps,
            )
        )
        return splats.detach().replace(**values), replace(
            self, steps=steps, exp_avg=self.exp_avg | exp_avg, exp_avg_sq=self.exp_avg_sq | exp_avg_sq
        )

    def take(self, rows: Int[Tensor, " M"], fresh: Bool[Tensor, " M"] | None = None) -> "SplatOptimiser":
        """The moments of the chosen rows, in the order of `Splats.take(rows)`; zero where `fresh`."""

        def taken(moment: Tensor) -> Tensor:
            moment = moment[rows]
            if fresh is not None:
                moment[fresh] = 0.0
            return moment

        return replace(
            self,
            exp_avg={name: taken(value) for name, value in self.exp_avg.items()},
            exp_avg_sq={name: taken(value) for name, value in self.exp_avg_sq.items()},
        )

    def forget(self, name: str) -> "SplatOptimiser":
        """Zero moments for one parameter, as after an edit of all its values; its step count stays."""
        check_names([name], self.learning_rates)
        return replace(
            self,
            exp_avg=self.exp_avg | {name: torch.zeros_like(self.exp_avg[name])},
            exp_avg_sq=self.exp_avg_sq | {name: torch.zeros_like(self.exp_avg_sq[name])},
        )

    def state_dict(self) -> dict[str, Tensor]:
        """Everything as a flat dict of tensors; numbers travel as float64 and int64, so loading is exact."""
        numbers = {
            "betas": torch.tensor(self.betas, dtype=torch.float64),
            "eps": torch.tensor(self.eps, dtype=torch.float64),
        }
        for name in self.steps:
            numbers[f"learning_rates.{name}"] = torch.tensor(self.learning_rates[name], dtype=torch.float64)
            numbers[f"steps.{name}"] = torch.tensor(self.steps[name], dtype=torch.int64)
        moments = {f"exp_avg.{name}": value for name, value in self.exp_avg.items()}
        squares = {f"exp_avg_sq.{name}": value for name, value in self.exp_avg_sq.items()}
        return numbers | moments | squares

    @classmethod
    def from_state_dict(cls, state: dict[str, Tensor]) -> "SplatOptimiser":
        """The optimiser whose `state_dict` this is."""

        def named(field: str) -> dict[str, Tensor]:
            prefix = f"{field}."
            return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}

        beta1, beta2 = state["betas"].tolist()
        return cls(
            learning_rates={name: value.item() for name, value in named("learning_rates").items()},
            steps={name: int(value.item()) for name, value in named("steps").items()},
            exp_avg=named("exp_avg"),
            exp_avg_sq=named("exp_avg_sq"),
            betas=(beta1, beta2),
            eps=state["eps"].item(),
        )


def adam(
    values: Tensors,
    gradients: Tensors,
    exp_avg: Tensors,
    exp_avg_sq: Tensors,
    *,
    steps: list[int],
    rates: list[float],
    betas: tuple[float, float] = (0.9, 0.99),
    eps: float = 1e-15,
) -> tuple[Tensors, Tensors, Tensors]:
    """Values, first and second moments after steps of these numbers, from 1; operations in torch.optim.Adam's order.

    Each operation is asked for once for all tensors, with the functions that torch's own optimisers are made of.
    """
    if not values:
        return (), (), ()
    beta1, beta2 = betas
    exp_avg = torch._foreach_lerp(exp_avg, gradients, 1 - beta1)
    exp_avg_sq = torch._foreach_addcmul(torch._foreach_mul(exp_avg_sq, beta2), gradients, gradients, value=1 - beta2)
    roots = torch._foreach_div(torch._foreach_sqrt(exp_avg_sq), [sqrt(1 - beta2**step) for step in steps])
    paces = [-rate / (1 - beta1**step) for rate, step in zip(rates, steps, strict=True)]
    return torch._foreach_addcdiv(values, exp_avg, torch._foreach_add(roots, eps), paces), exp_avg, exp_avg_sq


def check_finite(values: Mapping[str, Tensor | None]) -> None:
    """FloatingPointError with the name of the first that holds a NaN or an infinity."""
    given = {name: value for name, value in values.items() if value is not None}
    # Where a sum is finite, so is every term; that it is not may also come of its size.
    if not given or bool(torch.stack([value.sum() for value in given.values()]).isfinite().all()):
        return
    for name, value in given.items():
        if not bool(value.isfinite().all()):
            raise FloatingPointError(f"{name} is not finite")


def check_names(given, known) -> None:
    """ValueError for the first name in `given` that no stored parameter has, with the nearest that one has."""
    for name in given:
        if name not in known:
            nearest = get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise ValueError(f"no parameter is called {name!r} (there are {', '.join(known)}){hint}")


def exponential_decay(initial: float, final: float, progress: float) -> float:
    """A learning rate that falls from `initial` to `final` by equal factors while progress runs from 0 to 1.

    Two zeros stay zero: a frozen parameter.
    """
    if initial == final:
        return initial
    return initial * (final / initial) ** min(max(progress, 0.0), 1.0)
