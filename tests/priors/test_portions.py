"""Views in portions: the same answers, the same gradient, and a way on when the memory is too small."""

import pytest
import torch
from families import sd_folder

from splatdream.cameras import orbit
from splatdream.priors.diffusion import DiffusionPrior
from splatdream.priors.shares import at_once, shares

VIEWS = 5


@pytest.fixture(scope="module")
def prior(tmp_path_factory) -> DiffusionPrior:
    return DiffusionPrior.load(sd_folder(tmp_path_factory.mktemp("portions")), dtype=torch.float64)


@pytest.fixture(autouse=True)
def whole(prior):
    prior.portions.views, prior.portions.threaded = None, False


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


def test_before_views_are_parted_the_encoder_keeps_less(prior, monkeypatch) -> None:
    prior.vae.disable_gradient_checkpointing()
    expected, full = gradient(prior), [True]

    def once() -> bool:
        return bool(full) and full.pop()

    monkeypatch.setattr(prior.vae, "encode", too_many(0, prior.vae.encode, once))
    with pytest.warns(UserWarning, match="the encoder computes its blocks again from now on"):
        assert torch.equal(gradient(prior), expected)
    assert prior.portions.views is None
    assert prior.vae.is_gradient_checkpointing


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


@pytest.fixture
def threads(prior):
    """Sets how many threads torch has, and shares views out among them."""
    before = torch.get_num_threads()
    prior.portions.threaded = True
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 10])
def test_the_gradient_of_shares_is_that_of_one_batch(prior, threads, count) -> None:
    threads(1)
    expected = gradient(prior)
    threads(count)
    torch.testing.assert_close(gradient(prior), expected)


def test_the_gradient_of_portions_in_shares_is_that_of_one_batch(prior, threads) -> None:
    expected = gradient(prior)
    prior.portions.views = 2
    threads(2)
    torch.testing.assert_close(gradient(prior), expected)


def test_answers_in_shares_are_those_of_one_batch_and_hold_no_graph(prior, threads) -> None:
    condition = prior.condition("a red mug", "", orbit(4, 32))
    latents = torch.randn(4, 4, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    timesteps = torch.arange(4) * 100 + 50
    threads(1)
    expected = prior.predict(latents, timesteps, condition.cond).value
    threads(2)
    found = prior.predict(latents.requires_grad_(), timesteps, condition.cond).value
    torch.testing.assert_close(found, expected)
    assert not found.requires_grad


def test_the_same_threads_give_the_same_bytes(prior, threads) -> None:
    threads(5)
    assert torch.equal(gradient(prior), gradient(prior))


@pytest.mark.parametrize(
    ("rows", "group", "count", "expected"),
    [
        (slice(0, 8), 1, 2, [4, 4]),
        (slice(4, 8), 1, 16, [1, 1, 1, 1]),
        (slice(0, 8), 4, 16, [4, 4]),  # groups are never parted
        (slice(0, 5), 1, 2, [5]),  # unequal shares would wait for the largest
        (slice(0, 6), 4, 2, [6]),  # the last portion may hold less than a group
        (slice(0, 9), 1, 4, [3, 3, 3]),
    ],
)
def test_shares_are_equal_and_hold_every_row_once(rows, group, count, expected) -> None:
    found = shares(rows, group, count)
    assert [part.stop - part.start for part in found] == expected
    assert [row for part in found for row in range(part.start, part.stop)] == list(range(rows.start, rows.stop))


def test_threads_are_shared_out_and_the_callers_are_left_to_it(threads) -> None:
    threads(4)
    assert at_once(lambda part: torch.get_num_threads(), [0, 1]) == [2, 2]
    assert torch.get_num_threads() == 4
    threads(2)
    assert at_once(lambda part: torch.get_num_threads(), [0, 1]) == [1, 1]


def test_an_error_in_one_share_is_told_when_all_have_ended(threads) -> None:
    threads(2)
    ended = []

    def work(part: int) -> None:
        if part == 0:
            raise RuntimeError("no memory")
        ended.append(part)

    with pytest.raises(RuntimeError, match="no memory"):
        at_once(work, [0, 1])
    assert ended == [1]
