"""Laws of the optimiser: it is torch's Adam, its rows travel with the Gaussians, and it resumes exactly."""

from itertools import pairwise

import pytest
import torch

from splatdream.optim import SplatOptimiser, exponential_decay
from splatdream.splats import Splats

RATES = {"means": 1e-2, "quats": 5e-3, "log_scales": 4e-3, "logit_opacities": 5e-2, "sh0": 1e-2, "shN": 5e-4}


def cloud(count: int = 7, seed: int = 0, K: int = 3) -> Splats:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3,), (4,), (3,), (), (1, 3), (K, 3)]
    return Splats(*(torch.randn(count, *shape, generator=generator) for shape in shapes))


def gradients_of(splats: Splats, seed: int) -> dict[str, torch.Tensor]:
    return cloud(len(splats), seed, splats.shN.shape[1]).parameters()


def run(splats: Splats, optimiser: SplatOptimiser, seeds: range) -> tuple[Splats, SplatOptimiser]:
    for seed in seeds:
        splats, optimiser = optimiser.step(splats, gradients_of(splats, seed))
    return splats, optimiser


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("betas", "eps"), [((0.9, 0.99), 1e-15), ((0.5, 0.999), 1e-8)])
def test_without_moving_rows_it_equals_torch_adam(betas, eps):
    ours, optimiser = cloud(), SplatOptimiser.init(cloud(), RATES, betas=betas, eps=eps)
    theirs = cloud().requires_grad()
    groups = [{"params": [value], "lr": RATES[name]} for name, value in theirs.parameters().items()]
    adam = torch.optim.Adam(groups, betas=betas, eps=eps)
    for seed in range(1, 26):
        ours, optimiser = optimiser.step(ours, gradients_of(ours, seed))
        for name, gradient in gradients_of(ours, seed).items():
            getattr(theirs, name).grad = gradient
        adam.step()
    for name, value in ours.parameters().items():
        # The same operations in the same order: a few roundings of float32 at values near 1.
        torch.testing.assert_close(value, getattr(theirs, name).detach(), rtol=1e-6, atol=1e-6)


def test_gradients_are_read_from_the_leaves_when_none_are_given():
    leaves = cloud().requires_grad()
    (leaves.means.square().sum() + leaves.sh0.sum()).backward()
    optimiser = SplatOptimiser.init(leaves, RATES)
    given = {"means": 2 * leaves.means.detach(), "sh0": torch.ones_like(leaves.sh0)}
    read, _ = optimiser.step(leaves)
    told, _ = optimiser.step(leaves, given)
    assert same(read.parameters(), told.parameters())


def test_a_parameter_without_gradient_keeps_value_moments_and_step_count():
    before, optimiser = run(cloud(), SplatOptimiser.init(cloud(), RATES), range(1, 4))
    after, stepped = optimiser.step(before, {"means": torch.ones(7, 3), "quats": None})
    assert torch.equal(after.quats, before.quats)
    assert stepped.steps == dict.fromkeys(RATES, 3) | {"means": 4}
    assert torch.equal(stepped.exp_avg["quats"], optimiser.exp_avg["quats"])


def test_moving_rows_and_stepping_commute():
    rows = torch.tensor([4, 0, 6, 2])
    before, optimiser = run(cloud(), SplatOptimiser.init(cloud(), RATES), range(1, 5))
    gradients = gradients_of(before, 9)
    stepped, _ = optimiser.step(before, gradients)
    moved, _ = optimiser.take(rows).step(before.take(rows), {name: value[rows] for name, value in gradients.items()})
    assert same(stepped.take(rows).parameters(), moved.parameters())


def test_fresh_rows_have_zero_moments_and_the_others_their_own():
    _, optimiser = run(cloud(), SplatOptimiser.init(cloud(), RATES), range(1, 5))
    rows, fresh = torch.tensor([3, 3, 1]), torch.tensor([False, True, False])
    taken = optimiser.take(rows, fresh)
    for old, new in [(optimiser.exp_avg, taken.exp_avg), (optimiser.exp_avg_sq, taken.exp_avg_sq)]:
        for name in RATES:
            assert torch.equal(new[name][[0, 2]], old[name][[3, 1]])
            assert not new[name][1].any()
            assert old[name][3].all(), "the source itself must keep its moments"


def test_forgetting_one_parameter_leaves_the_others():
    _, optimiser = run(cloud(), SplatOptimiser.init(cloud(), RATES), range(1, 3))
    forgot = optimiser.forget("logit_opacities")
    assert not forgot.exp_avg["logit_opacities"].any()
    assert not forgot.exp_avg_sq["logit_opacities"].any()
    assert torch.equal(forgot.exp_avg["means"], optimiser.exp_avg["means"])


def test_a_saved_optimiser_goes_on_bit_for_bit(tmp_path):
    straight, _ = run(cloud(), SplatOptimiser.init(cloud(), RATES), range(1, 9))
    half, optimiser = run(cloud(), SplatOptimiser.init(cloud(), RATES), range(1, 5))
    torch.save({"splats": half.parameters(), "optimiser": optimiser.state_dict()}, tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed, loaded = Splats(**saved["splats"]), SplatOptimiser.from_state_dict(saved["optimiser"])
    assert (loaded.learning_rates, loaded.betas, loaded.eps) == (RATES, (0.9, 0.99), 1e-15)
    resumed, _ = run(resumed, loaded, range(5, 9))
    assert same(resumed.parameters(), straight.parameters())


def test_a_scheduled_rate_acts_on_the_next_step_only_where_it_is_set():
    optimiser = SplatOptimiser.init(cloud(), RATES).with_learning_rates(means=0.0)
    moved, _ = optimiser.step(cloud(), gradients_of(cloud(), 1))
    assert torch.equal(moved.means, cloud().means)
    assert not torch.equal(moved.sh0, cloud().sh0)


def test_a_rate_that_is_zero_at_both_ends_freezes() -> None:
    assert [exponential_decay(0.0, 0.0, progress) for progress in (0.0, 0.5, 1.0)] == [0.0, 0.0, 0.0]


def test_exponential_decay_falls_by_equal_factors():
    values = [exponential_decay(1e-2, 1e-4, progress) for progress in (0.0, 0.25, 0.5, 0.75, 1.0)]
    ratios = [after / before for before, after in pairwise(values)]
    assert values[0] == pytest.approx(1e-2)
    assert values[-1] == pytest.approx(1e-4)
    assert ratios == pytest.approx([ratios[0]] * 4)


@pytest.mark.parametrize("name", ["scale_lr", "scaling", "log_scale"])
def test_a_misspelt_learning_rate_is_refused_and_not_ignored(name):
    # threestudio reads `scaling_lr` and ignores the `scale_lr` of its own recipes (FIELD.md, P9).
    with pytest.raises(ValueError, match="log_scales"):
        SplatOptimiser.init(cloud(), RATES | {name: 0.1})


def test_a_missing_learning_rate_is_named():
    with pytest.raises(ValueError, match="no learning rate for sh0"):
        SplatOptimiser.init(cloud(), {name: rate for name, rate in RATES.items() if name != "sh0"})


def test_a_gradient_that_is_not_finite_stops_and_names_its_parameter():
    gradients = gradients_of(cloud(), 1)
    gradients["quats"][2, 1] = float("nan")
    with pytest.raises(FloatingPointError, match="quats"):
        SplatOptimiser.init(cloud(), RATES).step(cloud(), gradients)


def test_rows_moved_without_their_moments_are_noticed():
    with pytest.raises(ValueError, match="5 Gaussians meet moments of 7"):
        SplatOptimiser.init(cloud(), RATES).step(cloud(5), gradients_of(cloud(5), 1))
