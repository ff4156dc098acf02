"""Muon: the singular values of its steps, which parameters it takes, and that it descends."""

import pytest
import torch
from torch import nn

from splatdream.train.muon import LIKE_ADAM, Muon, Optimiser, even_out
from splatdream.train.threads import team


@pytest.mark.parametrize("shape", [(24, 60), (60, 24), (32, 32)])
def test_singular_values_become_about_one_and_directions_stay(shape) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    kept = left.T @ even_out(matrix) @ right.T
    firm = values > 0.05 * values[0]  # five steps do not lift what is all but zero
    assert bool(firm.float().mean() > 0.8)
    assert bool(((kept.diagonal() > 0.6) & (kept.diagonal() < 1.3))[firm].all())
    torch.testing.assert_close(kept, torch.diag(kept.diagonal()), atol=1e-4, rtol=0)


def test_a_step_is_about_as_long_as_adams() -> None:
    weight = nn.Parameter(torch.zeros(64, 32, 3, 3))
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    Muon([weight], lr=0.01).step()
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.01 * LIKE_ADAM, rel=0.3)


def test_matrices_inside_go_to_muon_and_the_rest_to_adam() -> None:
    module = nn.Sequential(nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3), nn.GroupNorm(4, 32), nn.Linear(32, 4))
    optimiser = Optimiser(module, 0.01)
    (muon,), (adam,) = optimiser.muon.param_groups, optimiser.adam.param_groups
    assert [each.shape for each in muon["params"]] == [(32, 32, 3, 3)]
    every = [id(each) for group in (muon, adam) for each in group["params"]]
    assert sorted(every) == sorted(map(id, module.parameters()))


def test_it_descends_and_takes_up_its_momentum_again() -> None:
    torch.manual_seed(0)
    module, wanted = nn.Linear(20, 20), torch.randn(20, 20)
    optimiser, losses = Optimiser(module, 0.05), []
    for _ in range(200):
        loss = (module.weight - wanted).square().mean()
        module.zero_grad()
        loss.backward()
        optimiser.step(0.05)
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.1 * losses[0]
    again = Optimiser(module, 0.05)
    again.load_state_dict(optimiser.state_dict())
    assert torch.equal(again.muon.state[module.weight]["momentum"], optimiser.muon.state[module.weight]["momentum"])


def test_threads_that_share_the_matrices_change_them_alike() -> None:
    modules = []
    with team(torch.device("cpu"), 2) as together:
        for pool in (None, together.pool):
            torch.manual_seed(0)
            module = nn.Sequential(*[nn.Linear(24 + 8 * k, 32 + 8 * k) for k in range(6)])
            optimiser = Optimiser(module, 0.05)
            for _ in range(3):
                for each in module.parameters():
                    each.grad = torch.randn(each.shape)
                optimiser.step(0.05, pool)
            modules.append(module)
    for alone, shared in zip(*(module.parameters() for module in modules), strict=True):
        torch.testing.assert_close(alone, shared)


def test_collected_polynomials_do_what_five_steps_would() -> None:
    generator = torch.Generator().manual_seed(0)
    few = torch.randn(40, 3, generator=generator) @ torch.randn(3, 90, generator=generator)
    for matrix in (torch.randn(40, 90, generator=generator), few, torch.zeros(40, 90)):
        x = matrix.double() / (matrix.double().norm() + 1e-7)
        for _ in range(5):
            gram = x @ x.T
            x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
        torch.testing.assert_close(even_out(matrix), x.float(), atol=1e-3, rtol=0)
