"""Attention across views: the stock processor for one, and one picture of the mind for a group."""

from pathlib import Path

import pytest
import tiny
import torch

from splatdream.cameras import orbit
from splatdream.priors.diffusion import DiffusionPrior
from splatdream.priors.models import Wanted
from splatdream.priors.multi_view import teach_views


def answers(unet, latents: torch.Tensor, views: int | None) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    words, cameras = (torch.randn(len(latents), *shape, generator=generator) for shape in ((5, tiny.WIDTH), (16,)))
    told = None if views is None else {"views": views}
    with torch.no_grad():
        return unet(latents, 500, words, class_labels=cameras, cross_attention_kwargs=told).sample


def test_one_view_at_a_time_is_the_stock_unet() -> None:
    unet, latents = tiny.tiny_unet(), torch.randn(4, tiny.LATENT_CHANNELS, 4, 4)
    stock = answers(unet, latents, None)
    teach_views(unet)
    assert torch.equal(answers(unet, latents, 1), stock)


def test_views_of_a_group_see_one_another_and_no_other_group() -> None:
    unet, latents = tiny.tiny_unet(), torch.randn(4, tiny.LATENT_CHANNELS, 4, 4)
    teach_views(unet)
    before = answers(unet, latents, 2)
    latents[0] += 1.0
    moved = (answers(unet, latents, 2) - before).flatten(1).abs().amax(1)
    assert bool((moved[:2] > 1e-4).all())
    assert bool((moved[2:] == 0).all())
    assert not torch.allclose(before, answers(unet, latents, 1), atol=1e-4)


def test_a_prior_that_sees_views_together_answers_each_group_by_itself(tmp_path) -> None:
    prior = DiffusionPrior.load(tiny.tiny_prior_folder(tmp_path, cameras=True))
    generator = torch.Generator().manual_seed(2)
    x_t = torch.randn(8, tiny.LATENT_CHANNELS, 4, 4, generator=generator)
    timesteps, told = torch.full((8,), 600), prior.condition("a red mug", "", orbit(8, 32)).cond
    alone = prior.predict(x_t, timesteps, told).value
    prior.see_together(4)
    assert prior.group == 4
    whole = prior.predict(x_t, timesteps, told).value
    assert not torch.allclose(whole, alone, atol=1e-4)
    halves = [prior.predict(x_t[rows], timesteps[rows], told[rows]).value for rows in (slice(4), slice(4, 8))]
    torch.testing.assert_close(whole, torch.cat(halves))
    with pytest.raises(ValueError, match="sees 4 views of an object at a time, not 6"):
        prior.predict(x_t[:6], timesteps[:6], told[:6])


def test_the_shipped_prior_has_a_name_for_it_that_survives_a_run() -> None:
    wanted = Wanted.parse("builtin-mv;lora=a.safetensors")
    assert (wanted.name, wanted.together) == ("builtin", True)
    assert wanted.settled(Path("shipped"), Path("shipped")).startswith("builtin-mv;lora=")
    assert Wanted.parse("builtin").settled(Path("shipped"), Path("shipped")) == "builtin"
