"""The cloud that knows nothing: a grey ball."""

from dataclasses import dataclass
from pathlib import Path

import torch

from splatdream.init import Sources, check_count, check_opacity, check_share, neighbour_distances, round_cloud
from splatdream.splats import Splats


@dataclass(frozen=True)
class Sphere:
    """Round Gaussians, uniform in a ball about the origin, on the generator's device.

    Scales are mean distances to the 3 nearest neighbours; colours are grey, `jitter` the half width of a uniform
    deviation per channel, kept in [0, 1].
    """

    radius: float = 0.6
    opacity: float = 0.1
    colour: float = 0.5
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.radius < float("inf"):
            raise ValueError(f"radius is {self.radius}; it must be above 0 (1 fills the pictures)")
        check_opacity(self.opacity)
        check_share("colour", self.colour)
        check_share("jitter", self.jitter)

    def settled(self, count: int, sources: Sources | None = None) -> tuple["Sphere", int]:
        return self, count

    def files(self) -> dict[str, Path]:
        return {}

    def __call__(
        self, count: int, generator: torch.Generator, prompt: str = "", sources: Sources | None = None
    ) -> Splats:
        """ValueError for fewer than two."""
        check_count(count)
        device = generator.device
        directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator, device=device), dim=-1)
        distances = self.radius * torch.rand(count, 1, generator=generator, device=device) ** (1 / 3)
        means = directions * distances
        deviations = self.jitter * (2 * torch.rand(count, 3, generator=generator, device=device) - 1)
        colours = (self.colour + deviations).clamp(0, 1)
        return round_cloud(means, colours, self.opacity, neighbour_distances(means))
