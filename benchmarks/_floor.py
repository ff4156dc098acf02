"""The least time that the arithmetic of a network can take on a machine: its operations, its bytes, and the ceilings.

A layer is an operator that torch's flop counter knows: a matrix product, a convolution, their gradients. It takes at
least operations / peak and at least bytes / bandwidth, where the bytes are its arguments and results, each moved once.
All other operators are taken to be fused into layers, and cost nothing. Products of batches occur in attention alone,
whose scores need not leave the chip: the largest of their operands is not counted.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


@dataclass(frozen=True)
class Ceilings:
    """The best that the machine does: operations a second in a matrix product, bytes a second in a copy."""

    peak: float
    bandwidth: float


@dataclass(frozen=True)
class Layer:
    operations: int
    bytes: int


class Ledger(TorchDispatchMode):
    """The layers of all that runs within it, in this thread, on any device and on "meta" too."""

    def __init__(self) -> None:
        super().__init__()
        self.layers: list[Layer] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        if packet in flop_registry:
            operations = flop_registry[packet](*args, **(kwargs or {}), out_val=result)
            sizes = [each.nbytes for each in tree_leaves((args, kwargs, result)) if isinstance(each, Tensor)]
            kept = max(sizes) if packet in (torch.ops.aten.bmm, torch.ops.aten.baddbmm) else 0
            self.layers.append(Layer(operations, sum(sizes) - kept))
        return result


def layers_of(action: Callable[[], object]) -> list[Layer]:
    with Ledger() as ledger:
        action()
    return ledger.layers


def floor_seconds(layers: list[Layer], ceilings: Ceilings) -> float:
    return sum(max(each.operations / ceilings.peak, each.bytes / ceilings.bandwidth) for each in layers)


def operations_seconds(layers: list[Layer], ceilings: Ceilings) -> float:
    return sum(each.operations for each in layers) / ceilings.peak


def ceilings(device: torch.device, dtype: torch.dtype, repeats: int = 10) -> Ceilings:
    """Measured now: a square matrix product in this precision, and a copy larger than any cache."""
    side, numbers = (8192, 2**28) if device.type == "cuda" else (2048, 2**26)
    a = torch.randn(side, side, device=device).to(dtype)
    source = torch.ones(numbers, device=device)
    target = torch.empty_like(source)
    product = best_seconds(lambda: a @ a, device, repeats)
    copy = best_seconds(lambda: target.copy_(source), device, repeats)
    return Ceilings(peak=2 * side**3 / product, bandwidth=2 * source.nbytes / copy)


def best_seconds(action: Callable[[], object], device: torch.device, repeats: int) -> float:
    """The least of the repeats, one run for warming up left out."""
    action()
    times = []
    for _ in range(repeats):
        synchronise(device)
        begun = time.perf_counter()
        action()
        synchronise(device)
        times.append(time.perf_counter() - begun)
    return min(times)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
