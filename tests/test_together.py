"""Objects made side by side are those that each would have become alone."""

from collections.abc import Iterator
from inspect import getattr_static
from threading import Thread
from typing import Any

import pytest
import torch
from tiny import tiny_prior_folder

from splatdream.loop import Step, dream
from splatdream.priors import load_prior
from splatdream.recipe import Recipe
from splatdream.together import Seat, Table, together

RULES = "sds", "sdi:steps=4", "sdedit:steps=2", "vsd:rank=2"


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    return load_prior(str(tiny_prior_folder(tmp_path_factory.mktemp("prior") / "tiny")), "a red mug")


def recipe(seed: int, distill: str = "sds", steps: int = 3) -> Recipe:
    options = {"renderer": "dense", "device": "cpu", "views": 2, "count": 20, "timesteps": "uniform"}
    return Recipe("a red mug", seed=seed, steps=steps, distill=distill, **options)


def loop_of(wanted: Recipe):
    return lambda prior: dream(wanted, prior=prior)


def last(steps: Iterator[list[Step | None]]) -> list[Step]:
    """The last step of every loop."""
    found: dict[int, Step] = {}
    for turn in steps:
        found |= {number: step for number, step in enumerate(turn) if step is not None}
    return [found[number] for number in sorted(found)]


class Counting:
    """Counts the calls and the rows."""

    def __init__(self, prior) -> None:
        self.prior, self.calls, self.rows = prior, 0, 0
        # Given, since from Python 3.12 on `isinstance` asks no `__getattr__` whether this is a prior.
        for name in ("schedule", "image_size", "condition", "encode", "decode"):
            setattr(self, name, getattr(prior, name))

    def __getattr__(self, name: str):
        return getattr(self.prior, name)

    def predict(self, latents, timesteps, embedding):
        self.calls, self.rows = self.calls + 1, self.rows + len(latents)
        return self.prior.predict(latents, timesteps, embedding)


@pytest.mark.parametrize("rule", RULES)
def test_on_the_cpu_each_is_bit_for_bit_what_it_would_have_been_alone(rule, prior) -> None:
    found = last(together(prior, [loop_of(recipe(seed, rule)) for seed in range(3)]))
    for seed, step in enumerate(found):
        *_, alone = dream(recipe(seed, rule), prior=prior)
        assert torch.equal(step.state.splats.means, alone.state.splats.means)
        assert torch.equal(step.state.splats.sh0, alone.state.splats.sh0)


@pytest.mark.parametrize("rule", RULES)
def test_in_one_batch_each_first_step_is_the_same_but_for_rounding(rule, prior) -> None:
    turn = next(together(prior, [loop_of(recipe(seed, rule)) for seed in range(3)], in_one=True))
    for seed, step in enumerate(turn):
        alone = next(dream(recipe(seed, rule), prior=prior))
        assert step is not None
        assert step.residual == pytest.approx(alone.residual, rel=1e-4)


def test_one_batch_takes_the_calls_of_one_object_and_the_rows_of_all(prior) -> None:
    alone: Any = Counting(prior)
    joined: Any = Counting(prior)
    last(iter([[step] for step in dream(recipe(0), prior=alone)]))  # type: ignore[list-item]
    last(together(joined, [loop_of(recipe(seed)) for seed in range(3)], in_one=True))
    assert joined.calls == alone.calls
    assert joined.rows == 3 * alone.rows


def test_a_loop_that_is_done_keeps_nobody_waiting(prior) -> None:
    turns = list(together(prior, [loop_of(recipe(0, steps=1)), loop_of(recipe(1, steps=3))], in_one=True))
    assert [[step is not None for step in turn] for turn in turns] == [[True, True], [False, True], [False, True]]


def test_an_error_of_the_prior_or_of_one_loop_ends_all_of_them(prior) -> None:
    class Broken(Counting):
        def predict(self, latents, timesteps, embedding):
            raise RuntimeError("out of memory")

    broken: Any = Broken(prior)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(together(broken, [loop_of(recipe(seed)) for seed in range(2)], in_one=True))

    closed = []

    def endless(prior) -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    def failing(prior) -> Iterator[int]:
        yield 1
        raise FloatingPointError("the gradient is not finite")

    with pytest.raises(FloatingPointError):
        list(together(prior, [endless, failing]))
    assert closed == [True]


def test_every_loop_has_the_threads_of_who_began_it_whatever_others_set_meanwhile(prior) -> None:
    def counting(prior) -> Iterator[int]:
        yield torch.get_num_threads()

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    other = Thread(target=torch.set_num_threads, args=(1,))
    other.start()
    other.join()
    try:
        assert list(together(prior, [counting, counting])) == [[3, 3]]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["schedule", "image_size", "condition", "encode", "decode", "predict", "student"])
def test_a_seat_is_known_for_a_teacher(name, prior) -> None:
    """From Python 3.12 on, `isinstance` looks for a protocol's members without asking `__getattr__`."""
    assert getattr_static(Seat(Table(prior, False), 0), name) is not None
