"""Losses: the one place where a gradient is injected, and the regularisers on clouds and pictures.

Every function returns a scalar. N Gaussians; B views of H x W pixels with C channels.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def inject(tensor: Float[Tensor, "*shape"], gradient: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """A scalar whose gradient with respect to `tensor` is exactly `gradient`; its value means nothing.

    Score distillation knows a direction, not a loss (Poole et al. 2022, eq. 3). ValueError when the shapes differ,
    since broadcasting would sum or repeat the direction.
    """
    if tensor.shape != gradient.shape:
        raise ValueError(
            f"a gradient of shape {tuple(gradient.shape)} cannot be injected into a tensor of {tuple(tensor.shape)}"
        )
    return (tensor * gradient.detach().to(tensor.dtype)).sum()


def clip_values(gradient: Float[Tensor, "*shape"], limit: float) -> Float[Tensor, "*shape"]:
    """Every number at most `limit` away from 0, as in D-SDS (Hong et al. 2023) and GaussianDreamer.

    Infinities stay, so that they are found.
    """
    return torch.where(gradient.isinf(), gradient, gradient.clamp(-limit, limit))


def clip_rms(gradient: Float[Tensor, "B *rest"], limit: float) -> Float[Tensor, "B *rest"]:
    """Every sample shortened, where it must be, to a root mean square of `limit`; directions stay."""
    rms = gradient.flatten(1).square().mean(1).sqrt()
    factors = limit / rms.clamp_min(limit)
    return gradient * factors.reshape(-1, *([1] * (gradient.ndim - 1)))


def opacity_entropy(opacities: Float[Tensor, " N"]) -> Float[Tensor, ""]:
    """The mean binary entropy in nats: 0 where every Gaussian is empty or solid, log 2 where all are half."""
    # The nearest float32 to 1 is 1 - 6e-8, so a tighter clamp would leave log(0) standing.
    p = opacities.clamp(1e-6, 1 - 1e-6)
    return -(p * p.log() + (1 - p) * (1 - p).log()).mean()


def opacity_sparsity(opacities: Float[Tensor, " N"]) -> Float[Tensor, ""]:
    """The mean opacity, which pushes what no view needs towards pruning."""
    return opacities.mean()


def scale_penalty(scales: Float[Tensor, "N 3"]) -> Float[Tensor, ""]:
    """The mean standard deviation, in world units: keeps Gaussians small (LucidDreamer, section 4.3)."""
    return scales.mean()


def anisotropy(scales: Float[Tensor, "N 3"], limit: float = 10.0) -> Float[Tensor, ""]:
    """By how much the ratio of the longest to the shortest axis exceeds `limit`, on average (PhysGaussian, eq. 10)."""
    ratios = scales.amax(-1) / scales.amin(-1)
    return torch.relu(ratios - limit).mean()


def outside_ball(means: Float[Tensor, "N 3"], radius: float = 1.0) -> Float[Tensor, ""]:
    """The mean squared distance by which centres leave the ball of `radius`; 0 inside, with zero gradient."""
    # The norm has no gradient at the origin: its square root is taken only where the centre is outside.
    squares = means.square().sum(-1)
    outside = squares > radius**2
    distances = torch.where(outside, squares, 1.0).sqrt()
    return torch.where(outside, (distances - radius).square(), 0.0).mean()


def total_variation(images: Float[Tensor, "B H W C"]) -> Float[Tensor, ""]:
    """The absolute differences between vertical and horizontal neighbours, summed, per value (anisotropic TV)."""
    vertical = (images[:, 1:] - images[:, :-1]).abs().sum()
    horizontal = (images[:, :, 1:] - images[:, :, :-1]).abs().sum()
    return (vertical + horizontal) / images.numel()
