"""Several objects at once: their loops run side by side, and one prior answers what they ask together.

The few views of one object leave a GPU half idle; those of many objects in one batch fill it. On a CPU, which gains
nothing by larger batches, questions are answered one by one, so that each object comes out as if it had been alone.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from operator import add
from threading import Condition, Lock
from types import SimpleNamespace
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splatdream.contracts import Embedding, Prior
from splatdream.priors.shares import take_threads
from splatdream.schedule import Prediction

S = TypeVar("S")
Question = tuple[Tensor, Tensor, Embedding]


def together(
    prior: Prior, loops: Sequence[Callable[[Any], Iterator[S]]], *, in_one: bool | None = None
) -> Iterator[list[S | None]]:
    """The steps that every loop takes in each turn, None from those that are done, until all are.

    A loop is made by a function of its prior, as in `lambda prior: dream(recipe, prior=prior)`, and has a thread of its
    own. `in_one` batch they are answered where the prior is not on the CPU, if nothing else is said. The first error
    of a loop is raised when all have finished the turn; the loops are closed then, as when the iterator is.
    """
    device: torch.device = getattr(prior, "device", torch.device("cpu"))
    table = Table(prior, device.type != "cpu" if in_one is None else in_one)
    running = [loop(Seat(table, number)) for number, loop in enumerate(loops)]
    count = torch.get_num_threads()
    threads = [ThreadPoolExecutor(1, initializer=take_threads, initargs=(count,)) for _ in running]

    def turn(number: int) -> S | None:
        try:
            return next(running[number], None)
        finally:
            table.leave(number)

    def close(loop: Iterator[S]) -> None:
        getattr(loop, "close", lambda: None)()

    try:
        steps: list[S | None] = []
        while not steps or any(step is not None for step in steps):
            table.sit(range(len(running)))
            turns = [thread.submit(turn, number) for number, thread in enumerate(threads)]
            failed = [error for error in (each.exception() for each in turns) if error is not None]
            if failed:
                raise failed[0]
            steps = [each.result() for each in turns]
            if any(step is not None for step in steps):
                yield steps
    finally:
        for done in [thread.submit(close, loop) for thread, loop in zip(threads, running, strict=True)]:
            done.result()
        for thread in threads:
            thread.shutdown()


class Table:
    """Where questions wait until everybody who is seated has asked."""

    def __init__(self, prior: Prior, in_one: bool) -> None:
        self.prior, self.in_one = prior, in_one
        self.one_by_one = Lock()
        self._changed = Condition()
        self._seated: set[int] = set()
        self._asked: dict[int, Question] = {}
        self._answers: dict[int, Prediction | Exception] = {}

    def sit(self, numbers: Sequence[int]) -> None:
        with self._changed:
            self._seated = set(numbers)

    def leave(self, number: int) -> None:
        """Nobody waits for this one any more."""
        with self._changed:
            self._seated.discard(number)
            self._serve()

    def ask(self, number: int, question: Question) -> Prediction:
        with self._changed:
            self._asked[number] = question
            self._serve()
            self._changed.wait_for(lambda: number in self._answers)
            answer = self._answers.pop(number)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _serve(self) -> None:
        """Answers all questions, if no one is missing."""
        if not self._asked or self._seated - self._asked.keys():
            return
        asked, self._asked = dict(sorted(self._asked.items())), {}
        try:
            said = self._joined([*asked.values()]) if self.in_one else [self.prior.predict(*q) for q in asked.values()]
        except Exception as error:  # everybody's, as the question was
            said = [error] * len(asked)
        self._answers |= dict(zip(asked, said, strict=True))
        self._changed.notify_all()

    def _joined(self, questions: list[Question]) -> list[Prediction]:
        latents, timesteps, embeddings = zip(*questions, strict=True)
        said = self.prior.predict(torch.cat(latents), torch.cat(timesteps), reduce(add, embeddings))
        counts = [len(each) for each in latents]
        pieces = (each.split(counts) for each in (said.value, said.alpha, said.sigma))
        return [
            Prediction(said.kind, value, x_t, alpha, sigma)
            for x_t, value, alpha, sigma in zip(latents, *pieces, strict=True)
        ]


class Seat:
    """The prior as one of the loops has it: what cannot be used by two threads at once, tokenizers say, is guarded."""

    def __init__(self, table: Table, number: int) -> None:
        self._table, self._number = table, number
        # Given, since `isinstance` asks no `__getattr__` whether this is a prior.
        self.schedule, self.image_size = table.prior.schedule, table.prior.image_size
        self.encode, self.decode = table.prior.encode, table.prior.decode

    def __getattr__(self, name: str) -> Any:
        return getattr(self._table.prior, name)

    def condition(self, *words: Any, **options: Any) -> Any:
        with self._table.one_by_one:
            return self._table.prior.condition(*words, **options)

    def student(self, rank: int) -> Any:
        with self._table.one_by_one:
            pupil = self._table.prior.student(rank)  # type: ignore[attr-defined] - not every prior has one

        def predict(*questions: Any) -> Prediction:
            with self._table.one_by_one:
                return pupil.predict(*questions)

        return SimpleNamespace(init=pupil.init, predict=predict)

    def predict(
        self, latents: Float[Tensor, "B C h w"], timesteps: Int[Tensor, " B"], embedding: Embedding
    ) -> Prediction:
        return self._table.ask(self._number, (latents, timesteps, embedding))
