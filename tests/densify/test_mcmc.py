"""MCMC: sharing keeps the picture, the dead move to the living, the budget holds, chance comes from the generator."""

from math import comb, pi, sqrt

import pytest
import torch

from splatdream.contracts import Render
from splatdream.densify.mcmc import MCMC, N_MAX, shared, wander
from splatdream.optim import SplatOptimiser
from splatdream.splats import Splats, logit

RATES = {"means": 4e-3, "quats": 5e-3, "log_scales": 4e-3, "logit_opacities": 5e-2, "sh0": 1e-2, "shN": 5e-4}
ALWAYS = {"start": 0.0, "stop": 1.0, "every": 0.1}
DUE = 10


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cloud(opacities: list[float]) -> Splats:
    count, generator = len(opacities), seeded()
    return Splats(
        means=torch.randn(count, 3, generator=generator),
        quats=torch.randn(count, 4, generator=generator),
        log_scales=torch.empty(count, 3).uniform_(-4, -2, generator=generator),
        logit_opacities=logit(torch.tensor(opacities)),
        sh0=torch.randn(count, 1, 3, generator=generator),
        shN=torch.randn(count, 3, 3, generator=generator),
    )


def trained(splats: Splats) -> SplatOptimiser:
    gradients = splats.map(lambda value: torch.rand(value.shape, generator=seeded(5)).to(value) + 0.1).parameters()
    return SplatOptimiser.init(splats, RATES).step(splats, gradients)[1]


def unused(count: int) -> Render:
    pixels = [torch.zeros(1, 1, 1, channels) for channels in (3, 1, 1)]
    return Render(*pixels, torch.zeros(1, count, 2), torch.zeros(1, count, 2, dtype=torch.int64))


def moved(rule: MCMC, splats: Splats, step: int = DUE, seed: int = 0):
    return rule.step(splats, trained(splats), rule.init(splats), unused(len(splats)), step, 100, seeded(seed))


def same(one: Splats, other: Splats) -> bool:
    return all(torch.equal(one.parameters()[name], other.parameters()[name]) for name in one.parameters())


def equation_9(opacity: float, scale: float, n: int) -> tuple[float, float]:
    """The paper's formula as it stands there, with both sums."""
    new = 1 - (1 - opacity) ** (1 / n)
    total = sum(comb(i - 1, k) * (-1) ** k / sqrt(k + 1) * new ** (k + 1) for i in range(1, n + 1) for k in range(i))
    return new, scale * opacity / total


@pytest.mark.parametrize("n", [1, 2, 3, 10, N_MAX])
@pytest.mark.parametrize("opacity", [0.006, 0.3, 0.9, 0.999])
def test_sharing_is_equation_9(opacity, n):
    opacities, scales = shared(
        torch.tensor([opacity], dtype=torch.float64), torch.full((1, 3), 0.2, dtype=torch.float64), torch.tensor([n])
    )
    new, scale = equation_9(opacity, 0.2, n)
    assert opacities.item() == pytest.approx(new, rel=1e-10)
    # Both alternate in sign: with 51 copies of 0.999 terms near 1e4 cancel in float64.
    assert scales[0].tolist() == pytest.approx([scale] * 3, rel=1e-8)


@pytest.mark.parametrize("n", [2, 5, N_MAX])
@pytest.mark.parametrize("opacity", [0.05, 0.6, 0.99])
def test_copies_on_one_place_keep_the_opacity_along_a_line_and_at_the_centre(opacity, n):
    scale = 0.3
    opacities, scales = shared(torch.tensor([opacity]), torch.full((1, 3), scale), torch.tensor([n]))
    x = torch.linspace(-6, 6, 20_001, dtype=torch.float64)
    one = opacities.double() * torch.exp(-0.5 * (x / scales[0, 0].double()) ** 2)
    together = 1 - (1 - one) ** n
    assert together.max().item() == pytest.approx(opacity, rel=1e-5)
    assert torch.trapezoid(together, x).item() == pytest.approx(opacity * scale * sqrt(2 * pi), rel=1e-5)


def test_more_copies_than_the_table_holds_count_as_its_last():
    opacities, scales = torch.tensor([0.5, 0.5]), torch.full((2, 3), 0.1)
    new, small = shared(opacities, scales, torch.tensor([N_MAX, 500]))
    assert new[0] == new[1]
    assert torch.equal(small[0], small[1])


def test_the_dead_become_copies_of_the_living_with_shared_opacity_and_fresh_moments():
    splats = cloud([0.9, 0.001, 0.6, 0.002])
    rule = MCMC(growth=0.0, noise=0.0, **ALWAYS)
    relocated, optimiser, _ = moved(rule, splats)
    parents = [[0, 2][int((splats.means[2] == relocated.means[row]).all())] for row in (1, 3)]
    assert len(relocated) == 4
    for row, parent in zip((1, 3), parents, strict=True):
        for value in relocated.parameters().values():
            assert torch.equal(value[row], value[parent])
        new, scale = equation_9(splats.opacities[parent].item(), 1.0, 1 + parents.count(parent))
        assert relocated.opacities[row].item() == pytest.approx(new, rel=1e-5)
        factors = relocated.scales[row] / splats.scales[parent]
        assert factors.tolist() == pytest.approx([scale] * 3, rel=1e-4)
    for name in RATES:
        for row in range(4):
            untouched = row not in (1, 3, *parents)
            expected = trained(splats).exp_avg[name][row] if untouched else 0.0 * optimiser.exp_avg[name][row]
            assert torch.equal(optimiser.exp_avg[name][row], expected)


def test_the_solid_are_drawn_in_proportion_to_their_opacity():
    opacities = [0.2] * 500 + [0.8] * 500 + [0.001] * 2000
    relocated, _, _ = moved(MCMC(growth=0.0, noise=0.0, **ALWAYS), cloud(opacities))
    places = cloud(opacities).means
    faint = (torch.cdist(relocated.means[1000:], places[:500]).amin(1) == 0).float().mean().item()
    # Four standard deviations of a share of 0.2 in 2,000 draws.
    assert faint == pytest.approx(0.2, abs=4 * sqrt(0.2 * 0.8 / 2000))


@pytest.mark.parametrize(("count", "cap", "expected"), [(100, 1000, 105), (100, 102, 102), (3, 9, 4), (50, 20, 20)])
def test_the_cloud_grows_by_five_percent_up_to_the_cap(count, cap, expected):
    splats = cloud([0.3 + 0.005 * row for row in range(count)])
    grown, optimiser, _ = moved(MCMC(cap=cap, noise=0.0, **ALWAYS), splats)
    assert len(grown) == expected == len(optimiser)
    if count > cap:
        assert same(grown, splats.take(torch.arange(count - cap, count)))


def test_a_whole_run_never_leaves_the_budget_and_stays_finite():
    splats, rule, generator = cloud([0.001 * (row + 1) for row in range(40)]), MCMC(cap=70, **ALWAYS), seeded()
    optimiser, state, counts = trained(splats), rule.init(splats), []
    for step in range(1, 200):
        splats, optimiser, state = rule.step(splats, optimiser, state, unused(len(splats)), step, 200, generator)
        counts.append(len(splats))
        assert len(optimiser) == len(splats)
    assert counts == sorted(counts)
    assert counts[-1] <= 70
    assert all(value.isfinite().all() for value in splats.parameters().values())


def test_noise_has_the_shape_of_the_gaussian_and_spares_the_solid():
    count = 20_000
    splats = cloud([0.005]).take(torch.zeros(count, dtype=torch.int64))
    shake = 7.0
    steps = wander(splats, shake, seeded())
    w, x, y, z = torch.nn.functional.normalize(splats.quats[0], dim=0).tolist()
    rotation = torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    covariance = rotation @ torch.diag(splats.scales[0] ** 2) @ rotation.T
    # The gate is one half at the opacity 0.005; the draw is multiplied by the covariance, not by its root.
    expected = (0.5 * shake) ** 2 * covariance @ covariance
    assert torch.allclose(steps.T.cov(), expected, atol=0.05 * expected.max().item())
    solid = splats.replace(logit_opacities=torch.zeros(count))
    assert wander(solid, shake, seeded()).abs().max() < 1e-18


def test_noise_follows_the_learning_rate_and_falls_at_every_step():
    splats, rule = cloud([0.004, 0.9]), MCMC()
    render, state = unused(2), rule.init(splats)
    full = rule.step(splats, trained(splats), state, render, 3, 100, seeded())[0]
    slow = trained(splats).with_learning_rates(means=2e-3)
    half = rule.step(splats, slow, state, render, 3, 100, seeded())[0]
    still = rule.step(splats, slow.with_learning_rates(means=0.0), state, render, 3, 100, seeded())[0]
    assert (full.means[0] != splats.means[0]).all()
    assert len(full) == 2
    torch.testing.assert_close(full.means - splats.means, 2 * (half.means - splats.means), rtol=1e-3, atol=1e-6)
    assert same(still, splats)


def test_the_same_generator_gives_the_same_cloud_and_the_global_seed_has_no_say():
    splats, rule = cloud([0.001, 0.3, 0.004, 0.8] * 10), MCMC(**ALWAYS)
    torch.manual_seed(1)
    one, _, _ = moved(rule, splats)
    torch.manual_seed(2)
    assert same(one, moved(rule, splats)[0])
    assert not same(one, moved(rule, splats, seed=3)[0])


def test_when_all_are_dead_nothing_is_relocated():
    splats = cloud([0.001, 0.002])
    assert same(moved(MCMC(growth=0.0, noise=0.0, **ALWAYS), splats)[0], splats)


@pytest.mark.gpu
def test_on_cuda_it_does_what_it_does_on_the_cpu():
    # Sigmoids differ in their last bit between the two, which turns one draw in millions.
    rule, splats = MCMC(**ALWAYS), cloud([0.001, 0.3, 0.004, 0.8] * 10)
    expected, there = moved(rule, splats)[0], splats.to("cuda")
    there, optimiser, _ = rule.step(there, trained(splats.to("cuda")), {}, unused(40), DUE, 100, seeded())
    assert optimiser.exp_avg["means"].is_cuda
    for name, value in expected.parameters().items():
        torch.testing.assert_close(getattr(there, name).cpu(), value, rtol=1e-4, atol=1e-5)
