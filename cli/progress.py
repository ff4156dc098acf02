"""What a run shows while it works: a bar on a terminal, now and then a plain line elsewhere."""

import time
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from splatdream_cli.console import duration

if TYPE_CHECKING:
    from splatdream.loop import Step
    from splatdream.playground import Frame

LINES = 10
QUIET_SECONDS = 15.0


class Display(Protocol):
    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def say(self, text: str) -> None: ...

    def step(self, step: "Step | Frame", seconds: float) -> None: ...


def display(console: Console, total: int, done: int = 0) -> Display:
    """The display for this console; `done` steps of `total` lie in an earlier session."""
    drawing = console.is_terminal and not console.is_dumb_terminal
    return Bar(console, total, done) if drawing else Lines(console, total)


def figures(step: "Step | Frame") -> str:
    """How the optimisation stands; the loss is the root mean square of the rule's gradient."""
    standing = f"loss {step.residual:.3g}  grad {step.grad_norm:.3g}"
    count = getattr(step, "count", 0)  # a picture has none
    return f"{standing}  {count:,} Gaussians" if count else standing


def rate(seconds: float) -> str:
    return f"{1 / seconds:.1f} steps/s" if 0 < seconds < 1 else f"{seconds:.1f} s/step"


class Bar:
    def __init__(self, console: Console, total: int, done: int) -> None:
        self._progress = Progress(
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.description}", markup=False),
            console=console,
            transient=True,
            expand=True,
        )
        self._task = self._progress.add_task("", total=total, completed=done)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        self._progress.update(self._task, description=text)

    def step(self, step: "Step | Frame", seconds: float) -> None:
        text = f"{rate(seconds)}  {figures(step)}"
        self._progress.update(self._task, completed=step.index + 1, description=text)


class Lines:
    """A line for each tenth of the run, and for each quarter of a minute in which there was none."""

    def __init__(self, console: Console, total: int) -> None:
        self._console, self._every = console, max(1, total // LINES)
        self._spoke = time.perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def say(self, text: str) -> None:
        self._console.print(text)

    def step(self, step: "Step | Frame", seconds: float) -> None:
        done = step.index + 1
        quiet = time.perf_counter() - self._spoke
        if done % self._every and done < step.total and quiet < QUIET_SECONDS:
            return
        self._spoke = time.perf_counter()
        left = duration(seconds * (step.total - done))
        self._console.print(f"step {done}/{step.total}  {rate(seconds)}  {left} left  {figures(step)}")
