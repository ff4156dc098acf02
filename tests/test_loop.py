"""The loop with exact priors: what it must do when the prior is perfect, and what must never change a run."""

from dataclasses import replace
from math import log, pi

import pytest
import torch
from _archs import untrained
from exact import FinitePrior, oracle
from tiny import tiny_prior_folder
from torch.utils._python_dispatch import TorchDispatchMode

from splatdream import loop
from splatdream.cameras import Cameras, orbit
from splatdream.catalog import configured
from splatdream.contracts import Gradient, Render
from splatdream.corpus.scenes import Scene, Thing, build
from splatdream.corpus.truth import render_truth
from splatdream.distill.sdedit import SDEdit
from splatdream.distill.sds import SDS
from splatdream.loop import State, begin, distillation_loss, dream, turn
from splatdream.recipe import Recipe
from splatdream.render.cpu import render
from splatdream.splats import Splats

SIZE = 32
RECIPE = Recipe(
    "a red ball",
    steps=60,
    count=300,
    device="cpu",
    renderer="cpu",
    timesteps="linear:high=0.9..0.5",
    background=(0.6, 0.6),
    background_tint=0.0,
    lr_means=(0.02, 0.005),
    lr_opacities=(0.1, 0.1),
)


def silhouette_iou(splats, solid) -> float:
    """Intersection over union of opaque pixels in five views that were never asked for."""
    cameras = orbit(5, SIZE)
    seen = render(splats, cameras).alphas > 0.5
    true = render_truth(solid, cameras).alphas > 0.5
    return float((seen & true).sum() / (seen | true).sum())


def last(steps) -> State:
    *_, step = steps
    return step.state


@pytest.mark.parametrize("rule", [SDS(1.0), SDEdit(1.0)])
def test_a_perfect_prior_makes_the_object(rule) -> None:
    solid = build(Scene(Thing("snowman", hat="red")))
    prior = oracle(solid, SIZE)
    states = [step.state for step in dream(RECIPE.replace(steps=140), prior=prior, distiller=rule)]
    before, after = silhouette_iou(states[0].splats, solid), silhouette_iou(states[-1].splats, solid)
    # The initial grey ball has about 0.4; thin arms at 32 pixels keep 300 Gaussians from 1.
    assert before < 0.5
    assert after > 0.8


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not() -> None:
    prior = oracle(build(Scene(Thing("ball"))), SIZE)
    recipe = RECIPE.replace(steps=3)
    runs = [last(dream(r, prior=prior)).splats for r in (recipe, recipe, recipe.replace(seed=1))]
    assert torch.equal(runs[0].means, runs[1].means)
    assert torch.equal(runs[0].sh0, runs[1].sh0)
    assert not torch.equal(runs[0].means, runs[2].means)


def test_a_run_taken_up_again_equals_one_that_never_stopped() -> None:
    prior = oracle(build(Scene(Thing("ball"))), SIZE)
    recipe = RECIPE.replace(steps=6, densify="mcmc:start=0.0,every=0.3")
    whole = last(dream(recipe, prior=prior))
    steps = dream(recipe, prior=prior)
    half = [next(steps) for _ in range(3)][-1].state
    generators = {}
    for name, generator in half.generators.items():
        generators[name] = torch.Generator()
        generators[name].set_state(generator.get_state())
    resumed = last(dream(recipe, prior=prior, state=replace(half, generators=generators)))
    for name, value in whole.splats.parameters().items():
        assert torch.equal(value, getattr(resumed.splats, name)), name


def test_changing_the_densifier_does_not_reshuffle_cameras_or_timesteps() -> None:
    prior = oracle(build(Scene(Thing("ball"))), SIZE)
    plain = list(dream(RECIPE.replace(steps=4), prior=prior))
    dense = list(dream(RECIPE.replace(steps=4, densify="mcmc:start=0.0,every=0.25"), prior=prior))
    assert [step.timesteps for step in plain] == [step.timesteps for step in dense]
    assert all(torch.equal(a.cameras.viewmats, b.cameras.viewmats) for a, b in zip(plain, dense, strict=True))


def test_what_a_rule_draws_does_not_reshuffle_what_it_is_asked() -> None:
    heard: dict[bool, list] = {False: [], True: []}

    class Drawing(SDS):
        draws = False

        def __call__(self, view, prior, state, generator):
            heard[self.draws].append((view.cameras.viewmats, view.backgrounds, view.noise, view.timesteps))
            if self.draws:
                torch.rand(7, generator=generator)
            return super().__call__(view, prior, state, generator)

    class DrawingMore(Drawing):
        draws = True

    prior = oracle(build(Scene(Thing("ball"))), SIZE)
    recipe = RECIPE.replace(steps=3, densify="mcmc:start=0.0,every=0.3", background=(0.2, 0.9))
    clouds = [last(dream(recipe, prior=prior, distiller=rule(1.0))).splats.means for rule in (Drawing, DrawingMore)]
    assert torch.equal(*clouds)
    for plain, drawing in zip(heard[False], heard[True], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(plain, drawing, strict=True))


def test_timesteps_stay_within_the_annealed_range() -> None:
    prior = oracle(build(Scene(Thing("ball"))), SIZE)
    recipe = RECIPE.replace(steps=8, count=20, timesteps="linear:low=0.1,high=0.9..0.3")
    for step in dream(recipe, prior=prior):
        high = 0.9 - 0.6 * step.index / 8
        assert all(100 <= t <= round(1000 * high) for t in step.timesteps)


def test_a_rule_hears_how_far_guidance_is_held_back() -> None:
    heard = []

    class Listening(SDS):
        def __call__(self, view, prior, state, generator):
            heard.append(view.condition.rescale)
            return super().__call__(view, prior, state, generator)

    prior = oracle(build(Scene(Thing("ball"))), SIZE)
    next(dream(RECIPE.replace(guidance_rescale=0.7), prior=prior, distiller=Listening()))
    assert heard == [0.7]


def test_the_rules_gradient_is_clipped_to_limits_that_move_over_the_run() -> None:
    prior = oracle(build(Scene(Thing("ball"))), SIZE)
    recipe = RECIPE.replace(steps=4, count=20)
    free = [step.residual for step in dream(recipe, prior=prior, distiller=SDS(1.0))]
    assert min(free) > 0.02
    held = dream(recipe.replace(clip_rms=(0.02, 0.01)), prior=prior, distiller=SDS(1.0))
    assert [step.residual for step in held] == pytest.approx([0.02, 0.0175, 0.015, 0.0125])
    held = dream(recipe.replace(clip_value=(0.02, 0.01)), prior=prior, distiller=SDS(1.0))
    assert all(step.residual <= limit for step, limit in zip(held, (0.02, 0.0175, 0.015, 0.0125), strict=True))


@pytest.mark.parametrize("weight", ["weight_variance", "weight_normals", "weight_consistency"])
def test_a_consistency_term_moves_the_splats_and_costs_nothing_while_it_is_off(weight) -> None:
    looks = []

    def counting(*arguments, **options):
        looks.append(arguments)
        return render(*arguments, **options)

    prior = oracle(build(Scene(Thing("ball"))), SIZE)
    plain, asked = (
        last(dream(RECIPE.replace(steps=1, **{weight: value}), prior=prior, renderer=counting, distiller=SDS(1.0)))
        for value in (0.0, 1000.0)
    )
    assert not torch.equal(plain.splats.means, asked.splats.means)
    assert len(looks) == (2 if weight == "weight_normals" else 3)


def test_a_share_of_the_views_is_shown_under_a_lamp() -> None:
    prior = oracle(build(Scene(Thing("ball"))), SIZE)
    plain, lit = (next(dream(RECIPE.replace(shading=share), prior=prior, distiller=SDS(1.0))) for share in (0.0, 0.5))
    assert torch.equal(plain.cameras.viewmats, lit.cameras.viewmats)
    changed = (plain.images - lit.images).flatten(1).abs().amax(1) > 0.01
    assert bool(changed.any())
    assert not bool(changed.all())


def test_views_that_a_prior_sees_together_stand_all_around_and_share_a_timestep() -> None:
    prior = oracle(build(Scene(Thing("ball"))), SIZE)
    prior.group = 2
    step = next(dream(RECIPE.replace(views=6, count=20), prior=prior, distiller=SDS(1.0)))
    timesteps = torch.tensor(step.timesteps).reshape(3, 2)
    assert bool((timesteps[:, 0] == timesteps[:, 1]).all())
    assert len(timesteps[:, 0].unique()) > 1
    first, second = step.cameras.azimuths.reshape(3, 2).unbind(1)
    # Six strata of 60 degrees with jitter of half of one: two of a pair are 180 degrees apart, within 30.
    assert bool((torch.remainder(second - first, 2 * pi) - pi).abs().le(pi / 6 + 1e-5).all())
    with pytest.raises(ValueError, match="multiple of that; got 3"):
        next(dream(RECIPE.replace(views=3), prior=prior, distiller=SDS(1.0)))


class Night:
    """A rule that wants every view black, whatever is before or behind it."""

    def init(self, prior, generator) -> None:
        return None

    def __call__(self, view, prior, state, generator) -> tuple[Gradient, None]:
        return Gradient(targets=torch.zeros_like(view.images)), None


def grown_at_night(splats: Splats | None = None, **changes) -> Splats:
    # So many that none begins wider than the bound.
    recipe = RECIPE.replace(steps=40, count=800, lr_scales=(0.1, 0.1), **changes)
    prior = oracle(build(Scene(Thing("ball"))), SIZE)
    return last(dream(recipe, prior=prior, distiller=Night(), splats=splats)).splats


def widest_at_night(splats: Splats | None = None, **changes) -> float:
    return float(grown_at_night(splats, **changes).scales.max())


def test_no_gaussian_grows_into_fog_that_hides_the_background() -> None:
    assert widest_at_night(largest_scale=0.0) > 1.0
    assert widest_at_night() == pytest.approx(0.15)


def test_no_gaussian_settles_as_haze_outside_of_the_ball() -> None:
    def farthest(**changes) -> float:
        return float(grown_at_night(**changes).means.norm(dim=-1).max())

    assert farthest(weight_position=1.0) > 1.1
    assert farthest() < 1.03


def test_a_gaussian_that_comes_wider_than_the_bound_keeps_its_width() -> None:
    (step,) = dream(RECIPE.replace(steps=1), prior=oracle(build(Scene(Thing("ball"))), SIZE), distiller=Night())
    wide = step.state.splats.replace(log_scales=torch.full_like(step.state.splats.log_scales, log(0.6)))
    assert widest_at_night(wide) == pytest.approx(0.6)


def test_what_a_rule_asks_for_counts_as_the_mean_over_the_views() -> None:
    latents = torch.zeros(4, 3, 2, 2, requires_grad=True)
    images = torch.full((4, 2, 2, 3), 0.5, requires_grad=True)
    gradient = Gradient(latents=torch.full((4, 3, 2, 2), 8.0), targets=torch.zeros(4, 2, 2, 3), weight=16.0)
    distillation_loss(gradient, latents, images).backward()
    assert torch.equal(latents.grad, torch.full((4, 3, 2, 2), 2.0))
    assert torch.equal(images.grad, torch.full((4, 2, 2, 3), 2.0))  # 16 (0.5 - 0) / 4


def test_a_prior_that_answers_nonsense_stops_the_run_and_names_the_step() -> None:
    class Broken(FinitePrior):
        def predict(self, latents, timesteps, embedding):
            prediction = super().predict(latents, timesteps, embedding)
            return replace(prediction, value=prediction.value * float("nan"))

    good = oracle(build(Scene(Thing("ball"))), SIZE)
    with pytest.raises(FloatingPointError, match="step 0"):
        next(dream(RECIPE, prior=Broken(good.pictures, SIZE)))


def test_the_negative_prompt_may_not_hold_words_that_the_prior_does_not_know(tmp_path) -> None:
    folder = tiny_prior_folder(tmp_path)
    with pytest.raises(ValueError, match="'gloomy'"):
        next(dream(RECIPE.replace(prompt="a red mug", negative_prompt="gloomy", prior=str(folder))))


class Waits(TorchDispatchMode):
    """Counts the copies to a device for which the host waits."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        copied = func(*args, **(kwargs or {}))
        if func.overloadpacket is torch.ops.aten._to_copy and copied.device != args[0].device:
            self.count += not (kwargs or {}).get("non_blocking", False)
        return copied


@pytest.mark.parametrize("arch", ["sd15", "sdxl"])
def test_nothing_waits_for_the_device_between_a_picture_and_its_gradient(arch, monkeypatch) -> None:
    """On torch's meta device, from which no number can be read at all."""
    prior, device = untrained(arch, 64, device="meta"), torch.device("meta")
    recipe = Recipe("a red ball", distill="sds", views=2, count=20, weight_normals=1.0)
    rule, growth = configured("distiller", recipe.distill), configured("densifier", recipe.densify)
    state = begin(recipe, prior, rule, growth, None, device)
    prior.condition(recipe.prompt, recipe.negative_prompt, orbit(36, 8, elevation=1.3))  # texts are asked about once
    prior.condition(recipe.prompt, recipe.negative_prompt, orbit(36, 8))
    arrived, waits = [], Waits()

    def draw(splats: Splats, cameras: Cameras, backgrounds=None) -> Render:
        waits.count = 0
        shade = sum(value.sum() for value in splats.parameters().values())
        shape = len(cameras), cameras.height, cameras.width
        features, alphas, depths = (torch.ones(*shape, channels, device=device) * shade for channels in (3, 1, 1))
        screen = torch.ones(len(cameras), len(splats), 2, device=device)
        return Render(features, alphas, depths, screen, torch.ones(screen.shape, dtype=torch.int32, device=device))

    def checked(values) -> None:
        arrived.append(waits.count)
        raise FloatingPointError("numbers are read now")

    splats = Splats.requires_grad

    def watched(self: Splats) -> Splats:
        leaves = splats(self)
        leaves.means.register_post_accumulate_grad_hook(lambda leaf: arrived.append("gradient"))
        return leaves

    monkeypatch.setattr(loop, "check_finite", checked)
    monkeypatch.setattr(Splats, "requires_grad", watched)
    with waits, pytest.raises(FloatingPointError, match="numbers are read now"):
        turn(recipe, state, prior, draw, rule, growth, configured("timesteps", recipe.timesteps))
    assert arrived == ["gradient", 0]
