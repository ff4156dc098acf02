"""The views that the tests of rules are asked about, and the priors that answer."""

from dataclasses import replace

import torch

from splatdream.cameras import orbit
from splatdream.contracts import Prior, View

PROMPT, NEGATIVE = "a red ball", "blurry"


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, seed: int, size: int = 8) -> torch.Tensor:
    return torch.rand(count, size, size, 3, generator=generator(seed))


def view_of(
    prior: Prior, images: torch.Tensor, timesteps: list[int], *, negative: str = NEGATIVE, progress: float = 0.5
) -> View:
    """A step's view of these pictures, seen from evenly spaced azimuths."""
    cameras = orbit(len(images), images.shape[1])
    latents = prior.encode(images)
    return View(
        latents=latents,
        noise=torch.randn(latents.shape, generator=generator(7)).to(latents),
        timesteps=torch.tensor(timesteps),
        condition=prior.condition(PROMPT, negative, cameras),
        cameras=cameras,
        backgrounds=torch.zeros(len(images), 3).to(images),
        images=images,
        progress=progress,
        prompt=PROMPT,
        negative_prompt=negative,
    )


def part_of(view: View, rows: slice) -> View:
    """Some of the views, as if they were all of them."""
    tensors = ("latents", "noise", "timesteps", "condition", "cameras", "backgrounds", "images")
    return replace(view, **{name: getattr(view, name)[rows] for name in tensors})
