"""Networks of published sizes with random weights on a GPU: short runs stay finite and within the memory that is asked.

What a step takes does not depend on the weights. The sizes are those of the benchmarks (`benchmarks/_archs.py`).
"""

import gc
from math import isfinite

import pytest
import torch
from _archs import untrained

from splatdream import Recipe, dream
from splatdream.priors.diffusion import DiffusionPrior

pytestmark = pytest.mark.gpu
PIXELS, VIEWS, STEPS = 512, 4, 50
ASKED = {"sd15": 12e9, "sd21": 12e9}
"""The most bytes that a run may take of the GPU."""


def run(prior: DiffusionPrior, *, size: int = PIXELS, views: int = VIEWS, steps: int = STEPS) -> None:
    """A short run on the prior's device, every step of which must be finite."""
    device = prior.device.type
    recipe = Recipe("a red ball", distill="sds", steps=steps, views=views, size=size, count=4000, device=device)
    last = None
    for last in dream(recipe, prior=prior):
        assert isfinite(last.residual)
        assert isfinite(last.grad_norm)
    assert last is not None
    assert last.index == steps - 1
    assert last.images.shape == (views, size, size, 3)
    assert all(bool(value.isfinite().all()) for value in last.state.splats.parameters().values())


@pytest.mark.parametrize("arch", ["sd15", "sd21", "sdxl", "sd3"])
def test_fifty_steps_of_four_views_stay_finite_and_within_the_memory_asked(arch, capsys) -> None:
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    prior = untrained(arch, PIXELS, device="cuda", dtype=torch.bfloat16)
    prior.spare_memory()
    run(prior)
    peak = torch.cuda.max_memory_allocated()
    with capsys.disabled():
        print(f"\n{arch}, {VIEWS} views of {PIXELS} x {PIXELS}, {prior.portions.views or 'all'} at once: "
              f"{peak / 1e9:.2f} GB at most")  # fmt: skip
    assert prior.portions.views is None  # the plan was never stepped down
    assert peak <= ASKED.get(arch, float("inf"))
