"""The cloud that knows nothing: a grey ball."""

import torch

from splatdream.init import neighbour_distances
from splatdream.splats import Splats, logit, sh0_from_colours


def sphere(
    count: int,
    generator: torch.Generator,
    *,
    radius: float = 0.6,
    opacity: float = 0.1,
    colour: float = 0.5,
    jitter: float = 0.0,
) -> Splats:
    """`count` round Gaussians of degree 0, uniform in a ball about the origin, on the generator's device.

    Scales are mean distances to the 3 nearest neighbours; colours are grey, `jitter` the half width of a uniform
    deviation per channel, kept in [0, 1]. ValueError for values outside their ranges.
    """
    check(count, radius, opacity, colour, jitter)
    device = generator.device
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator, device=device), dim=-1)
    distances = radius * torch.rand(count, 1, generator=generator, device=device) ** (1 / 3)
    means = directions * distances
    deviations = jitter * (2 * torch.rand(count, 3, generator=generator, device=device) - 1)
    # Two points at one place would have the logarithm of 0 for a scale.
    scales = neighbour_distances(means).clamp_min(1e-6)
    return Splats(
        means=means,
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0], device=device).repeat(count, 1),
        log_scales=scales.log()[:, None].repeat(1, 3),
        logit_opacities=logit(torch.full((count,), opacity, device=device)),
        sh0=sh0_from_colours((colour + deviations).clamp(0, 1)),
        shN=torch.zeros(count, 0, 3, device=device),
    )


def check(count: int, radius: float, opacity: float, colour: float, jitter: float) -> None:
    if count < 2:
        raise ValueError(f"count is {count}; a cloud needs at least 2 Gaussians")
    if not radius > 0:
        raise ValueError(f"radius is {radius}; it must be above 0 (1 fills the pictures)")
    if not 0 < opacity < 1:
        raise ValueError(f"opacity is {opacity}; it must lie between 0 and 1, both excluded")
    if not 0 <= colour <= 1:
        raise ValueError(f"colour is {colour}; it must lie in [0, 1]")
    if not jitter >= 0:
        raise ValueError(f"jitter is {jitter}; it must not be negative")
