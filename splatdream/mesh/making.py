"""Making: the way from a cloud to a model, one step after the other.

All steps work on the cloud moved into the unit ball, where the cameras expect it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float

from splatdream.contracts import Renderer
from splatdream.mesh import light as lights
from splatdream.mesh.atlas import Atlas, Texels, tangent_frames, texels, unwrap
from splatdream.mesh.density import Grid, density, extent
from splatdream.mesh.drawing import everywhere
from splatdream.mesh.hull import least_opacity
from splatdream.mesh.isosurface import best_level, isosurface, smoothed, within
from splatdream.mesh.model import Model
from splatdream.mesh.normal_map import field_normals, tangent_space
from splatdream.mesh.solid import bodies, decimated
from splatdream.mesh.surface import Surface
from splatdream.mesh.texture import bake
from splatdream.splats import Splats

SHAPING_VIEWS, SHAPING_SIZE = 60, 128
CHOOSING_STRIDE = 4
"""The level is chosen by one in so many of the views that give the hull."""
BAKING_VIEWS, BAKING_SIZE = 24, 512
AT_ONCE = 4


@dataclass(frozen=True)
class Options:
    """`resolution` counts grid points along the longest side, `texture` texels along a side of the picture.

    `light` is "baked" (left in the colours), "builtin" or "estimated".
    """

    faces: int = 10_000
    texture: int = 1024
    resolution: int = 128
    light: str = "baked"


Refinement = Callable[[Texels, Model, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Better colours for texels (T 3) and places for a model's vertices (V 3), in the cloud's world."""


@torch.no_grad()
def mesh(
    splats: Splats,
    renderer: Renderer,
    options: Options = Options(),
    *,
    antialiased: bool = False,
    refinement: Refinement | None = None,
) -> Model:
    """A closed, textured mesh of the object that the cloud shows, in the cloud's own world.

    ValueError where the cloud is too faint for a surface.
    """
    ball, centre, radius = into_unit_ball(splats)
    grid = smoothed(density(ball, options.resolution))
    field = shaped(grid, ball, renderer, antialiased)
    surface = decimated(bodies(isosurface(field, 1.0)), options.faces)
    atlas = unwrap(surface, options.texture)
    table = texels(atlas, options.texture)
    colours = baked(table, surface, ball, renderer, antialiased)
    normals = field_normals(grid, table)
    world = replace(atlas, surface=placed(atlas.surface, centre, radius))
    if refinement is not None:
        with torch.enable_grad():
            there = replace(table, places=(table.places * radius + centre).astype(np.float32))
            colours, vertices = refinement(there, modelled(world, there, colours, normals), colours)
        world = moved(world, vertices)
    if options.light != "baked":
        light = lights.builtin if options.light == "builtin" else lights.estimated(colours, normals)
        colours = lights.unlit(colours, normals, light)
    return modelled(world, table, colours, normals)


def modelled(
    world: Atlas, table: Texels, colours: Float[np.ndarray, "T 3"], normals: Float[np.ndarray, "T 3"]
) -> Model:
    """The model of the atlas whose texels have these colours and normals."""
    return Model(
        surface=world.surface,
        normals=world.normals,
        tangents=tangent_frames(world),
        uvs=world.uvs,
        base_colour=table.picture(colours),
        normal_map=table.picture(tangent_space(normals, table).astype(np.float32)),
    )


def shaped(grid: Grid, ball: Splats, renderer: Renderer, antialiased: bool) -> Grid:
    """The field whose level 1 is the surface: the density within the hull, at the level that looks most like the cloud.

    ValueError where the cloud is too faint for a surface.
    """
    cameras = everywhere(SHAPING_VIEWS, SHAPING_SIZE)
    alphas = renderer(ball, cameras.to(ball.means), antialiased=antialiased).alphas.cpu()
    least = least_opacity(grid, cameras, alphas)
    choosing = slice(0, None, CHOOSING_STRIDE)
    return within(grid, best_level(grid, least, cameras[choosing], alphas[choosing]), least)


def into_unit_ball(splats: Splats) -> tuple[Splats, Float[np.ndarray, "3"], float]:
    """The cloud with its object in the unit ball, and the centre and radius of the ball that it came from."""
    low, high = extent(splats)
    centre, radius = (low + high) / 2, float(np.linalg.norm(high - low) / 2)
    moved = (splats.means - torch.from_numpy(centre).to(splats.means)) / radius
    return splats.replace(means=moved, log_scales=splats.log_scales - np.log(radius)), centre, radius


def placed(surface: Surface, centre: Float[np.ndarray, "3"], radius: float) -> Surface:
    """The surface of the unit ball, back in the world."""
    return Surface((surface.vertices * radius + centre).astype(np.float32), surface.faces)


def moved(atlas: Atlas, vertices: Float[np.ndarray, "V 3"]) -> Atlas:
    """The atlas of a surface whose vertices have other places."""
    surface = Surface(vertices, atlas.surface.faces)
    joined, where = surface.joined()
    return replace(atlas, surface=surface, normals=joined.vertex_normals[where])


def baked(
    table: Texels, surface: Surface, ball: Splats, renderer: Renderer, antialiased: bool
) -> Float[np.ndarray, "T 3"]:
    """The texels' colours in the cloud's renders from everywhere."""
    cameras = everywhere(BAKING_VIEWS, BAKING_SIZE).to(ball.means)
    parts = [
        renderer(ball, cameras[rows], antialiased=antialiased) for rows in torch.arange(len(cameras)).split(AT_ONCE)
    ]
    images, alphas = (torch.cat([getattr(part, name).cpu() for part in parts]) for name in ("images", "alphas"))
    return bake(table, surface, cameras.to("cpu"), images, alphas)
