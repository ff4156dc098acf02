"""Score distillation against priors whose score is exact."""

from dataclasses import replace

import pytest
import torch
from exact import FinitePrior

from splatdream.cameras import orbit
from splatdream.contracts import View
from splatdream.distill.sdedit import SDEdit
from splatdream.distill.sds import SDS
from splatdream.guidance import guided
from splatdream.losses import inject

GENERATOR = torch.Generator()
SIZE = 8


def pictures(count: int, seed: int) -> torch.Tensor:
    return torch.rand(count, SIZE, SIZE, 3, generator=torch.Generator().manual_seed(seed))


def finite_prior(count: int = 1, other: int = 1) -> FinitePrior:
    asked, empty = pictures(count, 1), pictures(other, 2)
    return FinitePrior(
        lambda cameras: asked.expand(len(cameras), -1, -1, -1, -1),
        SIZE,
        lambda cameras: torch.cat([asked, empty]).expand(len(cameras), -1, -1, -1, -1),
    )


def view_of(prior: FinitePrior, images: torch.Tensor, timesteps: list[int], seed: int = 0) -> View:
    cameras = orbit(len(images), SIZE)
    latents = prior.encode(images)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed))
    condition = prior.condition("", "", cameras)
    return View(latents, noise, torch.tensor(timesteps), condition, cameras, torch.zeros(len(images), 3), images, 0.5)


def test_sds_vanishes_at_the_one_picture_that_the_prior_knows_and_only_there() -> None:
    prior = finite_prior()
    there, _ = SDS(1.0)(view_of(prior, pictures(1, 1), [400]), prior, None, GENERATOR)
    elsewhere, _ = SDS(1.0)(view_of(prior, pictures(1, 3), [400]), prior, None, GENERATOR)
    assert there.latents.abs().max() < 1e-5
    assert elsewhere.latents.abs().max() > 0.1


def test_the_weight_sigma_over_alpha_makes_sds_the_x0_form() -> None:
    prior = finite_prior(3)
    view = view_of(prior, pictures(2, 4), [300, 700])
    gradient, _ = SDS(7.5, "sigma/alpha")(view, prior, None, GENERATOR)
    x_t = prior.schedule.add_noise(view.latents, view.noise, view.timesteps)
    x0 = guided(prior, x_t, view.timesteps, view.condition, 7.5).x0
    torch.testing.assert_close(gradient.latents, view.latents - x0, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("rule", [SDS(10.0), SDS(1.0, "uniform"), SDEdit(3.0), SDEdit(3.0, steps=4)])
def test_a_batch_equals_its_single_views(rule) -> None:
    prior = finite_prior(3)
    images = pictures(3, 5)
    whole = view_of(prior, images, [100, 500, 900])
    together, _ = rule(whole, prior, None, GENERATOR)
    for k in range(3):
        alone = View(
            *(value[k : k + 1] for value in (whole.latents, whole.noise, whole.timesteps)),
            whole.condition[k : k + 1],
            whole.cameras[k],
            whole.backgrounds[k : k + 1],
            whole.images[k : k + 1],
            whole.progress,
        )
        single, _ = rule(alone, prior, None, GENERATOR)
        for name in ("latents", "targets"):
            if getattr(single, name) is not None:
                torch.testing.assert_close(getattr(together, name)[k : k + 1], getattr(single, name))


def test_guidance_has_one_convention() -> None:
    """FIELD P1: scale 1 is the conditional prediction, 0 the unconditional, and the rest lies on their line."""
    prior = finite_prior(2, 4)
    view = view_of(prior, pictures(2, 6), [600, 600])

    def eps(scale: float) -> torch.Tensor:
        return guided(prior, view.latents, view.timesteps, view.condition, scale).eps

    torch.testing.assert_close(eps(7.5), eps(0.0) + 7.5 * (eps(1.0) - eps(0.0)), atol=1e-5, rtol=1e-5)
    cond = prior.predict(view.latents, view.timesteps, view.condition.cond)
    torch.testing.assert_close(eps(1.0), cond.eps)


def test_sds_costs_two_evaluations_a_view_and_one_without_guidance() -> None:
    prior = finite_prior()
    SDS(5.0)(view_of(prior, pictures(3, 3), [100, 200, 300]), prior, None, GENERATOR)
    assert prior.evaluations == 6
    SDS(1.0)(view_of(prior, pictures(3, 3), [100, 200, 300]), prior, None, GENERATOR)
    assert prior.evaluations == 9


def test_inputs_are_left_untouched_and_equal_noise_gives_equal_gradients() -> None:
    prior = finite_prior(2)
    view = view_of(prior, pictures(2, 3), [250, 750])
    before = view.latents.clone(), view.noise.clone()
    first, _ = SDS(9.0)(view, prior, None, GENERATOR)
    second, _ = SDS(9.0)(view, prior, None, GENERATOR)
    assert torch.equal(first.latents, second.latents)
    assert torch.equal(view.latents, before[0])
    assert torch.equal(view.noise, before[1])


def test_the_injected_gradient_is_the_autograd_of_half_the_squared_residual() -> None:
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1), requires_grad=True)
    target = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    (by_loss,) = torch.autograd.grad(0.5 * (x - target).square().sum(), x)
    (by_injection,) = torch.autograd.grad(inject(x, (x - target).detach()), x)
    torch.testing.assert_close(by_injection, by_loss)


def test_sdedit_aims_a_coarse_render_at_pictures_of_its_own_size() -> None:
    prior = finite_prior()
    fine = view_of(prior, pictures(1, 3), [400])
    coarse = replace(fine, images=torch.zeros(1, SIZE // 2, SIZE // 2, 3))
    whole, _ = SDEdit(1.0)(fine, prior, None, GENERATOR)
    half, _ = SDEdit(1.0)(coarse, prior, None, GENERATOR)
    assert half.targets.shape == coarse.images.shape
    # The filter spans two of the large pixels and half of each neighbour: means agree but for the borders.
    torch.testing.assert_close(half.targets.mean((1, 2)), whole.targets.mean((1, 2)), atol=0.05, rtol=0)
    with pytest.raises(ValueError, match="at least 1 denoising step"):
        SDEdit(steps=0)


def test_an_unknown_weighting_lists_the_choices() -> None:
    with pytest.raises(ValueError, match="uniform"):
        SDS(5.0, "unifrom")
