"""Guidance with words to turn away from and with its spread held back, against exact priors."""

from dataclasses import replace

import pytest
import torch
from exact import FinitePrior

from splatdream.cameras import orbit
from splatdream.catalog import configured
from splatdream.contracts import Condition, Embedding, Negative, View
from splatdream.guidance import guided, perpendicular, rescaled
from splatdream.schedule import Prediction

SIZE = 8
TIMESTEPS = torch.tensor([300, 500, 800])
WEIGHTS = ([-1.5, 0.0, -0.5], [-0.2, -2.0, 0.0])


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pictures(views: int, seed: int) -> Embedding:
    """What a text means to a finite prior: four pictures, others in every view."""
    return Embedding(noise(views, 4, 3 * SIZE * SIZE, seed=seed))


def worlds(views: int = 3) -> tuple[FinitePrior, torch.Tensor, Condition]:
    """A prior, noisy latents, and a condition with two negatives whose weights differ from view to view."""
    prior = FinitePrior(lambda cameras: torch.zeros(len(cameras), 1, SIZE, SIZE, 3), SIZE)
    negatives = [Negative(pictures(views, 3 + k), torch.tensor(WEIGHTS[k][:views])) for k in range(2)]
    return prior, noise(views, 3, SIZE, SIZE), Condition(pictures(views, 1), pictures(views, 2), tuple(negatives))


def by_definition(prior: FinitePrior, x_t: torch.Tensor, condition: Condition, scale: float) -> torch.Tensor:
    """Perp-Neg one view and one negative at a time: e_u + g (d + sum_i w_i perp(e_i - e_u; d)), d = e_c - e_u."""
    results = []
    for k in range(len(x_t)):

        def eps(embedding: Embedding, k: int = k) -> torch.Tensor:
            return prior.predict(x_t[k : k + 1], TIMESTEPS[k : k + 1], embedding[[k]]).eps[0]

        d = eps(condition.cond) - eps(condition.uncond)
        total = d.clone()
        for negative in condition.negatives:
            u = eps(negative.embedding) - eps(condition.uncond)
            total += negative.weights[k] * (u - (u * d).sum() / (d * d).sum() * d)
        results.append(eps(condition.uncond) + scale * total)
    return torch.stack(results)


def as_published(prior: FinitePrior, x_t: torch.Tensor, condition: Condition, scale: float) -> torch.Tensor:
    """FIELD P2: negatives stand view by view, and the latents that go with them prompt by prompt."""
    views, count = len(x_t), len(condition.negatives)
    rows = [negative.embedding.tokens[k] for k in range(views) for negative in condition.negatives]
    embedding = condition.cond + condition.uncond + Embedding(torch.stack(rows))
    times = TIMESTEPS[:views].repeat(2 + count)
    answers = prior.predict(x_t.repeat(2 + count, 1, 1, 1), times, embedding).eps
    cond, uncond = answers[:views], answers[views : 2 * views]
    total = cond - uncond
    for i, negative in enumerate(condition.negatives):
        other = answers[2 * views :][i::count]
        total = total + negative.weights.reshape(-1, 1, 1, 1) * perpendicular(other - uncond, cond - uncond)
    return uncond + scale * total


def test_the_part_that_is_left_is_at_right_angles_in_every_sample() -> None:
    u, v = noise(3, 4, 5, 5), noise(3, 4, 5, 5, seed=1)
    left = perpendicular(u, v)
    # Sums of 100 products of float32 near 1 carry an error near 1e-5.
    torch.testing.assert_close((left * v).flatten(1).sum(1), torch.zeros(3), atol=1e-4, rtol=0)
    # Only along v was anything taken away.
    taken = (u - left).flatten(1)
    assert torch.linalg.matrix_rank(torch.stack([taken[0], v[0].flatten()])) == 1
    torch.testing.assert_close(perpendicular(2.5 * v, v), torch.zeros_like(v), atol=1e-5, rtol=0)
    assert torch.equal(perpendicular(u, torch.zeros_like(v)), u)


@pytest.mark.parametrize("scale", [7.5, 1.0, -2.0])
def test_perp_neg_is_its_definition_in_every_view(scale) -> None:
    prior, x_t, condition = worlds()
    expected = by_definition(prior, x_t, condition, scale)
    torch.testing.assert_close(guided(prior, x_t, TIMESTEPS, condition, scale).eps, expected, atol=1e-4, rtol=1e-4)


def test_a_batch_with_negatives_equals_its_single_views_and_the_published_code_does_not() -> None:
    prior, x_t, condition = worlds()
    together = guided(prior, x_t, TIMESTEPS, condition, 5.0).eps
    alone = [guided(prior, x_t[[k]], TIMESTEPS[[k]], condition[[k]], 5.0).eps for k in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-4, rtol=1e-4)
    single = as_published(prior, x_t[:1], condition[:1], 5.0)
    torch.testing.assert_close(single, together[:1], atol=1e-4, rtol=1e-4)
    assert (as_published(prior, x_t, condition, 5.0) - together).abs().amax((1, 2, 3)).min() > 0.1


@pytest.mark.parametrize("scale", [7.5, 1.0, 0.0])
def test_negatives_of_weight_zero_are_plain_guidance_and_cost_nothing(scale) -> None:
    prior, x_t, condition = worlds()
    silent = tuple(replace(negative, weights=torch.zeros(3)) for negative in condition.negatives)
    plain = guided(prior, x_t, TIMESTEPS, replace(condition, negatives=()), scale)
    before = prior.evaluations
    assert torch.equal(guided(prior, x_t, TIMESTEPS, replace(condition, negatives=silent), scale).value, plain.value)
    assert prior.evaluations - before == (6 if scale == 7.5 else 3)


def test_each_negative_costs_one_evaluation_a_view() -> None:
    prior, x_t, condition = worlds()
    guided(prior, x_t, TIMESTEPS, condition, 7.5)
    assert prior.evaluations == 12


def test_perp_neg_is_the_same_whatever_the_prior_predicts() -> None:
    """Directions in eps, x0 and v differ by a factor in each view, which the projection keeps."""

    class Speaking(FinitePrior):
        def predict(self, latents, timesteps, embedding):
            answer = super().predict(latents, timesteps, embedding)
            return replace(answer, kind="v_prediction", value=answer.v)

    prior, x_t, condition = worlds()
    other = Speaking(prior.pictures, SIZE)
    ours, theirs = (guided(each, x_t, TIMESTEPS, condition, 7.5) for each in (prior, other))
    assert theirs.kind == "v_prediction"
    torch.testing.assert_close(theirs.eps, ours.eps, atol=1e-4, rtol=1e-4)


def test_rescale_zero_is_plain_and_one_gives_the_spread_of_the_prompts_own_answer() -> None:
    prior, x_t, condition = worlds()
    condition = replace(condition, negatives=())

    def value(phi: float) -> torch.Tensor:
        return guided(prior, x_t, TIMESTEPS, replace(condition, rescale=phi), 15.0).value.flatten(1)

    cond = prior.predict(x_t, TIMESTEPS, condition.cond).value.flatten(1)
    plain, half, whole = value(0.0), value(0.5), value(1.0)
    assert not torch.allclose(plain.std(1), cond.std(1), rtol=0.1)
    torch.testing.assert_close(whole.std(1), cond.std(1))
    torch.testing.assert_close(half, 0.5 * plain + 0.5 * whole)
    ratios = whole / plain
    torch.testing.assert_close(ratios, ratios[:, :1].expand_as(ratios), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_rescaling_leaves_pure_answers_as_they_are(scale) -> None:
    prior, x_t, condition = worlds()
    plain = replace(condition, negatives=())
    held = guided(prior, x_t, TIMESTEPS, replace(plain, rescale=1.0), scale)
    assert torch.equal(held.value, guided(prior, x_t, TIMESTEPS, plain, scale).value)


def test_an_answer_without_any_spread_is_rescaled_to_finite_values() -> None:
    flat = torch.ones(2, 3, 4, 4)
    assert rescaled(flat, noise(2, 3, 4, 4), 0.0).equal(flat)
    assert rescaled(flat, flat, 1.0).isfinite().all()


def test_a_condition_keeps_all_it_says_of_the_views_that_are_chosen() -> None:
    _, _, condition = worlds()
    chosen = replace(condition, rescale=0.3)[torch.tensor([2, 0])]
    assert chosen.rescale == 0.3
    assert [negative.weights.tolist() for negative in chosen.negatives] == [
        pytest.approx([weights[2], weights[0]]) for weights in WEIGHTS
    ]
    assert torch.equal(chosen.negatives[1].embedding.tokens[1], condition.negatives[1].embedding.tokens[0])


def test_guidance_of_a_v_prediction_stays_one() -> None:
    prior, x_t, condition = worlds()
    answer = guided(prior, x_t, TIMESTEPS, condition, 3.0)
    assert isinstance(answer, Prediction)
    assert answer.x_t is x_t
    assert answer.alpha.shape == answer.sigma.shape == (3, 1, 1, 1)


@pytest.mark.parametrize("rule", ["sds", "sdedit", "sjc", "hifa", "flow"])
def test_a_rule_that_asks_through_guidance_hears_of_negatives_and_of_rescaling(rule) -> None:
    prior, x_t, condition = worlds()
    cameras, images = orbit(3, SIZE), torch.zeros(3, SIZE, SIZE, 3)

    def gradient(told: Condition, rows: list[int]) -> torch.Tensor:
        given = (x_t[rows], noise(3, 3, SIZE, SIZE, seed=9)[rows], TIMESTEPS[rows], told[rows], cameras[rows])
        view = View(*given, torch.zeros(len(rows), 3), images[rows], 0.5)
        answer, _ = configured("distiller", rule)(view, prior, None, torch.Generator().manual_seed(0))
        return answer.targets if answer.latents is None else answer.latents

    whole = gradient(condition, [0, 1, 2])
    plain = gradient(replace(condition, negatives=()), [0, 1, 2])
    held = gradient(replace(condition, negatives=(), rescale=0.7), [0, 1, 2])
    assert (whole - plain).abs().amax((1, 2, 3)).min() > 1e-3
    assert (held - plain).abs().amax((1, 2, 3)).min() > 1e-3
    torch.testing.assert_close(whole[:1], gradient(condition, [0]), atol=1e-4, rtol=1e-4)
