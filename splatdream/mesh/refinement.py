"""Refinement: colours, and the shape where it is asked for, follow the prior as the splats did.

Flat Gaussians are bound to the surface, one for every patch of texels, and the loop that made the splats goes on with
them, so the splat rasteriser carries the gradient: DreamGaussian's second stage (Tang et al. 2024, section 3.3) without
a differentiable mesh renderer. What the Gaussians have changed is then handed back to texels and vertices.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from splatdream.contracts import Prior, Renderer
from splatdream.loop import Step, dream
from splatdream.mesh.atlas import Texels
from splatdream.mesh.surface import Surface, unit
from splatdream.recipe import Recipe
from splatdream.splats import Splats, colours_from_sh0, logit, sh0_from_colours

COUNT = 12_000
WIDTH = 0.5
"""Standard deviation of a bound Gaussian, as a share of its patch: four of them leave 0.2 open where they meet."""
THIN = 0.1
"""Thickness of a bound Gaussian, as a share of its width."""
OPACITY = 0.95
NEIGHBOURS = 4
STILL, GENTLE = (0.0, 0.0), (0.002, 0.0005)
"""Learning rates of places, in world units a step: for colours alone, and for the shape too."""
FROZEN = {"lr_quats": STILL, "lr_scales": STILL, "lr_opacities": STILL, "weight_position": 0.0, "densify": "fixed"}
REACH = 1.5


def refinement_recipe(recipe: Recipe, steps: int, *, shape: bool) -> Recipe:
    """The recipe that goes on where a run ended: little noise, nothing but colours moving, or places too."""
    ladder = "linear:low=0.02..0.02,high=0.4..0.1"
    places = GENTLE if shape else STILL
    return recipe.replace(steps=steps, timesteps=ladder, lr_means=places, lr_until=1.0, coarse_until=0.0, **FROZEN)


def bound(texels: Texels, colours: Float[np.ndarray, "T 3"], area: float) -> tuple[Splats, Int[np.ndarray, " N"]]:
    """Gaussians that cover a surface of this area, and the texel in the middle of each."""
    stride = max(1, round((len(texels.rows) / COUNT) ** 0.5))
    middles = np.flatnonzero((texels.rows % stride == 0) & (texels.columns % stride == 0))
    width = (area / len(middles)) ** 0.5
    count = len(middles)
    scales = torch.tensor([width, width, THIN * width]).mul(WIDTH)
    return Splats(
        means=torch.from_numpy(texels.places[middles]),
        quats=torch.from_numpy(turning_z_to(texels.normals[middles])),
        log_scales=scales.log().repeat(count, 1),
        logit_opacities=logit(torch.full((count,), OPACITY)),
        sh0=sh0_from_colours(torch.from_numpy(colours[middles])),
        shN=torch.zeros(count, 0, 3),
    ), middles


def turning_z_to(normals: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 4"]:
    """The shortest rotations, as quaternions wxyz, that turn +z to these directions."""
    x, y, z = normals.T
    quats = np.stack([1 + z, -y, x, np.zeros_like(z)], axis=1)
    # Straight down there is no shortest one; half a turn about x is one of them.
    return unit(np.where(z[:, None] < -0.9999, [0.0, 1.0, 0.0, 0.0], quats)).astype(np.float32)


def refined(
    texels: Texels,
    colours: Float[np.ndarray, "T 3"],
    surface: Surface,
    recipe: Recipe,
    *,
    prior: Prior | None = None,
    renderer: Renderer | None = None,
    watch: Callable[[Step], None] = lambda step: None,
) -> tuple[Float[np.ndarray, "T 3"], Float[np.ndarray, "V 3"]]:
    """Colours of the texels and places of the vertices after the recipe's steps; `watch` sees each of these.

    ValueError where the surface does not stand where the prior looks for objects, in the unit ball.
    """
    farthest = float(np.linalg.norm(surface.vertices, axis=1).max())
    if not 0.2 < farthest < REACH:
        raise ValueError(
            f"the object reaches {farthest:.2g} from the origin, but the prior looks for it in the unit ball: "
            "refine what generate wrote, or scale the splat"
        )
    before, _ = bound(texels, colours, float(surface.areas.sum()))
    after = before
    for step in dream(recipe, splats=before, prior=prior, renderer=renderer):
        after = step.state.splats
        watch(step)
    after = after.to("cpu")
    places = before.means.numpy()
    change = (colours_from_sh0(after.sh0) - colours_from_sh0(before.sh0)).numpy()
    shift = (after.means - before.means).numpy()
    return (
        (colours + handed(change, places, texels.places)).clip(0, 1).astype(np.float32),
        (surface.vertices + handed(shift, places, surface.vertices)).astype(np.float32),
    )


def handed(
    values: Float[np.ndarray, "N D"], places: Float[np.ndarray, "N 3"], targets: Float[np.ndarray, "T 3"]
) -> Float[np.ndarray, "T D"]:
    """Values of scattered places at other ones: means of the nearest, weighted by the inverse squared distance."""
    distances, nearest = KDTree(places).query(targets, k=NEIGHBOURS)
    weights = 1.0 / np.maximum(distances, 1e-6) ** 2
    weights /= weights.sum(axis=1, keepdims=True)
    return (values[nearest] * weights[..., None]).sum(axis=1)
