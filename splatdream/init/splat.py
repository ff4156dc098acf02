"""The cloud of another splat file: a run goes on from what any tool has made."""

from dataclasses import dataclass, replace
from math import log
from pathlib import Path

import torch

from splatdream.init import Sources
from splatdream.init.geometry import check_places
from splatdream.init.points import check_radius, named, placement
from splatdream.splats import Splats


@dataclass(frozen=True)
class FromSplat:
    """All Gaussians of the file, however many were asked for, with their colours' dependence on the view.

    They stay where they are, or are fitted so that the farthest centre lies at `radius`. `up` are the file's axes where
    it does not say them or is wrong; `drop_invalid` leaves out rows that are not finite.
    """

    file: str = ""
    radius: float = 0.0
    up: str = ""
    drop_invalid: bool = False

    def __post_init__(self) -> None:
        check_radius(self.radius)

    def settled(self, count: int, sources: Sources) -> tuple["FromSplat", int]:
        return replace(self, file=str(named(self.file, "splat"))), len(self.read(sources))

    def files(self) -> dict[str, Path]:
        path = named(self.file, "splat")
        return {path.name: path} if path.is_file() else {}

    def __call__(self, count: int, generator: torch.Generator, prompt: str, sources: Sources) -> Splats:
        return self.read(sources)

    def read(self, sources: Sources) -> Splats:
        """ValueError for a file of no splats, of one, or of some that cameras would not see."""
        path = named(self.file, "splat")
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path} to begin with")
        splats = sources.read_splats(path, self.up, self.drop_invalid)
        if len(splats) < 2:
            raise ValueError(f"{path} holds {len(splats)} Gaussians; a cloud needs at least 2")
        places = splats.means.double().numpy()
        check_places(path, places)
        centre, factor = placement(path, places, self.radius)
        means = torch.from_numpy((places - centre) * factor).float()
        return splats.replace(means=means, log_scales=splats.log_scales + log(factor))
