"""The densifier that does nothing, and the window that all densifiers share."""

from itertools import pairwise

import pytest
import torch

from splatdream.contracts import Render
from splatdream.densify import due
from splatdream.densify.fixed import Fixed
from splatdream.init.sphere import Sphere
from splatdream.optim import SplatOptimiser


def test_fixed_hands_back_what_it_was_given():
    generator = torch.Generator().manual_seed(0)
    splats = Sphere()(5, generator)
    optimiser = SplatOptimiser.init(splats, dict.fromkeys(splats.parameters(), 0.1))
    pixels = [torch.zeros(1, 1, 1, channels) for channels in (3, 1, 1)]
    render = Render(*pixels, torch.zeros(1, 5, 2), torch.zeros(1, 5, 2, dtype=torch.int64))
    before = generator.get_state()
    state = Fixed().init(splats)
    assert Fixed().step(splats, optimiser, state, render, 10, 100, generator) == (splats, optimiser, state)
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("total", [10, 137, 2000])
@pytest.mark.parametrize(("start", "stop", "every"), [(0.0, 1.0, 0.1), (0.2, 0.7, 0.05), (0.5, 0.5, 0.1)])
def test_a_window_scales_with_the_run(total, start, stop, every):
    steps = [step for step in range(total) if due(step, total, start=start, stop=stop, every=every)]
    period = max(1, round(every * total))
    assert all(round(start * total) < step <= round(stop * total) for step in steps)
    assert all(after - before == period for before, after in pairwise(steps))
    if stop > start:
        assert steps[0] == round(start * total) + period


def test_a_period_below_one_step_is_one_step():
    assert [step for step in range(6) if due(step, 6, start=0.0, stop=1.0, every=0.001)] == [1, 2, 3, 4, 5]
