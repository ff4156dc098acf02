"""What each latent counts in the denoiser's loss.

No caption tells the background, and without a caption or a camera the whole picture is open. What is left open is
learnt from few pictures, yet its error fills the gradient with noise (benchmarks/results/NOTES.md), so it counts less.
The best estimate stays the same where a weight is no news to who estimates: a clean picture's caption and camera tell
where the object is; where they do not, or the picture was spoiled and perhaps warped, all of it counts alike.
"""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, max_pool2d

from splatdream.corpus.captions import DEGRADATIONS

OPEN, SPOILED = 0.1, 0.3
"""Of backgrounds and of pictures without a caption or a camera; of degraded pictures."""
SAME = 8
"""By how many of 256 levels a pixel may differ from the background, which is plain."""


def weights_of(
    images: UInt8[Tensor, "S H W 3"], captions: list[str], shape: tuple[int, int]
) -> Float[Tensor, "S 1 h w"]:
    """1 where a latent sees the object or has a neighbour that does, less elsewhere; `shape` is the latents' (h, w)."""
    seen = torch.cat([_object_cells(chunk, shape) for chunk in images.split(100)])
    objects, backgrounds = torch.tensor([_counts(caption) for caption in captions])[:, :, None, None, None].unbind(1)
    return torch.where(seen, objects, backgrounds)


def _object_cells(images: UInt8[Tensor, "S H W 3"], shape: tuple[int, int]) -> Tensor:
    differs = (images.short() - images[:, :1, :1].short()).abs().amax(-1) > SAME
    return max_pool2d(adaptive_max_pool2d(differs.float()[:, None], shape), 3, stride=1, padding=1) > 0


def _counts(caption: str) -> tuple[float, float]:
    """Of the object and of the background of a picture with this caption."""
    if not caption or caption in DEGRADATIONS:
        return OPEN, OPEN
    return (SPOILED, SPOILED) if caption.endswith(DEGRADATIONS) else (1.0, OPEN)
