"""Variational score distillation: against exact students, and with a LoRA of a small UNet."""

from dataclasses import replace

import pytest
import torch
from exact import FinitePrior
from tiny import tiny_prior_folder

from splatdream.cameras import orbit
from splatdream.checkpoint import load_recipe, load_state, save_state
from splatdream.contracts import Student, Teacher, View
from splatdream.distill.sds import SDS
from splatdream.distill.teaching import student_loss, taught, untaught, weights_of
from splatdream.distill.vsd import VSD
from splatdream.guidance import guided
from splatdream.loop import dream
from splatdream.priors.diffusion import DiffusionPrior
from splatdream.priors.student import LoRAStudent
from splatdream.recipe import Recipe
from splatdream.schedule import Prediction

SIZE = 8


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module", params=[False, True], ids=["deaf to cameras", "told cameras"])
def prior(request, tmp_path_factory) -> DiffusionPrior:
    return DiffusionPrior.load(tiny_prior_folder(tmp_path_factory.mktemp("prior"), cameras=request.param))


def view_of(prior, timesteps: list[int], seed: int = 0, prompt: str = "a red mug") -> View:
    size = prior.image_size
    images = torch.rand(len(timesteps), size, size, 3, generator=seeded(seed))
    cameras = orbit(len(images), size)
    with torch.no_grad():
        latents = prior.encode(images)
    noise = torch.randn(latents.shape, generator=seeded(seed + 1))
    condition = prior.condition(prompt, "", cameras)
    return View(latents, noise, torch.tensor(timesteps), condition, cameras, torch.zeros(len(images), 3), images, 0.5)


class SureStudent:
    """Believes that there is nothing but the pictures it was given: the exact denoiser of a point mass at each."""

    def __init__(self, schedule, latents: torch.Tensor) -> None:
        self.schedule, self.latents, self.asked = schedule, latents, 0

    def init(self, generator: torch.Generator) -> dict[str, torch.Tensor]:
        return {"idle": torch.zeros(1)}

    def predict(self, weights, latents, timesteps, embedding, cameras) -> Prediction:
        self.asked += len(latents)
        alpha, sigma = self.schedule.at(timesteps, latents)
        return Prediction("sample", self.latents + 0.0 * weights["idle"].sum(), latents, alpha, sigma)


class TeachingPrior(FinitePrior):
    """An exact prior whose student knows the current render exactly."""

    def __init__(self, latents: torch.Tensor) -> None:
        asked, empty = torch.rand(2, 3, SIZE, SIZE, 3, generator=seeded(5))
        super().__init__(
            lambda cameras: asked.expand(len(cameras), -1, -1, -1, -1),
            SIZE,
            lambda cameras: empty.expand(len(cameras), -1, -1, -1, -1),
        )
        self.pupil = SureStudent(self.schedule, latents)

    def student(self, rank: int) -> SureStudent:
        return self.pupil


def exact_case(timesteps: list[int]) -> tuple[TeachingPrior, View]:
    plain = TeachingPrior(torch.zeros(1))
    view = view_of(plain, timesteps)
    return TeachingPrior(view.latents), view


def row(view: View, k: int) -> View:
    names = ("latents", "noise", "timesteps", "condition", "backgrounds", "images")
    parts = {name: getattr(view, name)[k : k + 1] for name in names}
    return replace(view, cameras=view.cameras[k], **parts)


def asked(rule, view: View, prior, state=None, seed: int = 0) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The gradient that the rule asks for, from a fresh state unless one is given, and the state after it."""
    gradient, state = rule(view, prior, rule.init(prior, seeded()) if state is None else state, seeded(seed))
    assert gradient.latents is not None
    return gradient.latents, state


# ---- the rule


def test_with_a_student_sure_of_the_current_render_vsd_is_sds() -> None:
    prior, view = exact_case([200, 500, 900])
    by_vsd, _ = asked(VSD(7.5), view, prior)
    by_sds, _ = asked(SDS(7.5), view, prior)
    # The student's noise is (x_t - alpha x) / sigma in float32.
    torch.testing.assert_close(by_vsd, by_sds, atol=1e-5, rtol=1e-5)


def test_before_its_first_lesson_the_student_leaves_the_guidance_alone(prior) -> None:
    """eps_student = eps_cond, so that VSD begins as (g - 1) w (eps_cond - eps_uncond)."""
    view = view_of(prior, [100, 500, 900])
    gradient, _ = asked(VSD(7.5, "uniform"), view, prior)
    x_t = prior.schedule.add_noise(view.latents, view.noise, view.timesteps)
    cond, uncond = (guided(prior, x_t, view.timesteps, view.condition, scale).eps for scale in (1.0, 0.0))
    torch.testing.assert_close(gradient, 6.5 * (cond - uncond), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("lessons", [0, 1, 3])
def test_a_view_costs_three_evaluations_and_one_a_lesson(lessons) -> None:
    prior, view = exact_case([200, 500, 900])
    asked(VSD(student_steps=lessons), view, prior)
    assert prior.evaluations == 2 * 3
    assert prior.pupil.asked == (1 + lessons) * 3


def test_lessons_are_of_the_views_under_the_prompt_at_timesteps_and_with_noise_of_their_own() -> None:
    prior, view = exact_case([500, 500])
    told = []

    class Listening(SureStudent):
        def predict(self, weights, latents, timesteps, embedding, cameras) -> Prediction:
            told.append((latents, timesteps, embedding, cameras))
            return super().predict(weights, latents, timesteps, embedding, cameras)

    prior.pupil = Listening(prior.schedule, view.latents)
    asked(VSD(student_steps=60), view, prior)
    assert all(embedding is view.condition.cond and cameras is view.cameras for *_, embedding, cameras in told)
    latents, timesteps = (torch.cat(parts) for parts in list(zip(*told[1:], strict=True))[:2])
    alpha, sigma = prior.schedule.at(timesteps, latents)
    noises = ((latents - alpha * view.latents.repeat(60, 1, 1, 1)) / sigma).flatten(1)
    # Of 120 draws over 1000 timesteps, both ends are missed by a tenth once in 150,000 cases.
    assert timesteps.min() < 100
    assert timesteps.max() >= 900
    # Of 121 draws of 192 normal numbers; a correlation has a standard deviation of 0.07, rounding adds less.
    correlations = torch.corrcoef(torch.cat([noises, view.noise[:1].flatten(1)])) - torch.eye(121)
    assert correlations.abs().max() < 0.5
    assert noises.std() == pytest.approx(1.0, abs=0.02)
    # The student is sure of what is there, and so has nothing to learn.
    assert student_loss(prior.pupil, {"idle": torch.zeros(1)}, view, prior, seeded()) < 1e-6


def test_a_batch_equals_its_single_views_while_the_student_rests(prior) -> None:
    rule = VSD(student_steps=0)
    whole = view_of(prior, [20, 400, 980])
    state = lessons(prior, whole, 3)
    together, same = asked(rule, whole, prior, state)
    assert same is state
    for k in range(3):
        single, _ = asked(rule, row(whole, k), prior, state)
        torch.testing.assert_close(together[k : k + 1], single, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("t", [0, 999])
def test_gradients_are_finite_at_both_ends(prior, t) -> None:
    for weighting in ("sds", "sigma/alpha"):
        gradient, state = asked(VSD(weighting=weighting), view_of(prior, [t]), prior)
        assert gradient.isfinite().all()
        assert all(value.isfinite().all() for value in state.values())


def test_equal_generators_give_equal_lessons_and_inputs_stay(prior) -> None:
    rule, view = VSD(), view_of(prior, [300, 700])
    state = rule.init(prior, seeded(2))
    assert all(torch.equal(value, state[name]) for name, value in rule.init(prior, seeded(2)).items())
    kept = {name: value.clone() for name, value in state.items()}
    latents = view.latents.clone()
    first, second, other = (asked(rule, view, prior, state, seed)[1] for seed in (3, 3, 4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    assert all(torch.equal(state[name], kept[name]) for name in kept)
    assert torch.equal(view.latents, latents)


# ---- the student


def lessons(prior, view: View, count: int, learning_rate: float = 1e-2) -> dict[str, torch.Tensor]:
    student, generator = prior.student(4), seeded(7)
    state = untaught(student, generator)
    for _ in range(count):
        state = taught(student, state, view, prior, learning_rate=learning_rate, generator=generator)
    return state


def test_a_diffusion_prior_is_a_teacher(prior) -> None:
    assert isinstance(prior, Teacher)


def test_a_fresh_student_predicts_what_the_prior_predicts_bit_for_bit(prior) -> None:
    view = view_of(prior, [10, 500, 990])
    student = prior.student(4)
    assert isinstance(student, Student)
    weights = student.init(seeded())
    with torch.no_grad():
        for embedding in (view.condition.cond, view.condition.uncond):
            answer = student.predict(weights, view.noise, view.timesteps, embedding, view.cameras)
            assert torch.equal(answer.value, prior.predict(view.noise, view.timesteps, embedding).value)
    firsts = [name for name in weights if "lora_A" in name or name.endswith("first.weight")]
    lasts = [name for name in weights if "lora_B" in name or ".last." in name]
    assert all(weights[name].std() > 0 for name in firsts)
    assert all(weights[name].eq(0).all() for name in lasts)
    # Two attention blocks at each of three places, four projections each.
    assert len([name for name in firsts if "lora_A" in name]) == 2 * 4 * len(prior.unet.attn_processors) // 2


def test_a_student_of_a_prior_in_half_precision_learns_in_full(prior, tmp_path) -> None:
    cameras = prior.unet.config.class_embed_type is not None
    half = DiffusionPrior.load(tiny_prior_folder(tmp_path, cameras=cameras), dtype=torch.bfloat16)
    view, student = view_of(half, [10, 500, 990]), half.student(4)
    weights = student.init(seeded())
    with torch.no_grad():
        answer = student.predict(weights, view.noise, view.timesteps, view.condition.cond, view.cameras).value
    assert torch.equal(answer, half.predict(view.noise, view.timesteps, view.condition.cond).value)
    assert {answer.dtype} == {value.dtype for value in weights_of(lessons(half, view, 1)).values()} == {torch.float32}

    def slope(prior: DiffusionPrior) -> torch.Tensor:
        weights = {name: value.requires_grad_() for name, value in prior.student(4).init(seeded()).items()}
        student_loss(prior.student(4), weights, view_of(prior, [10, 500, 990]), prior, seeded()).backward()
        return torch.cat([value.grad.flatten() for value in weights.values() if value.grad is not None])

    # bfloat16 keeps 8 bits of every layer's answer.
    assert torch.cosine_similarity(slope(half), slope(prior), dim=0) > 0.98
    gradient, _ = asked(VSD(), view, half)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("views", [1, 2])
def test_a_student_learns_in_portions_what_it_learns_at_once(prior, views, monkeypatch) -> None:
    view, student = view_of(prior, [10, 500, 990]), prior.student(4)
    expected, seen = lessons(prior, view, 3), []
    forward = student._unet.forward
    monkeypatch.setattr(student._portions, "views", views)
    monkeypatch.setattr(
        student._unet, "forward", lambda x, *told, **more: seen.append(len(x)) or forward(x, *told, **more)
    )
    for name, value in lessons(prior, view, 3).items():
        # Sums over views in another order, which Adam's first steps make the most of.
        torch.testing.assert_close(value, expected[name], atol=1e-4, rtol=1e-3)
    assert max(seen) == views


def test_a_student_that_runs_out_of_memory_goes_on_with_fewer_views(prior, monkeypatch) -> None:
    view, student = view_of(prior, [10, 500, 990]), prior.student(4)
    expected, forward = lessons(prior, view, 1), student._unet.forward

    def small(x, *told, **more):
        if len(x) > 1:
            raise torch.OutOfMemoryError("no room")
        return forward(x, *told, **more)

    monkeypatch.setattr(student._portions, "views", None)
    monkeypatch.setattr(student._unet, "forward", small)
    with pytest.warns(UserWarning, match="out of memory with 3 views at once: going on with 1"):
        found = lessons(prior, view, 1)
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], atol=1e-4, rtol=1e-3)


def test_the_prior_stays_untouched_by_its_student(prior) -> None:
    view = view_of(prior, [200, 800])
    before = prior.predict(view.noise, view.timesteps, view.condition.cond).value
    names = {name: value.clone() for name, value in prior.unet.state_dict().items()}
    state = lessons(prior, view, 5)
    with torch.no_grad():
        answer = prior.student(4).predict(
            weights_of(state), view.noise, view.timesteps, view.condition.cond, view.cameras
        )
    assert not torch.allclose(answer.value, before)
    assert torch.equal(prior.predict(view.noise, view.timesteps, view.condition.cond).value, before)
    assert prior.unet.state_dict().keys() == names.keys()
    assert all(torch.equal(value, names[name]) for name, value in prior.unet.state_dict().items())
    assert all(not value.requires_grad and value.grad is None for value in prior.unet.parameters())


def test_a_student_shares_the_priors_memory_and_draws_nothing_from_the_global_generator(tmp_path) -> None:
    prior = DiffusionPrior.load(tiny_prior_folder(tmp_path))
    torch.manual_seed(11)
    state = torch.random.get_rng_state()
    student = prior.student(3)
    student.init(seeded())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert prior.student(3) is student
    ours = {value.data_ptr() for value in prior.unet.parameters()}
    assert isinstance(student, LoRAStudent)
    assert {value.data_ptr() for value in student._unet.parameters() if not value.is_meta} == ours


def test_the_student_learns_what_the_views_look_like_and_from_where(prior) -> None:
    """Front and back differ under the same words: the loss falls, and rises where they are swapped."""
    sides = [0, 1] * 4
    view = view_of(prior, [500] * 8)
    front_and_back = torch.tensor([1.5, -1.5])[sides].reshape(8, 1, 1, 1) * torch.ones(8, 4, 4, 4)
    condition, cameras = view.condition[[0] * 8], orbit(2, prior.image_size)[sides]
    view = replace(view, latents=front_and_back, condition=condition, cameras=cameras)
    student, state = prior.student(4), lessons(prior, view, 25, learning_rate=0.03)

    @torch.no_grad()
    def loss(state: dict[str, torch.Tensor], view: View) -> float:
        return sum(float(student_loss(student, weights_of(state), view, prior, seeded(k))) for k in range(5)) / 5

    before = loss(untaught(student, seeded(7)), view)
    assert loss(state, view) < 0.92 * before
    assert loss(state, replace(view, cameras=cameras[sides[::-1]])) > 1.1 * loss(state, view)


def test_lessons_are_those_of_torchs_adam(prior) -> None:
    view, student = view_of(prior, [500, 600]), prior.student(4)
    state = lessons(prior, view, 3)
    generator = seeded(7)
    weights = {name: value.requires_grad_() for name, value in student.init(generator).items()}
    optimiser = torch.optim.Adam(weights.values(), lr=1e-2)
    for _ in range(3):
        optimiser.zero_grad()
        student_loss(student, weights, view, prior, generator).backward()
        optimiser.step()
    assert state["step"] == 3
    for name, value in weights_of(state).items():
        assert torch.equal(value, weights[name].detach()), name


def test_a_lesson_from_broken_latents_stops_the_run(prior) -> None:
    view = view_of(prior, [500])
    view.latents[0, 0, 0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match="student"):
        lessons(prior, view, 1)


def test_the_camera_is_told_to_the_student_of_a_deaf_prior(tmp_path) -> None:
    prior = DiffusionPrior.load(tiny_prior_folder(tmp_path))
    student, cameras = prior.student(2), orbit(2, 32)
    weights = student.init(seeded())
    weights = {name: torch.ones_like(value) if ".last." in name else value for name, value in weights.items()}
    embedding = prior.condition("a red mug", "", cameras[[0, 0]]).cond
    latents, timesteps = torch.ones(2, 4, 4, 4), torch.tensor([500, 500])
    with torch.no_grad():
        front, back = student.predict(weights, latents, timesteps, embedding, cameras).value
    assert not torch.allclose(front, back)


# ---- the run


def test_a_run_with_a_student_taken_up_from_a_file_equals_one_that_never_stopped(prior, tmp_path) -> None:
    recipe = Recipe(
        "a red mug", steps=4, views=2, count=30, device="cpu", renderer="dense", distill="vsd:learning_rate=0.01"
    )
    *_, whole = dream(recipe, prior=prior)
    steps = dream(recipe, prior=prior)
    save_state([next(steps) for _ in range(2)][-1].state, tmp_path / "state", recipe)
    *_, resumed = dream(load_recipe(tmp_path / "state"), prior=prior, state=load_state(tmp_path / "state"))
    ours, theirs = whole.state.rule or {}, resumed.state.rule or {}
    assert ours["step"] == 4
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name
    for name, value in whole.state.splats.parameters().items():
        assert torch.equal(value, resumed.state.splats.parameters()[name]), name


def test_a_prior_that_can_give_no_student_is_refused_before_the_first_step() -> None:
    pictures = torch.rand(1, 1, SIZE, SIZE, 3, generator=seeded())
    prior = FinitePrior(lambda cameras: pictures.expand(len(cameras), -1, -1, -1, -1), SIZE)
    recipe = Recipe("a mug", steps=1, views=1, count=10, device="cpu", renderer="dense", distill="vsd")
    with pytest.raises(ValueError, match=r"FinitePrior can give none; use the built-in prior .* sds, ism or sdi"):
        next(dream(recipe, prior=prior))


def test_a_state_that_was_never_begun_is_refused(prior) -> None:
    with pytest.raises(ValueError, match="begin with what `init` returns"):
        VSD()(view_of(prior, [500]), prior, None, seeded())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank of vsd"),
        ({"learning_rate": 0.0}, "learning_rate of vsd"),
        ({"student_steps": -1}, "student_steps of vsd"),
        ({"weighting": "unifrom"}, "uniform"),
    ],
)
def test_options_out_of_range_are_refused_by_name(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        VSD(**options)
