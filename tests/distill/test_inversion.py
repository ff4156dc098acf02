"""DDIM inversion and the rules that live by it, against priors whose flow is known in closed form."""

from dataclasses import replace
from math import ceil

import pytest
import torch
from exact import FinitePrior, cosine_schedule

from splatdream.cameras import orbit
from splatdream.contracts import View
from splatdream.distill.inversion import from_clean, invert, step_up
from splatdream.distill.ism import ISM
from splatdream.distill.sdi import SDI
from splatdream.distill.sds import SDS
from splatdream.guidance import guided
from splatdream.schedule import Prediction, Schedule, ddim_step

SIZE = 8
T = 1000
SHAPE = (3, SIZE, SIZE)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, seed: int) -> torch.Tensor:
    return torch.rand(count, SIZE, SIZE, 3, generator=seeded(seed))


class BlurredPrior(FinitePrior):
    """The exact denoiser of a mixture of normals: every picture of a finite set, plus noise of deviation `blur`."""

    def __init__(self, count: int = 3, blur: float = 0.5) -> None:
        asked, empty = pictures(count, 1), pictures(count, 2)
        super().__init__(
            lambda cameras: asked.expand(len(cameras), -1, -1, -1, -1),
            SIZE,
            lambda cameras: empty.expand(len(cameras), -1, -1, -1, -1),
        )
        self.blur = blur
        self.asked_at: list[tuple[torch.Tensor, torch.Tensor]] = []

    def predict(self, latents, timesteps, embedding) -> Prediction:
        self.evaluations += len(latents)
        self.asked_at.append((latents, timesteps))
        alpha, sigma = (value.flatten() for value in self.schedule.at(timesteps, latents))
        variance = alpha**2 * self.blur**2 + sigma**2
        residual = latents.flatten(1)[:, None] - alpha[:, None, None] * embedding.tokens
        posterior = torch.softmax(-0.5 * residual.square().sum(-1) / variance[:, None], dim=1)
        means = embedding.tokens + (alpha * self.blur**2 / variance)[:, None, None] * residual
        x0 = torch.einsum("bl,ble->be", posterior, means).reshape(latents.shape)
        return Prediction("sample", x0, latents, *self.schedule.at(timesteps, latents))


class StubbornPrior(BlurredPrior):
    """Sees the same noise in everything: whatever follows its answers must stand at alpha x + sigma noise."""

    noise = torch.randn(SHAPE, generator=seeded(9))

    def predict(self, latents, timesteps, embedding) -> Prediction:
        self.asked_at.append((latents, timesteps))
        return Prediction("epsilon", self.noise.expand_as(latents), latents, *self.schedule.at(timesteps, latents))


class NoisePrior(BlurredPrior):
    """Answers in the noise instead of the picture, as Stable Diffusion does."""

    def predict(self, latents, timesteps, embedding) -> Prediction:
        answer = super().predict(latents, timesteps, embedding)
        return Prediction("epsilon", answer.eps, latents, answer.alpha, answer.sigma)


def view_of(prior: FinitePrior, timesteps: list[int], seed: int = 4) -> View:
    images = pictures(len(timesteps), seed)
    cameras = orbit(len(images), SIZE)
    latents = prior.encode(images)
    noise = torch.randn(latents.shape, generator=seeded())
    condition = prior.condition("", "", cameras)
    return View(latents, noise, torch.tensor(timesteps), condition, cameras, torch.zeros(len(images), 3), images, 0.5)


def row(view: View, k: int) -> View:
    parts = {name: getattr(view, name)[k : k + 1] for name in ("latents", "noise", "timesteps", "condition", "images")}
    return replace(view, cameras=view.cameras[k], backgrounds=view.backgrounds[k : k + 1], **parts)


def pull(rule, view: View, prior: FinitePrior, seed: int = 0) -> torch.Tensor:
    """The gradient that the rule asks for."""
    gradient, _ = rule(view, prior, rule.init(prior, seeded()), seeded(seed))
    assert gradient.latents is not None
    return gradient.latents


def ends_without_signal(prior: FinitePrior) -> Schedule:
    """The prior's schedule with zero terminal SNR (Lin et al. 2023): alpha = 0 at the last timestep."""
    alphas, sigmas = prior.schedule.alphas.clone(), prior.schedule.sigmas.clone()
    alphas[-1], sigmas[-1] = 0.0, 1.0
    return Schedule(alphas, sigmas)


# ---- inversion


@pytest.mark.parametrize("steps", [1, 7])
def test_where_the_prior_knows_one_picture_inversion_keeps_the_noise_that_was_there(steps) -> None:
    """The flow of a point mass is alpha x + sigma noise with one noise for all t, and DDIM steps are exact on it."""
    one = pictures(1, 1)
    prior = FinitePrior(lambda cameras: one.expand(len(cameras), -1, -1, -1, -1), SIZE)
    view = view_of(prior, [60, 500, 999], seed=1)
    known = prior.encode(one).expand(3, -1, -1, -1)
    start = prior.schedule.add_noise(known, view.noise, torch.zeros(3, dtype=torch.long))
    x_t = invert(prior, start, view.timesteps, view.condition, 1.0, steps=steps, levels=prior.schedule)
    # The first question divides float32 rounding by sigma = 8e-4.
    torch.testing.assert_close(x_t, prior.schedule.add_noise(known, view.noise, view.timesteps), atol=1e-3, rtol=0)


def test_inversion_converges_to_the_flow_of_a_normal_distribution() -> None:
    """N(mu, s^2) flows to x_t = alpha mu + sqrt(alpha^2 s^2 + sigma^2) / s (x - mu); the error is of first order."""
    prior = BlurredPrior(count=1)
    view = view_of(prior, [300, 700])
    mean = prior.encode(pictures(1, 1))
    alpha, sigma = prior.schedule.at(view.timesteps, view.latents)
    spread = (alpha**2 * prior.blur**2 + sigma**2).sqrt() / prior.blur
    flow = alpha * mean + spread * (view.latents - mean)

    def error(steps: int) -> float:
        levels = from_clean(prior.schedule)
        x_t = invert(prior, view.latents, view.timesteps, view.condition, 1.0, steps=steps, levels=levels)
        return float((x_t - flow).abs().max())

    coarse, fine, finest = error(20), error(40), error(80)
    assert 1.7 < coarse / fine < 2.3
    assert 1.7 < fine / finest < 2.3
    assert finest < 0.03 * float(flow.abs().max())


def test_the_sampler_leads_back_from_inverted_latents_to_the_latents() -> None:
    """Up to first order: upwards a step uses the noise seen at its start, downwards that seen at its end."""
    prior = BlurredPrior(blur=1.0)  # sharper mixtures have ridges, where the way up forgets which side it came from
    levels, t = from_clean(prior.schedule), 600
    view = view_of(prior, [t])

    def error(steps: int) -> float:
        x = invert(prior, view.latents, view.timesteps, view.condition, 1.0, steps=steps, levels=levels)
        assert (x - view.latents).abs().max() > 0.2
        for now in range(t, 0, -T // steps):
            answer = guided(prior, x, torch.tensor([now]), view.condition, 1.0)
            x = ddim_step(levels, answer, torch.tensor([now - T // steps]))
        return float((x - view.latents).abs().max())

    coarse, fine = error(100), error(200)
    assert 1.7 < coarse / fine < 2.3
    assert fine < 0.03


def test_fresh_noise_keeps_the_variance_of_the_timestep_and_hides_the_old_noise() -> None:
    """Where one picture is known, what inversion leaves is pure noise; added without shrinking it would gain 0.5."""
    one = pictures(1, 1)
    prior = FinitePrior(lambda cameras: one.expand(len(cameras), -1, -1, -1, -1), SIZE)
    view = view_of(prior, [800] * 40)
    known = prior.encode(one).expand(40, -1, -1, -1)
    start = prior.schedule.add_noise(known, view.noise, torch.zeros(40, dtype=torch.long))
    options = {"steps": 4, "levels": prior.schedule}
    x_t = invert(prior, start, view.timesteps, view.condition, 1.0, eta=1.0, generator=seeded(), **options)
    alpha, sigma = prior.schedule.at(view.timesteps, x_t)
    noise = (x_t - alpha * known) / sigma
    assert abs(float(noise.std()) - 1.0) < 0.03  # 7680 values: three standard errors
    assert float((noise * view.noise).mean()) < 0.9
    assert float((noise[:20] * noise[20:]).mean()) < 0.05  # each view has its own


def test_more_steps_than_timesteps_are_as_many_as_there_are_timesteps() -> None:
    prior = BlurredPrior()
    prior.schedule = cosine_schedule(4)
    view, levels = view_of(prior, [1, 3]), from_clean(prior.schedule)
    found = [invert(prior, view.latents, view.timesteps, view.condition, 1.0, steps=n, levels=levels) for n in (4, 9)]
    assert torch.equal(*found)
    assert not torch.equal(found[0], view.latents)


def test_a_step_with_fresh_noise_is_ddims_with_eta() -> None:
    """Song et al. 2021, eqs. 12 and 16, with a' for the earlier and a for the later alpha^2."""
    schedule, now, after, eta = cosine_schedule(), torch.tensor([300]), torch.tensor([400]), 0.3
    x_t, eps, fresh = torch.randn(3, 1, 3, 4, 4, generator=seeded(), dtype=torch.float64)
    earlier, later = (schedule.alphas[t].double() ** 2 for t in (now, after))
    deviation = eta * ((1 - earlier) / (1 - later)).sqrt() * (1 - later / earlier).sqrt()
    x0 = (x_t - (1 - earlier).sqrt() * eps) / earlier.sqrt()
    expected = later.sqrt() * x0 + (1 - later - deviation**2).sqrt() * eps + deviation * fresh
    found = step_up(schedule, x_t, eps, now, after, eta=eta, fresh=fresh)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)  # the tables are float32


# ---- what is asked


@pytest.mark.parametrize("rule", [ISM(), SDI(eta=0.0, tau=0.0), ISM(steps=3, delta=0.2), SDI(steps=3, eta=0.0)])
def test_every_question_is_put_at_the_timestep_of_its_latents(rule) -> None:
    """The public SDI port evaluates latents of t + tau at t, and asks about timestep -99."""
    prior = StubbornPrior()
    view = view_of(prior, [0, 30, 430, 999])
    gradient = pull(rule, view, prior)
    levels = from_clean(prior.schedule)
    for latents, timesteps in prior.asked_at:
        assert timesteps.min() >= 0
        assert timesteps.max() < T
        # The rows are told apart by where they would stand; one of the four must fit.
        at = [levels.add_noise(x.expand_as(latents), prior.noise.expand_as(latents), timesteps) for x in view.latents]
        misfit = torch.stack([(latents - x_t).flatten(1).abs().amax(1) for x_t in at]).amin(0)
        # At t = 0 the last question is put at alpha = 0.9999997 and sigma = 8e-4 instead of the clean latents.
        assert misfit.max() < 3e-3
    # What sees the same noise everywhere has nothing to ask for; 1 / alpha = 1273 at the end magnifies rounding.
    assert gradient.abs().max() < 2e-3


@pytest.mark.parametrize("t", [0, 1, 100, 101, 640, 999])
def test_evaluations_a_view_are_as_documented(t) -> None:
    prior = BlurredPrior()
    pull(ISM(steps=5, delta=0.05), view_of(prior, [t]), prior)
    assert prior.evaluations == ceil(5 * max(t - 50, 0) / T) + 3
    prior = BlurredPrior()
    pull(SDI(steps=10, tau=0.0), view_of(prior, [t]), prior)
    assert prior.evaluations == 2 * ceil(10 * max(t, 1) / T) + 2


def test_kappa_is_found_at_most_tau_above_the_timestep() -> None:
    prior = BlurredPrior()
    view = view_of(prior, [400] * 50)
    SDI(eta=0.0).kappa(view, prior, seeded())
    SDI(eta=0.0, tau=0.0).kappa(view, prior, seeded())
    assert max(int(timesteps.max()) for _, timesteps in prior.asked_at) == 400
    SDI(eta=0.0, tau=0.3).kappa(view, prior, seeded())  # the last step to below 700 begins at 600
    assert max(int(timesteps.max()) for _, timesteps in prior.asked_at) == 600
    found = SDI(steps=1, eta=0.0, tau=0.5).kappa(replace(view, timesteps=torch.tensor([990] * 50)), prior, seeded())
    assert found.isfinite().all()


def test_ism_compares_the_prompt_with_the_step_before_on_the_empty_prompts_way_up() -> None:
    prior = BlurredPrior()
    view = view_of(prior, [640])
    timesteps = [0, 200, 400, 590, 640]
    lambdas = [0.0] + [float(prior.schedule.sigmas[t] / prior.schedule.alphas[t]) for t in timesteps[1:]]
    z, eps = view.latents, view.noise  # z = x_t / alpha
    for k in range(4):
        alpha = 1.0 if k == 0 else prior.schedule.alphas[timesteps[k]]
        eps = prior.predict(alpha * z, torch.tensor([timesteps[k]]), view.condition.uncond).eps
        z = z + (lambdas[k + 1] - lambdas[k]) * eps
    asked = guided(prior, prior.schedule.alphas[640] * z, view.timesteps, view.condition, 7.5).eps
    found = pull(ISM(7.5, steps=5, delta=0.05), view, prior)
    # As for kappa: the noise seen at t = 0 is up to 250 deep.
    torch.testing.assert_close(found, lambdas[-1] * (asked - eps), atol=1e-3, rtol=1e-4)


def test_ism_inverts_under_the_empty_prompt_whatever_the_negative_one() -> None:
    prior = BlurredPrior()
    view = replace(view_of(prior, [40]), prompt="a mug", negative_prompt="ugly")
    told = []

    def condition(prompt: str, negative_prompt: str, cameras):
        told.append((prompt, negative_prompt))
        return BlurredPrior.condition(prior, prompt, negative_prompt, cameras)

    prior.condition = condition
    plain = pull(ISM(guidance_scale=1.0), view, prior)
    other = replace(view, condition=replace(view.condition, uncond=view.condition.cond))
    negated = pull(ISM(guidance_scale=1.0), other, prior)
    assert told == [("a mug", "")] * 2
    assert torch.equal(plain, negated)


def test_the_offset_is_one_shift_a_channel_at_the_first_timestep() -> None:
    prior = StubbornPrior()
    view = view_of(prior, [500, 900])
    pull(ISM(offset_noise=0.1), view, prior)
    start, timesteps = prior.asked_at[0]
    assert timesteps.eq(0).all()
    alpha, sigma = prior.schedule.at(timesteps, start)
    shift = (start - alpha * view.latents) / sigma - view.noise
    # Divided by sigma = 8e-4, float32 rounding is 1e-4.
    torch.testing.assert_close(shift, shift.mean((2, 3), keepdim=True).expand_as(shift), atol=1e-3, rtol=0)
    assert 0.02 < shift.std() < 0.3


# ---- identities


def test_sdi_with_random_noise_for_kappa_is_sds_with_weight_sigma_over_alpha(monkeypatch) -> None:
    prior = BlurredPrior()
    view = view_of(prior, [300, 700])
    monkeypatch.setattr(SDI, "kappa", lambda self, view, prior, generator: view.noise)
    by_sdi, by_sds = pull(SDI(7.5), view, prior), pull(SDS(7.5, "sigma/alpha"), view, prior)
    # x - (x_t - sigma eps) / alpha in float32.
    torch.testing.assert_close(by_sdi, by_sds, atol=1e-4, rtol=1e-5)


def test_sdi_is_sigma_over_alpha_times_what_guidance_sees_beyond_kappa() -> None:
    prior = BlurredPrior()
    view = view_of(prior, [250, 800])
    rule = SDI(eta=0.0, tau=0.0)
    kappa = rule.kappa(view, prior, seeded())
    by_sds = pull(SDS(7.5, "sigma/alpha"), replace(view, noise=kappa), prior)
    torch.testing.assert_close(pull(rule, view, prior), by_sds, atol=1e-4, rtol=1e-5)


def test_kappa_is_the_mean_of_the_predicted_noises_weighted_by_the_steps_of_lambda() -> None:
    prior = BlurredPrior()
    view = view_of(prior, [437])
    rule = SDI(steps=5, eta=0.0, tau=0.0)
    timesteps = [0, 200, 400, 437]
    lambdas = [0.0] + [float(prior.schedule.sigmas[t] / prior.schedule.alphas[t]) for t in timesteps[1:]]
    z, noises = view.latents, []  # z = x_t / alpha
    for k in range(3):
        alpha = 1.0 if k == 0 else prior.schedule.alphas[timesteps[k]]
        now = torch.tensor([timesteps[k]])
        noises.append(guided(prior, alpha * z, now, view.condition, rule.inversion_guidance_scale).eps)
        z = z + (lambdas[k + 1] - lambdas[k]) * noises[-1]
    mean = sum((lambdas[k + 1] - lambdas[k]) * noises[k] for k in range(3)) / lambdas[3]
    # The noise seen at t = 0 is up to 250 deep (x against a prior with sigma = 8e-4): relative rounding.
    torch.testing.assert_close(rule.kappa(view, prior, seeded()), mean, atol=1e-3, rtol=1e-4)


def test_sdi_equals_ism_for_one_step_of_inversion_from_clean_latents_and_only_then() -> None:
    prior = BlurredPrior()
    view = view_of(prior, [300, 700])

    def gradients(steps: int, delta: float) -> tuple[torch.Tensor, torch.Tensor]:
        sdi = SDI(1.0, inversion_guidance_scale=0.0, steps=steps, eta=0.0, tau=0.0)
        return pull(sdi, view, prior), pull(ISM(1.0, steps=steps, delta=delta), view, prior)

    torch.testing.assert_close(*gradients(steps=1, delta=1.0), atol=1e-4, rtol=1e-4)
    for steps in (2, 5):
        by_sdi, by_ism = gradients(steps, delta=0.1)
        assert (by_sdi - by_ism).norm() > 0.5 * by_ism.norm()


# ---- batches


@pytest.mark.parametrize(
    "rule", [ISM(), ISM(3.0, steps=2, delta=0.3), SDI(eta=0.0, tau=0.0), SDI(3.0, 0.0, 3, 0.0, 0.0)]
)
def test_a_batch_equals_its_single_views_though_their_ways_differ(rule) -> None:
    prior = BlurredPrior()
    whole = view_of(prior, [0, 90, 500, 940])
    together = pull(rule, whole, prior)
    for k in range(4):
        single = pull(rule, row(whole, k), prior)
        torch.testing.assert_close(together[k : k + 1], single, atol=1e-4, rtol=1e-4)


def test_one_way_for_the_whole_batch_as_in_the_public_port_breaks_that_law() -> None:
    """threestudio's port inverts every view to the first one's timestep and denoises with the first one's alpha."""
    prior = BlurredPrior()
    rule = SDI(eta=0.0, tau=0.0)
    whole = view_of(prior, [200, 700])
    like_the_port = pull(rule, replace(whole, timesteps=whole.timesteps[:1].expand(2)), prior)
    single = pull(rule, row(whole, 1), prior)
    assert (like_the_port[1:] - single).norm() > 0.2 * single.norm()


@pytest.mark.parametrize("rule", [ISM(offset_noise=0.1), SDI(tau=0.0), SDI(eta=0.0)])
def test_equal_generators_give_equal_gradients_and_inputs_stay(rule) -> None:
    prior = BlurredPrior()
    view = view_of(prior, [350, 850])
    before = view.latents.clone(), view.noise.clone(), view.timesteps.clone()
    first, second, other = (pull(rule, view, prior, seed) for seed in (3, 3, 4))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    for value, kept in zip((view.latents, view.noise, view.timesteps), before, strict=True):
        assert torch.equal(value, kept)


# ---- the ends


@pytest.mark.parametrize("rule", [ISM(), ISM(delta=0.0), ISM(offset_noise=0.1), SDI(), SDI(eta=1.0, tau=1.0)])
@pytest.mark.parametrize("t", [0, 1, T - 1])
def test_gradients_are_finite_at_both_ends(rule, t) -> None:
    prior = BlurredPrior()
    assert pull(rule, view_of(prior, [t]), prior).isfinite().all()


def test_without_signal_at_the_last_timestep_gradients_are_finite_where_the_picture_is_predicted() -> None:
    prior = BlurredPrior()
    prior.schedule = ends_without_signal(prior)
    for rule in (ISM(), SDI(), SDI(eta=0.0, tau=0.0)):
        assert pull(rule, view_of(prior, [T - 1]), prior).isfinite().all()


def test_without_signal_an_eps_prediction_of_the_picture_is_refused_by_name() -> None:
    prior = NoisePrior()
    prior.schedule = ends_without_signal(prior)
    with pytest.raises(ValueError, match="zero terminal SNR"):
        pull(SDI(), view_of(prior, [T - 1]), prior)
    with pytest.raises(ValueError, match="zero terminal SNR"):  # no step leaves a timestep without signal
        pull(ISM(delta=0.0), view_of(prior, [T - 1]), prior)
    assert pull(ISM(), view_of(prior, [T - 1]), prior).isfinite().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ISM(steps=0), "steps of ism"),
        (lambda: ISM(delta=-0.1), "delta of ism"),
        (lambda: ISM(offset_noise=-1.0), "offset_noise of ism"),
        (lambda: ISM(weighting="unifrom"), "uniform"),
        (lambda: SDI(steps=0), "steps of sdi"),
        (lambda: SDI(eta=1.5), "eta of sdi"),
        (lambda: SDI(tau=2.0), "tau of sdi"),
    ],
)
def test_options_out_of_range_are_refused_by_name(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()
