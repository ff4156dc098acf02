"""Views in portions: the same answers, the same gradient, and a way on when the memory is too small."""

import pytest
import torch
from families import sd_folder

from splatdream.cameras import orbit
from splatdream.priors.diffusion import DiffusionPrior

VIEWS = 5


@pytest.fixture(scope="module")
def prior(tmp_path_factory) -> DiffusionPrior:
    return DiffusionPrior.load(sd_folder(tmp_path_factory.mktemp("portions")), dtype=torch.float64)


@pytest.fixture(autouse=True)
def whole(prior):
    prior.portions.views = None


def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(VIEWS, 32, 32, 3, generator=generator, dtype=torch.float64, requires_grad=True)


def gradient(prior: DiffusionPrior) -> torch.Tensor:
    shown = images()
    latents = prior.encode(shown)
    readout = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return torch.autograd.grad((latents * readout).sum(), shown)[0]


@pytest.mark.parametrize("views", [1, 2, 3, 5])
def test_the_gradient_of_portions_is_that_of_one_batch(prior, views) -> None:
    expected = gradient(prior)
    prior.portions.views = views
    torch.testing.assert_close(gradient(prior), expected)


@pytest.mark.parametrize("views", [1, 2, 4])
def test_answers_in_portions_are_those_of_one_batch(prior, views) -> None:
    condition = prior.condition("a red mug", "", orbit(VIEWS, 32))
    latents = torch.randn(VIEWS, 4, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    timesteps = torch.arange(VIEWS) * 100 + 50
    expected = prior.predict(latents, timesteps, condition.cond).value
    pictures = prior.decode(latents)
    prior.portions.views = views
    torch.testing.assert_close(prior.predict(latents, timesteps, condition.cond).value, expected)
    torch.testing.assert_close(prior.decode(latents), pictures)


def too_many(most: int, method, when=lambda: True):
    """The method on a machine whose memory holds no more than `most` views."""

    def limited(x, *args, **kwargs):
        if len(x) > most and when():
            raise torch.OutOfMemoryError(f"CUDA out of memory with {len(x)}")
        return method(x, *args, **kwargs)

    return limited


def test_too_small_a_memory_halves_the_views_and_keeps_the_gradient(prior, monkeypatch) -> None:
    expected = gradient(prior)
    monkeypatch.setattr(prior.vae, "encode", too_many(1, prior.vae.encode))
    with pytest.warns(UserWarning, match="out of memory with 5 views at once: going on with 2"):
        torch.testing.assert_close(gradient(prior), expected)
    assert prior.portions.views == 1


def test_a_backward_pass_that_runs_out_of_memory_is_done_again_in_portions(prior, monkeypatch) -> None:
    expected = gradient(prior)

    class Tight(torch.autograd.Function):
        """Fits forwards with any number of views, backwards with two."""

        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, *gradients):
            if len(gradients[0]) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return gradients

    encode = prior.vae.encode
    monkeypatch.setattr(prior.vae, "encode", lambda x: encode(Tight.apply(x)))
    with pytest.warns(UserWarning, match="going on with 2"):
        torch.testing.assert_close(gradient(prior), expected)
    assert prior.portions.views == 2


def test_a_network_that_does_not_fit_is_asked_in_portions(prior, monkeypatch) -> None:
    condition = prior.condition("a red mug", "", orbit(VIEWS, 32))
    latents, timesteps = torch.zeros(VIEWS, 4, 4, 4, dtype=torch.float64), torch.full((VIEWS,), 500)
    expected = prior.predict(latents, timesteps, condition.cond).value
    monkeypatch.setattr(prior.unet, "forward", too_many(2, prior.unet.forward))
    with pytest.warns(UserWarning, match="out of memory"):
        torch.testing.assert_close(prior.predict(latents, timesteps, condition.cond).value, expected)


def test_memory_that_does_not_hold_one_view_is_told(prior, monkeypatch) -> None:
    monkeypatch.setattr(prior.vae, "encode", too_many(0, prior.vae.encode))
    with (
        pytest.warns(UserWarning, match="out of memory"),
        pytest.raises(MemoryError, match=r"even with views one by one .*smaller prior"),
    ):
        gradient(prior)


def test_other_errors_are_not_taken_for_want_of_memory(prior, monkeypatch) -> None:
    def broken(x):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(prior.vae, "encode", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        gradient(prior)
    assert prior.portions.views is None
