"""Following a training run: from its checkpoint on, with its losses written down, until its end or a deadline."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from splatdream.export.atomic import atomic_write

EVERY = 100
"""Steps between progress lines; checkpoints come every fifth of them."""


@runtime_checkable
class Run(Protocol):
    """A training that can be stopped and taken up again."""

    total: int
    step: int

    def state(self) -> dict: ...

    def load(self, state: dict) -> None: ...


def follow(name: str, run: Run, steps: Iterator[tuple[int, float]], path: Path, deadline: float) -> bool:
    """Trains from the checkpoint at `path`, if any, until the end or the deadline; the losses are kept beside it."""
    if path.exists():
        run.load(torch.load(path, weights_only=True))
    if run.step >= run.total:
        return True
    began, first, losses = time.monotonic(), run.step, []
    for step, loss in steps:
        losses.append(loss)
        done, late = step == run.total, time.monotonic() > deadline
        if step % EVERY == 0 or done or late:
            pace = (time.monotonic() - began) / (step - first)
            print(f"{name} step {step}/{run.total} loss {np.mean(losses[-EVERY:]):.4f} {pace:.3f} s/step", flush=True)
            with path.with_suffix(".jsonl").open("a") as log:
                log.write(json.dumps({"step": step, "loss": float(np.mean(losses[-EVERY:]))}) + "\n")
        if step % (5 * EVERY) == 0 or done or late:
            save(run.state, path)
        if late and not done:
            return False
    return True


def save(state: Callable[[], dict[str, Tensor]], path: Path) -> None:
    with atomic_write(path) as file:
        torch.save(state(), file)
