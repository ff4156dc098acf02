"""Clouds that try a renderer, and the comparison of two renderers on one of them."""

from math import log

import torch
from torch import Tensor

from splatdream.cameras import Cameras, orbit
from splatdream.contracts import Render
from splatdream.splats import Splats

OUTPUTS = ("features", "alphas", "depths")


def cloud(count: int, degree: int = 0, *, seed: int = 0, size: float = 0.08, opaque: float = 0.0) -> Splats:
    """Gaussians in the unit ball, of sizes around `size`; `opaque` shifts the logits of their opacities."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    means = torch.nn.functional.normalize(normal(count, 3), dim=-1)
    return Splats(
        means=means * torch.rand(count, 1, generator=generator) ** (1 / 3),
        quats=normal(count, 4),
        log_scales=log(size) + 0.5 * normal(count, 3),
        logit_opacities=opaque + normal(count),
        sh0=normal(count, 1, 3),
        shN=0.3 * normal(count, (degree + 1) ** 2 - 1, 3),
    )


def put(splats: Splats, rows: slice, **values) -> Splats:
    """A copy in which the named parameters of some rows have other values."""
    copies = {name: getattr(splats, name).clone() for name in values}
    for name, value in values.items():
        copies[name][rows] = torch.as_tensor(value, dtype=copies[name].dtype)
    return splats.replace(**copies)


def nasty() -> Splats:
    """Gaussians behind and beside the camera, huge, tiny, needles, without direction, invisible, opaque, on borders."""
    splats = cloud(160, 1, seed=3)
    splats = put(splats, slice(0, 10), means=[0.0, -6.0, 0.0])
    splats = put(splats, slice(10, 14), means=[0.05, -3.41, 0.1])
    splats = put(splats, slice(14, 20), log_scales=3.0, logit_opacities=-2.0)
    splats = put(splats, slice(20, 30), log_scales=-18.0)
    splats = put(splats, slice(30, 40), log_scales=[0.5, -7.0, -7.0])
    splats = put(splats, slice(40, 50), quats=0.0)
    splats = put(splats, slice(50, 60), quats=[1e-5, 0.0, -1e-5, 0.0])
    splats = put(splats, slice(60, 70), logit_opacities=-30.0)
    splats = put(splats, slice(70, 80), logit_opacities=30.0)
    splats = put(splats, slice(80, 100), means=[1.2, 0.0, 0.0], log_scales=-2.0)
    splats = put(splats, slice(100, 110), means=[0.0, 0.0, -1.25])
    return put(splats, slice(110, 120), means=[3.0, -2.0, 2.0], log_scales=0.0)


def views(count: int = 2, width: int = 41, height: int = 35) -> Cameras:
    """Views whose picture is no multiple of a tile and whose optical axis is off its centre."""
    cameras = orbit(count, height)
    Ks = cameras.Ks.clone()
    Ks[:, 0, 2] = 0.5 * width + 1.3
    return Cameras(cameras.viewmats, Ks, width, height, cameras.azimuths, cameras.elevations)


def gradients(
    renderer, splats: Splats, cameras: Cameras, *, extras: Tensor | None = None, antialiased: bool = False, dtype=None
) -> tuple[Render, dict[str, Tensor]]:
    """A rendering over fixed backgrounds and the gradients, by name, of a fixed random sum of all that it returns."""
    dtype = dtype or splats.means.dtype
    generator = torch.Generator().manual_seed(11)
    backgrounds = torch.rand(len(cameras), 3, generator=generator).to(splats.means.device, dtype).requires_grad_()
    leaves = splats.to(dtype).requires_grad()
    extras = None if extras is None else extras.to(dtype, copy=True).requires_grad_()
    result = renderer(leaves, cameras.to(dtype), backgrounds, extras=extras, antialiased=antialiased)
    loss = sum((noise_like(getattr(result, name), generator) * getattr(result, name)).sum() for name in OUTPUTS)
    loss.backward()
    # Autograd leaves out what a cloud of degree 0 has no use for: its empty shN.
    named = {
        name: value.new_zeros(value.shape) if value.grad is None else value.grad
        for name, value in leaves.parameters().items()
    }
    named |= {"backgrounds": backgrounds.grad, "screen": result.screen.grad}
    return result, named if extras is None else named | {"extras": extras.grad}


def noise_like(tensor: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(tensor.shape, generator=generator).to(tensor)


def farthest(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest expected number."""
    if expected.numel() == 0:
        return 0.0
    scale = expected.abs().max().item() or 1.0
    return (found.to(expected) - expected).abs().max().item() / scale
