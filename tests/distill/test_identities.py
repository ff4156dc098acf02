"""What the papers' equations say of each other, checked on priors whose score is exact.

Everything is float64. The schedule's tables are float32, so that alpha^2 + sigma^2 misses 1 by up to 1e-7: what uses
that identity agrees to `TABLES`, what does not to `EXACT`.
"""

from dataclasses import replace

import pytest
import torch
from distill.worlds import generator, pictures, view_of
from exact import FinitePrior, GaussianPrior, TextPrior, cosine_schedule, spoken

from splatdream.contracts import Gradient, Negative, Prior, View
from splatdream.distill.bridge import Bridge
from splatdream.distill.csd import CSD
from splatdream.distill.denoise import denoised
from splatdream.distill.flow import Flow
from splatdream.distill.hifa import HiFA
from splatdream.distill.nfsd import NFSD
from splatdream.distill.recon import Recon
from splatdream.distill.sdedit import SDEdit
from splatdream.distill.sdi import SDI
from splatdream.distill.sds import SDS
from splatdream.distill.sjc import SJC
from splatdream.distill.weights import weight
from splatdream.guidance import guided
from splatdream.losses import inject
from splatdream.schedule import Prediction, Schedule

EXACT = 1e-9
TABLES = 1e-5
TIMESTEPS = [120, 400, 650, 900]


def close(left: torch.Tensor | None, right: torch.Tensor | None, tolerance: float) -> None:
    torch.testing.assert_close(left, right, atol=tolerance, rtol=tolerance)


def asked(rule, view: View, prior: Prior, seed: int = 0) -> Gradient:
    gradient, _ = rule(view, prior, None, generator(seed))
    return gradient


def direction(rule, view: View, prior: Prior, seed: int = 0) -> torch.Tensor:
    gradient = asked(rule, view, prior, seed)
    assert gradient.latents is not None
    return gradient.latents


def four_views(prior: Prior, *, negative: str = "blurry", progress: float = 0.5) -> View:
    return view_of(prior, pictures(4, 3).double(), TIMESTEPS, negative=negative, progress=progress)


def eps_of(prior: Prior, view: View, prompt: str | None = None, negative: str | None = None) -> torch.Tensor:
    """The noise predicted for a prompt, or for a negative one, asked for alone."""
    x_t = prior.schedule.add_noise(view.latents, view.noise, view.timesteps)
    condition = prior.condition(prompt or view.prompt, negative or "", view.cameras)
    return prior.predict(x_t, view.timesteps, condition.cond if negative is None else condition.uncond).eps


def add_noise(prior: Prior, view: View) -> torch.Tensor:
    return prior.schedule.add_noise(view.latents, view.noise, view.timesteps)


def w(prior: Prior, view: View, name: str = "sds") -> torch.Tensor:
    return weight(name, prior.schedule, view.timesteps, like=view.latents)


# The exact priors themselves.


def log_density_of_a_finite_set(x_t, alpha, sigma, rows) -> torch.Tensor:
    squares = (x_t.flatten() - alpha * rows).square().sum(-1)
    return torch.logsumexp(-squares / (2 * sigma**2), dim=0)


def log_density_of_a_gaussian(x_t, alpha, sigma, rows, spread) -> torch.Tensor:
    return -(x_t.flatten() - alpha * rows[0]).square().sum() / (2 * (alpha**2 * spread**2 + sigma**2))


@pytest.mark.parametrize("timestep", [100, 500, 900])
@pytest.mark.parametrize("name", ["finite", "gaussian"])
def test_the_score_of_an_exact_prior_is_the_gradient_of_its_log_density(name, timestep) -> None:
    sets = torch.rand(3, 2, 2, 3, generator=generator(1))
    prior = FinitePrior(lambda cameras: sets[None], 2) if name == "finite" else GaussianPrior(sets[0], 0.3)
    view = view_of(prior, pictures(1, 2, size=2).double(), [timestep])
    alpha, sigma = (table[timestep].double() for table in (prior.schedule.alphas, prior.schedule.sigmas))
    rows = view.condition.cond.tokens[0].double()

    def log_density(x_t: torch.Tensor) -> torch.Tensor:
        if name == "finite":
            return log_density_of_a_finite_set(x_t, alpha, sigma, rows)
        return log_density_of_a_gaussian(x_t, alpha, sigma, rows, 0.3)

    x_t = prior.schedule.add_noise(view.latents, view.noise, view.timesteps)
    score = -prior.predict(x_t, view.timesteps, view.condition.cond).eps / sigma
    h, units = 1e-5, torch.eye(x_t.numel(), dtype=x_t.dtype).reshape(-1, *x_t.shape)
    differences = torch.stack([(log_density(x_t + h * u) - log_density(x_t - h * u)) / (2 * h) for u in units])
    # Central differences err by h^2 times the third derivative, a few thousand where sigma is small.
    close(score.flatten(), differences, 1e-5)


@pytest.mark.parametrize("first", ["epsilon", "sample", "v_prediction", "flow"])
@pytest.mark.parametrize("second", ["epsilon", "sample", "v_prediction", "flow"])
def test_conversions_between_kinds_of_prediction_invert_one_another(first, second) -> None:
    schedule, timesteps = cosine_schedule(), torch.tensor([30, 500, 970])
    x_t, value = torch.randn(2, 3, 3, 4, 4, generator=generator(), dtype=torch.float64)
    alpha, sigma = schedule.at(timesteps, x_t)
    sigma = (1.0 - alpha**2).sqrt()  # the tables' own miss the unit circle by their rounding
    there = Prediction(first, value, x_t, alpha, sigma)
    close(spoken(spoken(there, second), first).value, value, EXACT)


def test_guidance_has_one_convention() -> None:
    """FIELD P1: scale 1 is the conditional prediction, 0 the unconditional, and the rest lies on their line."""
    prior = TextPrior()
    view = four_views(prior)

    def eps(scale: float) -> torch.Tensor:
        return guided(prior, view.latents, view.timesteps, view.condition, scale).eps

    close(eps(7.5), eps(0.0) + 7.5 * (eps(1.0) - eps(0.0)), EXACT)
    cond = prior.predict(view.latents, view.timesteps, view.condition.cond)
    torch.testing.assert_close(eps(1.0), cond.eps)


def test_the_injected_gradient_is_the_autograd_of_half_the_squared_residual() -> None:
    x = torch.randn(2, 3, 4, 4, generator=generator(1), requires_grad=True)
    target = torch.randn(2, 3, 4, 4, generator=generator(2))
    (by_loss,) = torch.autograd.grad(0.5 * (x - target).square().sum(), x)
    (by_injection,) = torch.autograd.grad(inject(x, (x - target).detach()), x)
    torch.testing.assert_close(by_injection, by_loss)


# SDS and its relatives.


@pytest.mark.parametrize(
    ("name", "expected"), [("sds", 0.64), ("uniform", 1.0), ("sigma/alpha", 4 / 3), ("fantasia3d", 0.384)]
)
def test_weights_are_the_published_functions_of_alpha_and_sigma(name, expected) -> None:
    """FIELD P8: at alpha 0.6 and sigma 0.8, where 1 - abar is 0.64 and 1 - sqrt(abar) is 0.4."""
    schedule = Schedule(torch.tensor([1.0, 0.6]), torch.tensor([0.0, 0.8]))
    found = weight(name, schedule, torch.tensor([1, 1]), like=torch.zeros(2, 3, 4, 4))
    torch.testing.assert_close(found, torch.full((2, 1, 1, 1), expected))


def test_the_weight_sigma_over_alpha_makes_sds_the_x0_form() -> None:
    prior = TextPrior()
    view = four_views(prior)
    x_t = prior.schedule.add_noise(view.latents, view.noise, view.timesteps)
    x0 = guided(prior, x_t, view.timesteps, view.condition, 7.5).x0
    close(direction(SDS(7.5, "sigma/alpha"), view, prior), view.latents - x0, EXACT)


def test_sjc_equals_sds_with_uniform_weight() -> None:
    prior = TextPrior()
    view = four_views(prior)
    close(direction(SJC(7.5), view, prior), direction(SDS(7.5, "uniform"), view, prior), EXACT)


@pytest.mark.parametrize("variance_reduction", [True, False])
def test_sjc_is_the_score_of_the_perturbed_view_in_variance_exploding_letters(variance_reduction) -> None:
    prior = TextPrior()
    view = four_views(prior)
    alpha, sigma_t = prior.schedule.at(view.timesteps, view.latents)
    x, n, sigma = view.latents, view.noise, sigma_t / alpha
    z = x + sigma * n
    eps = guided(prior, z / (1.0 + sigma**2).sqrt(), view.timesteps, view.condition, 7.5).eps
    D = z - sigma * eps
    expected = -(D - x) / sigma if variance_reduction else -(D - z) / sigma
    rule = SJC(7.5, variance_reduction=variance_reduction)
    close(direction(rule, view, prior), expected, TABLES)


def test_perturbing_more_often_averages_what_single_perturbations_ask_for() -> None:
    prior = TextPrior()
    view = four_views(prior)
    noises = [view.noise, *torch.randn((2, *view.noise.shape), generator=generator(9)).double()]
    single = [direction(SJC(7.5), replace(view, noise=noise), prior) for noise in noises]
    together = direction(SJC(7.5, perturbations=3), view, prior, seed=9)
    close(together, torch.stack(single).mean(0), EXACT)


@pytest.mark.parametrize("negative", ["", "blurry"])
def test_sds_is_csd_times_the_excess_guidance_and_the_conditional_residual(negative) -> None:
    prior = TextPrior()
    view = four_views(prior, negative=negative)
    residual = w(prior, view) * (eps_of(prior, view) - view.noise)
    expected = (7.5 - 1.0) * direction(CSD(), view, prior) + residual
    close(direction(SDS(7.5), view, prior), expected, EXACT)


@pytest.mark.parametrize("rule", [CSD(), NFSD(), Bridge(warmup=0.0), Recon()], ids=str)
def test_what_guidance_adds_is_turned_away_from_the_conditions_negatives(rule) -> None:
    """d becomes d + weight perp(e_neg - e_uncond; d), which Perp-Neg defines and `guided` knows."""

    class Turning(TextPrior):
        weight = -1.0

        def condition(self, prompt, negative_prompt, cameras):
            plain = super().condition(prompt, negative_prompt, cameras)
            words = super().condition("", "another view", cameras).uncond
            return replace(plain, negatives=(Negative(words, torch.full((len(cameras),), self.weight)),))

    class Silent(Turning):
        weight = 0.0

    turning, silent, plain = Turning(), Silent(), TextPrior()
    view, still = four_views(turning), four_views(plain)
    assert not torch.allclose(direction(rule, view, turning), direction(rule, still, plain))
    torch.testing.assert_close(direction(rule, four_views(silent), silent), direction(rule, still, plain))
    turned = guided(turning, add_noise(turning, view), view.timesteps, view.condition, 1.0).eps
    expected = (15.0 - 1.0) * direction(CSD(), view, turning) + w(turning, view) * (turned - view.noise)
    close(direction(SDS(15.0), view, turning), expected, EXACT)


def test_csd_is_zero_where_the_prompt_changes_nothing() -> None:
    sets = pictures(3, 1)
    prior = FinitePrior(lambda cameras: sets.expand(len(cameras), -1, -1, -1, -1), 8)
    assert direction(CSD(), four_views(prior), prior).abs().max() == 0.0


@pytest.mark.parametrize("v", [0.0, 0.3, 1.0])
def test_csd_shares_out_what_it_turns_from_between_the_negative_and_the_empty_prompt(v) -> None:
    prior = TextPrior()
    view = four_views(prior)
    against = v * eps_of(prior, view, negative="blurry") + (1.0 - v) * eps_of(prior, view, negative="")
    expected = w(prior, view) * (eps_of(prior, view) - against)
    close(direction(CSD(negative_weight=v), view, prior), expected, EXACT)


def test_nfsd_adds_a_step_away_from_bad_pictures_once_there_is_noise() -> None:
    prior = TextPrior()
    view = four_views(prior)
    cond, null, neg = (
        eps_of(prior, view),
        eps_of(prior, view, negative=""),
        eps_of(prior, view, negative=view.negative_prompt),
    )
    d_D = torch.cat([null[:1], (null - neg)[1:]])  # timestep 120 lies below 0.2 T
    expected = w(prior, view) * (7.5 * (cond - null) + d_D)
    close(direction(NFSD(7.5), view, prior), expected, EXACT)


def test_nfsd_has_words_of_its_own_where_there_is_no_negative_prompt() -> None:
    prior = TextPrior()
    without, given = four_views(prior, negative=""), four_views(prior, negative="ugly dark")
    own = direction(NFSD(negative="ugly dark"), without, prior)
    close(own, direction(NFSD(negative="noisy"), given, prior), EXACT)
    assert not torch.allclose(own, direction(NFSD(negative="noisy"), without, prior))


def test_bridge_is_sds_until_its_warmup_ends() -> None:
    prior = TextPrior()
    view = four_views(prior, progress=0.79)
    close(direction(Bridge(7.5), view, prior), direction(SDS(7.5), view, prior), EXACT)


def test_bridge_then_leads_from_the_source_to_the_target() -> None:
    prior = TextPrior()
    view = four_views(prior, progress=0.8)
    source = eps_of(prior, view, prompt=f"{view.prompt}, noisy dark")
    expected = w(prior, view) * 7.5 * (eps_of(prior, view) - source)
    close(direction(Bridge(7.5, source="noisy dark"), view, prior), expected, EXACT)


# Residuals of the clean estimate.


def test_recon_without_rescaling_equals_sds_with_sigma_over_alpha() -> None:
    prior = TextPrior()
    view = four_views(prior)
    plain = direction(Recon(7.5, rescale=0.0), view, prior)
    close(plain, direction(SDS(7.5, "sigma/alpha"), view, prior), EXACT)


@pytest.mark.parametrize("group", [1, 2, 4])
def test_recon_gives_each_group_the_spread_that_it_has_without_guidance(group) -> None:
    prior = TextPrior()
    view = four_views(prior)
    x_t = prior.schedule.add_noise(view.latents, view.noise, view.timesteps)
    cond = guided(prior, x_t, view.timesteps, view.condition, 1.0).x0
    rescaled = view.latents - direction(Recon(7.5, rescale=1.0, group=group), view, prior)
    half = view.latents - direction(Recon(7.5, rescale=0.5, group=group), view, prior)
    plain = view.latents - direction(Recon(7.5, rescale=0.0, group=group), view, prior)
    for start in range(0, 4, group):
        rows = slice(start, start + group)
        # The rule's ratio carries 1e-8 in both terms against flat pictures.
        close(rescaled[rows].std(), cond[rows].std(), 1e-7)
    close(half, 0.5 * (rescaled + plain), EXACT)


def test_hifa_moves_latents_and_pictures_towards_one_estimate() -> None:
    prior = TextPrior()
    view = four_views(prior)
    gradient = asked(HiFA(7.5, steps=3, latent_weight=2.0, image_weight=0.3), view, prior)
    assert gradient.latents is not None
    x0 = view.latents - gradient.latents / 2.0
    close(gradient.targets, prior.decode(x0).clamp(0, 1), EXACT)
    close(gradient.targets, asked(SDEdit(7.5, steps=3), view, prior).targets, EXACT)
    assert gradient.weight == 0.3


def test_hifa_in_one_step_without_pictures_equals_sds_with_sigma_over_alpha() -> None:
    prior = TextPrior()
    view = four_views(prior)
    gradient = asked(HiFA(7.5, steps=1, image_weight=0.0), view, prior)
    close(gradient.latents, direction(SDS(7.5, "sigma/alpha"), view, prior), EXACT)
    assert gradient.targets is None
    assert asked(HiFA(7.5, latent_weight=0.0), view, prior).latents is None


def test_denoising_in_many_steps_arrives_where_the_probability_flow_of_a_gaussian_does() -> None:
    """Its flow keeps (x - alpha m) / sqrt(alpha^2 spread^2 + sigma^2) fixed on the way from x_t to clean latents."""
    mean, spread = pictures(1, 1)[0].double(), 0.3
    prior = GaussianPrior(mean, spread)
    view, m = four_views(prior), prior.encode(mean[None])
    alpha, sigma = prior.schedule.at(view.timesteps, view.latents)
    x_t = prior.schedule.add_noise(view.latents, view.noise, view.timesteps)
    arrival = m + spread * (x_t - alpha * m) / (alpha**2 * spread**2 + sigma**2).sqrt()

    def error(steps: int) -> float:
        x0 = denoised(prior, x_t, view.timesteps, view.condition, guidance_scale=1.0, steps=steps)
        return float((x0 - arrival).norm() / (arrival - m).norm())

    # Euler's method: the error falls with the size of a step.
    assert error(1) > 0.3
    assert error(100) < 0.02
    assert error(100) < 0.6 * error(50)


# Flow.


def flow_velocity(rows, x_s, s) -> torch.Tensor:
    """The velocity at time s of the rectified flow to a finite set: E[eps - x0 | x_s], on the flow's own path."""
    squares = (x_s.flatten(1)[:, None] - (1.0 - s).reshape(-1, 1, 1) * rows).square().sum(-1)
    posterior = torch.softmax(-squares / (2.0 * s.reshape(-1, 1) ** 2), dim=1)
    x0 = torch.einsum("bl,ble->be", posterior, rows).reshape(x_s.shape)
    return (x_s - x0) / s


def flow_time(prior: Prior, view: View) -> torch.Tensor:
    alpha, sigma = prior.schedule.at(view.timesteps, view.latents)
    return sigma / (alpha + sigma)


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction", "flow"])
def test_the_flow_residual_is_that_of_a_rectified_flow_of_the_same_pictures(kind) -> None:
    prior = TextPrior()
    prior.kind = kind
    view, s = four_views(prior), flow_time(prior, four_views(prior))
    x, e = view.latents, view.noise
    x_s = (1.0 - s) * x + s * e
    velocity = flow_velocity(view.condition.cond.tokens.double(), x_s, s)
    close(direction(Flow(1.0), view, prior), velocity - (e - x), TABLES)


@pytest.mark.parametrize("weighting", ["uniform", "sigmoid"])
def test_the_flow_residual_is_that_of_eps_over_one_minus_sigma(weighting) -> None:
    prior = TextPrior()
    view = four_views(prior)
    residual = direction(SDS(7.5, weighting), view, prior)
    close(direction(Flow(7.5, weighting), view, prior), residual / (1.0 - flow_time(prior, view)), EXACT)


@pytest.mark.parametrize("scale", [1.0, 7.5])
def test_reversed_flow_first_follows_the_velocity_of_the_prompt_alone_back_to_its_noise(scale) -> None:
    prior = TextPrior()
    view, s = four_views(prior), flow_time(prior, four_views(prior))
    x, e = view.latents, view.noise
    cond, uncond = view.condition.cond.tokens.double(), view.condition.uncond.tokens.double()
    e = e + (1.0 - s) * (flow_velocity(cond, (1.0 - s) * x + s * e, s) + x - e)
    asked_for, other = (flow_velocity(rows, (1.0 - s) * x + s * e, s) for rows in (cond, uncond))
    velocity = other + scale * (asked_for - other)
    close(direction(Flow(scale, reverse=True), view, prior), velocity - (e - x), TABLES)


def test_the_sigmoid_weight_is_the_law_of_a_normals_sigmoid_along_the_flow() -> None:
    schedule = cosine_schedule()
    s = (schedule.sigmas / (schedule.alphas + schedule.sigmas)).double()
    density = weight("sigmoid", schedule, torch.arange(len(schedule)), like=torch.zeros(len(schedule)).double())
    drawn = torch.sigmoid(torch.randn(200_000, generator=generator()).double())
    for low, high in [(0.0, 1.0), (0.1, 0.3), (0.5, 0.9)]:
        within = (s >= low) & (s <= high)
        share = ((drawn >= low) & (drawn <= high)).double().mean()
        # 200,000 draws have a standard error of 1e-3, and the trapezoids end up to a table's step early.
        torch.testing.assert_close(torch.trapezoid(density[within], s[within]), share, atol=5e-3, rtol=0)


# Where rules come to rest.

RESIDUALS = [
    SDS(1.0),
    SDS(1.0, "sigma/alpha"),
    SJC(1.0),
    SJC(1.0, perturbations=4),
    Flow(1.0),
    Flow(1.0, reverse=True),
    Recon(1.0),
    HiFA(1.0),
    SDEdit(1.0, steps=3),
    SDI(1.0),
]


@pytest.mark.parametrize("rule", RESIDUALS, ids=str)
def test_residual_rules_vanish_at_the_one_picture_that_the_prior_knows_and_only_there(rule) -> None:
    known = pictures(1, 1).double()
    prior = FinitePrior(lambda cameras: known.expand(len(cameras), 1, -1, -1, -1), 8)
    there = view_of(prior, known.expand(4, -1, -1, -1), TIMESTEPS)
    elsewhere = four_views(prior)

    def residual(view: View) -> torch.Tensor:
        gradient = asked(rule, view, prior)
        sizes = torch.zeros(4).double()
        if gradient.latents is not None:
            sizes = torch.maximum(sizes, gradient.latents.flatten(1).abs().amax(1))
        if gradient.targets is not None:
            sizes = torch.maximum(sizes, (view.images - gradient.targets).flatten(1).abs().amax(1))
        return sizes

    assert residual(there).max() < 1e-6  # the picture itself is float32
    assert residual(elsewhere).min() > 0.1


@pytest.mark.parametrize("timestep", [100, 500, 900])
def test_sds_at_a_gaussian_points_away_from_the_mean_on_average(timestep) -> None:
    """With noise n and -n the random parts cancel and leave w alpha sigma (x - m) / (alpha^2 spread^2 + sigma^2)."""
    mean, spread = pictures(1, 1)[0].double(), 0.3
    prior = GaussianPrior(mean, spread)
    view = view_of(prior, pictures(1, 2).double().expand(2, -1, -1, -1), [timestep, timestep])
    view = replace(view, noise=torch.cat([view.noise[:1], -view.noise[:1]]))
    alpha, sigma = (table[timestep].double() for table in (prior.schedule.alphas, prior.schedule.sigmas))
    m = prior.encode(mean[None])
    expected = sigma**2 * alpha * sigma * (view.latents[:1] - m) / (alpha**2 * spread**2 + sigma**2)
    gradient = direction(SDS(1.0), view, prior)
    close(gradient.mean(0, keepdim=True), expected, TABLES)


def test_sds_without_guidance_converges_to_the_mean_of_a_gaussian() -> None:
    mean = pictures(1, 1)[0].double()
    prior, images = GaussianPrior(mean, 0.3), pictures(1, 2).double().expand(2, -1, -1, -1)
    chance = generator(3)
    for _ in range(200):
        timestep = int(torch.randint(20, 981, (1,), generator=chance))
        view = view_of(prior, images, [timestep, timestep])
        noise = torch.randn(view.latents[:1].shape, generator=chance).double()
        view = replace(view, noise=torch.cat([noise, -noise]))
        images = prior.decode(view.latents - 0.5 * direction(SDS(1.0, "sigma/alpha"), view, prior).mean(0))
    torch.testing.assert_close(images[0], mean, atol=1e-6, rtol=0)
