"""Attention across views: the stock processor for one, and one picture of the mind for a group."""

import tiny
import torch

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
