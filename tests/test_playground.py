"""The playground with exact priors: it arrives where a perfect prior points, and repeats and continues exactly."""

from dataclasses import dataclass, replace

import pytest
import torch
from exact import FinitePrior, GaussianPrior, TextPrior

from splatdream.cameras import orbit
from splatdream.catalog import CATALOG, configured
from splatdream.distill.hifa import HiFA
from splatdream.distill.sdedit import SDEdit
from splatdream.distill.sds import SDS
from splatdream.playground import Latents, Pixels, State, playground, shown
from splatdream.recipe import Recipe

SIZE = 8
RECIPE = Recipe("a red ball", steps=60, views=2, device="cpu", distill="sds:guidance_scale=1")
spaces = pytest.mark.parametrize("space", [Latents(), Pixels()])


def truth() -> torch.Tensor:
    return torch.rand(SIZE, SIZE, 3, generator=torch.Generator().manual_seed(5))


def one_picture() -> FinitePrior:
    return FinitePrior(lambda cameras: truth().expand(len(cameras), 1, -1, -1, -1), SIZE)


def last(frames) -> State:
    *_, frame = frames
    return frame.state


def same(one: State, other: State) -> bool:
    tensors = all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("canvas", "exp_avg", "exp_avg_sq"))
    chance = all(
        torch.equal(one.generators[name].get_state(), other.generators[name].get_state()) for name in one.generators
    )
    return tensors and chance and (one.step, one.moves) == (other.step, other.moves)


@spaces
@pytest.mark.parametrize("rule", [SDS(1.0), SDEdit(1.0), HiFA(1.0)])
def test_where_the_prior_knows_one_picture_the_playground_arrives_at_it(rule, space) -> None:
    prior = one_picture()
    frames = [*playground(RECIPE.replace(steps=180), prior=prior, distiller=rule, space=space)]
    found = shown(prior, space, frames[-1].state.canvas)
    assert float((frames[0].images - truth()).abs().max()) > 0.3
    # Adam's last steps are about as long as its learning rate: 0.005 of pixels, 0.02 of latents that span 2.
    assert float((found - truth()).abs().max()) < 0.02


@spaces
def test_it_starts_from_the_plain_background_of_its_view(space) -> None:
    frame = next(playground(RECIPE, prior=one_picture(), space=space))
    # The exact prior's encoder doubles and halves: one rounding.
    torch.testing.assert_close(frame.images, frame.state.backgrounds[:, None, None].expand(-1, SIZE, SIZE, -1))


def test_pixels_stay_pictures_however_far_a_rule_pushes() -> None:
    frames = playground(RECIPE.replace(steps=20), prior=TextPrior(), distiller=SDS(100.0), space=Pixels())
    canvas = last(frames).canvas
    assert 0.0 <= float(canvas.min()) <= float(canvas.max()) <= 1.0


@pytest.mark.parametrize("name", [name for name in CATALOG["distiller"] if name != "vsd"])
@spaces
def test_every_rule_paints(name, space) -> None:
    # vsd wants a student, which exact priors have not; the command line's tests let it paint.
    recipe = RECIPE.replace(steps=2, views=4, negative_prompt="blurry")
    prior = TextPrior()
    prior.group = 4 if name == "recon" else 1
    frames = [*playground(recipe, prior=prior, distiller=configured("distiller", name), space=space)]
    assert all(frame.residual > 0 for frame in frames)
    assert not torch.equal(frames[0].images, shown(prior, space, frames[1].state.canvas))


@spaces
def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(space) -> None:
    recipe = RECIPE.replace(steps=3)
    one, again, other = (
        last(playground(r, prior=GaussianPrior(truth(), 0.3), space=space))
        for r in (recipe, recipe, recipe.replace(seed=1))
    )
    assert same(one, again)
    assert not torch.equal(one.canvas, other.canvas)


@spaces
@pytest.mark.parametrize("rule", ["sds", "sdedit", "sjc:perturbations=2"])
def test_a_stopped_run_taken_up_again_equals_one_that_never_stopped(rule, space) -> None:
    recipe = RECIPE.replace(steps=6, distill=rule)
    prior = TextPrior()
    frames = [*playground(recipe, prior=prior, space=space)]
    resumed = last(playground(recipe, prior=prior, space=space, state=frames[2].state))
    assert same(frames[-1].state, resumed)


def test_cameras_win_over_the_number_of_views_and_the_prior_is_asked_from_them() -> None:
    asked = []

    class Listening(TextPrior):
        def condition(self, prompt, negative_prompt, cameras):
            asked.append((cameras.azimuths.tolist(), cameras.height))
            return super().condition(prompt, negative_prompt, cameras)

    cameras = orbit(1, 100).turned(1.5)
    frame = next(playground(RECIPE, prior=Listening(SIZE), cameras=cameras))
    assert len(frame.images) == 1
    assert asked[0] == (pytest.approx([1.5]), SIZE)


def test_limits_on_the_gradient_hold_here_too() -> None:
    recipe = RECIPE.replace(steps=4, clip_rms=(0.02, 0.01))
    residuals = [frame.residual for frame in playground(recipe, prior=one_picture())]
    assert residuals == pytest.approx([0.02, 0.0175, 0.015, 0.0125])


def test_rules_that_give_pictures_share_them_among_inner_steps() -> None:
    prior = one_picture()
    for rule, moves in ((SDEdit(1.0), 12), (SDS(1.0), 4)):
        assert last(playground(RECIPE.replace(steps=4), prior=prior, distiller=rule)).moves == moves


def test_a_prior_that_answers_nonsense_stops_the_run_and_names_the_step() -> None:
    class Broken(FinitePrior):
        def predict(self, latents, timesteps, embedding):
            answer = super().predict(latents, timesteps, embedding)
            return replace(answer, value=answer.value * float("nan"))

    broken = Broken(one_picture().pictures, SIZE)
    with pytest.raises(FloatingPointError, match="step 0: the gradient of the picture is not finite"):
        next(playground(RECIPE, prior=broken))


def test_a_rule_that_comes_to_nonsense_stops_the_run_and_names_the_step() -> None:
    @dataclass(frozen=True)
    class Failing(SDS):
        def __call__(self, view, prior, state, generator):
            if view.progress:
                raise FloatingPointError("the gradient of the student's loss is not finite")
            return super().__call__(view, prior, state, generator)

    with pytest.raises(FloatingPointError, match="step 1: the gradient of the student's loss"):
        last(playground(RECIPE, prior=one_picture(), distiller=Failing()))


def test_every_view_and_every_step_has_noise_and_a_timestep_of_its_own() -> None:
    seen = []

    @dataclass(frozen=True)
    class Watching(SDS):
        def __call__(self, view, prior, state, generator):
            seen.append(view)
            return super().__call__(view, prior, state, generator)

    recipe = RECIPE.replace(steps=2, views=3, guidance_rescale=0.4)
    last(playground(recipe, prior=one_picture(), distiller=Watching()))
    noises = torch.cat([view.noise for view in seen]).flatten(1)
    # Six draws of 192 normal numbers: the correlation of two has a standard deviation of 0.07.
    assert (torch.corrcoef(noises) - torch.eye(6)).abs().max() < 0.4
    assert len(torch.cat([view.timesteps for view in seen]).unique()) == 6
    assert [view.condition.rescale for view in seen] == [0.4, 0.4]


@pytest.mark.parametrize("rates", [(0.0, 0.1), (0.1, -1.0), (float("inf"), 0.1)])
def test_learning_rates_that_cannot_fall_by_equal_factors_are_refused(rates) -> None:
    with pytest.raises(ValueError, match="above 0 and finite at both ends"):
        Latents(rates)
