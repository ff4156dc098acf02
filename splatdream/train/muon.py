"""Muon (Jordan et al. 2024): steps of momentum whose singular values are all made about 1, for matrices in a network.

Every direction of a matrix then learns at the same pace, where Adam's steps follow a few. torch's own Muon takes no
convolutions and computes in bfloat16, which most CPUs do slowly.
"""

from collections.abc import Iterable
from concurrent.futures import Executor
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

MOMENTUM, DECAY = 0.95, 0.01
NARROW = 16
"""Layers with fewer channels on one side meet pixels, latents or answers; Adam suits these better."""
LIKE_ADAM = 0.2
"""The root mean square of a step of rate 1, about that of Adam's, so that both take the same rate (Liu et al. 2025)."""


def even_out(matrix: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """The matrix with its singular values brought to within 0.6 and 1.3, by five Newton-Schulz steps.

    Every step multiplies it by a polynomial of its own Gram matrix. The polynomials are collected and meet the matrix
    once, which halves the cost for a 3 x 3 convolution. It takes float32: what rounding adds to the Gram matrix grows
    twelvefold a step.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    gram = x @ x.T
    product = last = _polynomial(gram)
    for _ in range(4):
        gram = last @ gram @ last
        last = _polynomial(gram)
        product = last @ product
    x = product @ x
    return x.T if tall else x


def _polynomial(gram: Float[Tensor, "rows rows"]) -> Float[Tensor, "rows rows"]:
    polynomial = torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
    polynomial.diagonal().add_(3.4445)
    return polynomial


class Muon(torch.optim.Optimizer):
    """For parameters of two and more dimensions; a convolution counts as a matrix of its outputs by all the rest."""

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no loss is asked for again
        for group in self.param_groups:
            for parameter in group["params"]:
                self.change(parameter, group["lr"])

    @torch.no_grad()
    def change(self, parameter: Tensor, rate: float) -> None:
        """One step of one parameter, if it has a gradient; different ones may be changed at the same time."""
        if parameter.grad is None:
            return
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"]
        momentum.lerp_(parameter.grad, 1 - MOMENTUM)
        ahead = parameter.grad.lerp(momentum, MOMENTUM).flatten(1)
        change = even_out(ahead).reshape(parameter.shape)
        parameter.mul_(1 - DECAY * rate)
        parameter.sub_(change, alpha=LIKE_ADAM * max(ahead.shape) ** 0.5 * rate)


class Optimiser:
    """Muon for the matrices inside a module, Adam for its biases, norms, embeddings and first and last layers."""

    def __init__(self, module: nn.Module, rate: float) -> None:
        layers = [each for each in module.modules() if isinstance(each, nn.Linear | nn.Conv2d)]
        matrices = [each.weight for each in layers if min(each.weight.shape[:2]) >= NARROW]
        chosen = {id(each) for each in matrices}
        others = [each for each in module.parameters() if id(each) not in chosen]
        self.muon = Muon(matrices, rate)
        self.adam = torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.99), weight_decay=DECAY)

    def step(self, rate: float, pool: Executor | None = None) -> None:
        """One step by the gradients that the parameters have; a pool's threads share the matrices.

        With two threads of one core each the built-in UNet's 155 matrices take 0.23 s, with one of two cores 0.7 s.
        """
        for optimiser in (self.muon, self.adam):
            optimiser.param_groups[0]["lr"] = rate
        largest_first = sorted(self.muon.param_groups[0]["params"], key=Tensor.numel, reverse=True)
        change = partial(self.muon.change, rate=rate)
        list(pool.map(change, largest_first) if pool else map(change, largest_first))
        self.adam.step()

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
