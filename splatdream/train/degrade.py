"""Bad pictures on purpose, captioned as such, so that negative prompts mean something."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, interpolate

from splatdream.corpus.captions import DEGRADATIONS


def _blur(image: Tensor, generator: torch.Generator) -> Tensor:
    blurred = image
    for _ in range(int(torch.randint(2, 5, (), generator=generator))):
        blurred = avg_pool2d(blurred, 5, 1, 2, count_include_pad=False)
    return blurred


def _saturate(image: Tensor, generator: torch.Generator) -> Tensor:
    grey = image.mean(1, keepdim=True)
    return grey + (2.0 + 2.0 * torch.rand((), generator=generator)) * (image - grey)


def _noise(image: Tensor, generator: torch.Generator) -> Tensor:
    return image + (0.1 + 0.15 * torch.rand((), generator=generator)) * torch.randn(image.shape, generator=generator)


def _darken(image: Tensor, generator: torch.Generator) -> Tensor:
    return image * (0.15 + 0.3 * torch.rand((), generator=generator))


def _warp(image: Tensor, generator: torch.Generator) -> Tensor:
    """Bent by a smooth random displacement of about a tenth of the picture."""
    offsets = interpolate(torch.randn(1, 2, 5, 5, generator=generator), image.shape[2:], mode="bicubic")
    size = image.shape[2]
    line = torch.linspace(-1, 1, size)
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    grid = torch.stack([columns, rows], -1)[None] + 0.14 * offsets.permute(0, 2, 3, 1)
    return grid_sample(image, grid, padding_mode="border", align_corners=True)


def _coarsen(image: Tensor, generator: torch.Generator) -> Tensor:
    """Few pixels and few levels, as a bad compression leaves."""
    small = avg_pool2d(image, int(torch.randint(4, 8, (), generator=generator)))
    return (interpolate(small, image.shape[2:]) * 6).round() / 6


def _uglify(image: Tensor, generator: torch.Generator) -> Tensor:
    """Bent, with its colour channels mixed."""
    mix = torch.softmax(2.0 * torch.randn(3, 3, generator=generator), dim=1)
    return torch.einsum("bchw,dc->bdhw", _warp(image, generator), mix)


_HOW: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = dict(
    zip(DEGRADATIONS, (_blur, _saturate, _noise, _darken, _warp, _coarsen, _uglify), strict=True)
)


def degrade(image: Float[Tensor, "H W 3"], word: str, generator: torch.Generator) -> Float[Tensor, "H W 3"]:
    """The picture spoiled in the way that `word` (one of `DEGRADATIONS`) says; values stay in [0, 1]."""
    spoiled = _HOW[word](image.permute(2, 0, 1)[None], generator)
    return spoiled[0].permute(1, 2, 0).clamp(0, 1)
