"""The cloud of a prompt: what Shap-E (Jun and Nichol 2023) makes of it in seconds, on the object's surface."""

from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

import torch

from splatdream.init import Sources, check_count, check_opacity, check_share, round_cloud
from splatdream.init.points import even_scales, grown, on_points, placement
from splatdream.splats import Splats


@dataclass(frozen=True)
class ShapE:
    """Points on the surface, in its colours, thinned by chance or grown as a file's are (`points.FromPoints`).

    `model` is a folder of diffusers' layout, or a fetched repository of the hub, OWNER/NAME[@REVISION]. The surface is
    sought on a grid of `grid` points a side; guidance and steps are those of GaussianDreamer.
    """

    model: str = "openai/shap-e"
    guidance_scale: float = 15.0
    steps: int = 64
    grid: int = 128
    radius: float = 1.0
    opacity: float = 0.1
    grown: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.guidance_scale <= 1000:
            raise ValueError(f"guidance_scale of shap-e must lie within 0..1000; got {self.guidance_scale:g}")
        if not 1 <= self.steps <= 1000:
            raise ValueError(f"steps of shap-e must lie within 1..1000; got {self.steps}")
        if not 4 <= self.grid <= 512:
            raise ValueError(f"grid of shap-e must lie within 4..512; got {self.grid}")
        if not 0 < self.radius < inf:
            raise ValueError(f"radius is {self.radius}; it must be above 0 (1 fills the pictures)")
        check_opacity(self.opacity)
        check_share("grown", self.grown)

    def settled(self, count: int, sources: Sources) -> tuple["ShapE", int]:
        check_count(count)
        return replace(self, model=str(sources.shape_folder(self.model))), count

    def files(self) -> dict[str, Path]:
        folder = Path(self.model).expanduser().absolute()
        weights = sorted(folder.rglob("*.safetensors")) if folder.is_dir() else []
        return {path.relative_to(folder).as_posix(): path for path in weights}

    def __call__(self, count: int, generator: torch.Generator, prompt: str, sources: Sources) -> Splats:
        """ValueError where nothing solid comes out."""
        check_count(count)
        folder = sources.shape_folder(self.model)
        numbers = {"guidance_scale": self.guidance_scale, "steps": self.steps, "grid": self.grid}
        points, colours = sources.shape(folder, prompt, **numbers, generator=generator)
        if len(points) < 2:
            raise ValueError(f"shap-e makes nothing solid of {prompt!r} by this seed; try another seed, or sphere")
        centre, factor = placement(folder, points.double().numpy(), self.radius)
        rows = torch.randperm(len(points), generator=generator)[: on_points(count, self.grown)].sort().values
        means = ((points[rows].double() - torch.from_numpy(centre)) * factor).float()
        means, tints = grown(means, colours[rows], count, generator)
        return round_cloud(means, tints, self.opacity, even_scales(means))
