"""Shap-E: Jun and Nichol, Generating Conditional 3D Implicit Functions, 2023, through diffusers' ShapEPipeline.

The pipeline draws the weights of a small network that tells, of every place in the box from -1 to 1, how deep inside
the object it lies and which colour it has. Its world is ours: +z up, front -y. N points, G a side of a grid.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import HeunDiscreteScheduler, PriorTransformer, ShapEPipeline
from diffusers.pipelines.shap_e import ShapERenderer
from jaxtyping import Float
from torch import Tensor
from transformers import CLIPTextModelWithProjection

from splatdream.priors.folder import Folder
from splatdream.priors.models import ADDRESS, NotHere, cached, missing
from splatdream.priors.words import default_cache

KIND = "ShapEPipeline"
SAFE = "openai/shap-e@refs/pr/11"
"""The only public revision that has all weights as safetensors: elsewhere the renderer's are pickled."""
QUESTIONS = 1 << 16
"""Places that the network is asked about at once."""


def shape_folder(model: str, cache: Path | None = None) -> Path:
    """Where a Shap-E pipeline lies: a folder, or a repository in the hub's local `cache` (None: the default one).

    NotHere for a model that was not fetched; FileNotFoundError or ValueError for a folder that cannot serve.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        if not ADDRESS.fullmatch(model):
            raise FileNotFoundError(
                f"{model!r} is no Shap-E: the folder does not exist; give one of diffusers' layout, or OWNER/NAME of "
                "the hub"
            )
        found = cached(model, cache or default_cache(), exactly=True)
        if found is None:
            raise NotHere(f"{model} is neither a folder here nor fetched (whole, as safetensors): {fetching()}")
        folder = found
    opened = Folder(folder, torch.float32)
    if opened.index["_class_name"] != KIND:
        raise ValueError(f"{folder} holds a {opened.index['_class_name']}, not a {KIND}")
    for name in missing(folder):
        if not name.endswith(".safetensors"):
            raise FileNotFoundError(f"{folder} is not complete: {name} is missing; fetch or copy it again")
        raise FileNotFoundError(
            f"{folder} has no {name}; weights in other files could run code and are never opened: {fetching()}"
        )
    return folder.absolute()


def fetching() -> str:
    return f"`splatdream prior fetch {SAFE}`, or --init sphere"


class Shape:
    """A loaded Shap-E on one device."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        """ValueError or FileNotFoundError, in a sentence, for weights that are not those of the networks."""
        opened = Folder(folder, torch.float32)
        self.renderer: Any = opened.model("shap_e_renderer", ShapERenderer).to(device)
        self.pipeline: Any = ShapEPipeline(
            prior=opened.model("prior", PriorTransformer),
            text_encoder=opened.model("text_encoder", CLIPTextModelWithProjection),
            tokenizer=opened.tokenizer("tokenizer"),
            scheduler=HeunDiscreteScheduler.from_config(opened.scheduler()),  # pyright: ignore[reportArgumentType]
            shap_e_renderer=self.renderer,
        ).to(device)
        self.pipeline.set_progress_bar_config(disable=True)

    @torch.no_grad()
    def __call__(
        self, prompt: str, *, guidance_scale: float, steps: int, grid: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
        """Points on the surface and their colours, in main memory; none where the object is empty or fills the box.

        Where an edge of the grid passes through the surface, one point: the vertices of a mesh by marching cubes.
        """
        drawn = self.pipeline(
            prompt,
            generator=generator,
            guidance_scale=guidance_scale,
            num_inference_steps=steps,
            output_type="latent",
        ).images
        if not bool(drawn.isfinite().all()):
            raise ValueError(f"shap-e answers {prompt!r} with numbers that are not finite")
        self.become(drawn)
        line = torch.linspace(-1.0, 1.0, grid, device=drawn.device)
        corners = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), dim=-1)
        depths, _ = self.ask(corners.reshape(-1, 3))
        points = crossings(corners, depths.reshape(grid, grid, grid))
        colours = self.ask(points)[1] if len(points) else points
        return points.cpu(), colours.cpu()

    def become(self, drawn: Float[Tensor, "1 rows columns"]) -> None:
        """Gives the small network the weights that were drawn; those that it has of its own stay."""
        weights = self.renderer.params_proj(drawn)
        for name, value in self.renderer.mlp.state_dict().items():
            if f"nerstf.{name}" in weights:
                value.copy_(weights[f"nerstf.{name}"][0])

    def ask(self, points: Float[Tensor, "N 3"]) -> tuple[Float[Tensor, " N"], Float[Tensor, "N 3"]]:
        """Depths inside (tanh of them) and colours at points, of the head that was trained for surfaces."""
        depths, colours = [], []
        for some in points.split(QUESTIONS):
            heads = {"nerf_level": "fine", "rendering_mode": "stf"}
            answer = self.renderer.mlp(position=some[None], direction=None, ts=None, **heads)
            depths.append(answer.signed_distance[0, :, 0])
            colours.append(answer.channels[0])
        return torch.cat(depths), torch.cat(colours)


def crossings(corners: Float[Tensor, "G G G 3"], depths: Float[Tensor, "G G G"]) -> Float[Tensor, "N 3"]:
    """Where the depth passes through 0 along the grid's edges, by linear interpolation."""
    found = []
    for axis in range(3):
        a, b = depths.narrow(axis, 0, len(depths) - 1), depths.narrow(axis, 1, len(depths) - 1)
        start, end = corners.narrow(axis, 0, len(depths) - 1), corners.narrow(axis, 1, len(depths) - 1)
        through = (a > 0) != (b > 0)
        share = (a[through] / (a[through] - b[through]))[:, None]
        found.append(start[through] + share * (end[through] - start[through]))
    return torch.cat(found)
