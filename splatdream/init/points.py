"""The cloud of a file: Gaussians on a mesh, or at the points of a cloud, fitted into the unit ball."""

from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from splatdream.init import (
    Sources,
    check_count,
    check_opacity,
    check_share,
    neighbour_distances,
    round_cloud,
)
from splatdream.init.companions import with_companions
from splatdream.init.geometry import read_geometry
from splatdream.splats import Splats

Y_UP = (".glb", ".gltf", ".obj")
"""Formats whose files are y-up, by their standard or by custom; others have no rule and are taken for z-up."""
REACH = 10.0
"""No object whose own coordinates are kept lies farther out: cameras look at the unit ball."""
UNEVEN = 10.0
"""Scales stay within so many times the median: far from all others a Gaussian would cover everything."""


@dataclass(frozen=True)
class FromPoints:
    """A mesh is covered evenly by area, in the colours of its texture, vertices or faces; `colour` is of those without.

    A point cloud is thinned by chance, or grown: where Gaussians are lacking, and for a share `grown` in any case, they
    come to lie within a neighbour's distance of the points, in their colour, as in GaussianDreamer (Yi et al. 2024,
    section 3.2). Scales are mean distances to the 3 nearest neighbours. The farthest point lies at `radius`, or, where
    that is 0, all stay where they are. `up` are the file's axes: y-up for glTF and OBJ, z-up for others.
    """

    file: str = ""
    radius: float = 1.0
    up: str = ""
    opacity: float = 0.1
    colour: float = 0.5
    grown: float = 0.0

    def __post_init__(self) -> None:
        check_radius(self.radius)
        check_opacity(self.opacity)
        check_share("colour", self.colour)
        check_share("grown", self.grown)

    def settled(self, count: int, sources: Sources) -> tuple["FromPoints", int]:
        check_count(count)
        path = named(self.file, "points")
        sources.turned(torch.zeros(1, 3), self.axes)  # refuses unknown axes
        placement(path, read_geometry(path, self.colour).places, self.radius)
        return replace(self, file=str(path)), count

    def files(self) -> dict[str, Path]:
        return with_companions(named(self.file, "points"))

    def __call__(self, count: int, generator: torch.Generator, prompt: str, sources: Sources) -> Splats:
        check_count(count)
        path = named(self.file, "points")
        found = read_geometry(path, self.colour)
        centre, factor = placement(path, found.places, self.radius)
        places, colours = found.taken(on_points(count, self.grown), generator)
        means = torch.from_numpy((places - centre) * factor).float()
        means, tints = grown(means, torch.from_numpy(colours).float(), count, generator)
        return round_cloud(sources.turned(means, self.axes), tints, self.opacity, even_scales(means))

    @property
    def axes(self) -> str:
        return self.up or ("y-up" if self.file.lower().endswith(Y_UP) else "z-up")


def named(file: str, part: str) -> Path:
    """The path behind the option `file`. ValueError where none was given."""
    if not file:
        raise ValueError(f"{part} needs a file: write {part}:file=PATH")
    return Path(file).expanduser().absolute()


def check_radius(radius: float) -> None:
    if not 0 <= radius < inf:
        raise ValueError(f"radius is {radius}; it is that of the fitted cloud (1 fills the pictures), 0 keeps its own")


def placement(path: Path, places: Float[np.ndarray, "V 3"], radius: float) -> tuple[Float[np.ndarray, " 3"], float]:
    """What to take away from the places, and what to multiply them by then, so that they lie within `radius`.

    The box around them is centred. ValueError for coordinates that are kept and lie out of sight.
    """
    if radius == 0:
        farthest = float(np.abs(places).max())
        if farthest > REACH:
            raise ValueError(
                f"{path} reaches {farthest:.3g} from the origin, and cameras see 1; radius=1 fits it into that"
            )
        return np.zeros(3), 1.0
    low, high = places.min(axis=0), places.max(axis=0)
    centre, extent = 0.5 * (low + high), (high - low).max()
    return centre, radius / (extent * np.linalg.norm((places - centre) / extent, axis=1).max())


def on_points(count: int, share: float) -> int:
    """How many of `count` lie on the points themselves: at least two, who have a distance."""
    return max(2, count - round(share * count))


def grown(
    points: Float[Tensor, "M 3"], colours: Float[Tensor, "M 3"], count: int, generator: torch.Generator
) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
    """The points and as many more as `count` asks for, uniform in balls around them that reach their neighbours.

    GaussianDreamer draws a million places in the box around all and keeps those near a point; here none is thrown away.
    """
    more = count - len(points)
    if more <= 0:
        return points, colours
    parents = torch.randint(len(points), (more,), generator=generator)
    directions = torch.nn.functional.normalize(torch.randn(more, 3, generator=generator), dim=-1)
    lengths = neighbour_distances(points)[parents, None] * torch.rand(more, 1, generator=generator) ** (1 / 3)
    return torch.cat([points, points[parents] + lengths * directions]), torch.cat([colours, colours[parents]])


def even_scales(points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
    """Mean distances to the 3 nearest others, none far from the median."""
    distances = neighbour_distances(points)
    median = float(distances.median())
    return distances.clamp(median / UNEVEN, median * UNEVEN)
