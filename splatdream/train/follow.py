"""Following a training run: from its checkpoint on, with its losses written down, until its end or a deadline."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch

from splatdream.export.atomic import atomic_write

EVERY = 100
"""Steps between progress lines; checkpoints come every fifth of them."""


@runtime_checkable
class Run(Protocol):
    """A training that can be stopped and taken up again; `parts` names its attributes that learn or remember."""

    parts: ClassVar[tuple[str, ...]]
    total: int
    step: int


def state_of(run: Run) -> dict[str, Any]:
    """All that is needed to go on, for `restore`."""
    return {name: getattr(run, name).state_dict() for name in run.parts} | {"step": run.step}


def restore(run: Run, state: dict[str, Any]) -> None:
    for name in run.parts:
        getattr(run, name).load_state_dict(state[name])
    run.step = state["step"]


def step_seed(seed: int, step: int) -> int:
    """The seed of one step's chance, so that a run taken up again draws what it would have drawn."""
    return seed * 1_000_003 + step


def follow(name: str, run: Run, steps: Iterator[tuple[int, float]], path: Path, deadline: float) -> bool:
    """Trains from the checkpoint at `path`, if any, until the end or the deadline; the losses are kept beside it."""
    if path.exists():
        restore(run, torch.load(path, weights_only=True))
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
            save(run, path)
        if late and not done:
            return False
    return True


def save(run: Run, path: Path) -> None:
    with atomic_write(path) as file:
        torch.save(state_of(run), file)
