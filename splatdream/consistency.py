"""Consistency of what is rendered with one surface: thin along each ray, alike normals, alike colours next door.

They read the rendered depth, whose pixel centres lie at +0.5. Each pixel counts by its opacity, which receives no
gradient: a term that could be lowered by fading the object would fade it. B views of H x W pixels, N Gaussians.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample

from splatdream.cameras import Cameras
from splatdream.contracts import Render

HIDDEN = 0.05
"""A point so far behind the surface that another camera sees, in world units, is hidden from that camera."""


def second_moments(means: Float[Tensor, "N 3"]) -> Float[Tensor, "N 12"]:
    """Each centre and the products of its coordinates: extra channels, from which any camera reads a depth variance."""
    return torch.cat([means, (means[:, :, None] * means[:, None, :]).flatten(1)], dim=-1)


def depth_variance(render: Render, cameras: Cameras) -> Float[Tensor, ""]:
    """The variance of depth along each ray, per ray (HiFA's z-variance, Zhu et al. 2024, section 3.3).

    `render` carries the `second_moments` as its extra channels. Divided by the opacity, which the loss weighs each ray
    by, the weights along a ray are a distribution; the published code leaves this out where rays are half transparent.
    """
    share = render.alphas.clamp_min(1e-4)
    first, second = (render.features[..., 3:] / share).split([3, 9], dim=-1)
    axis = cameras.viewmats[:, None, None, 2, :3].to(first)
    spread = second.unflatten(-1, (3, 3)) - first[..., :, None] * first[..., None, :]
    variance = torch.einsum("bhwi,bhwij,bhwj->bhw", axis.expand_as(first), spread, axis.expand_as(first))
    return (render.alphas.detach()[..., 0] * variance).mean()


def normal_variation(render: Render, cameras: Cameras) -> Float[Tensor, ""]:
    """The squared differences between neighbouring normals of the depth's surface, summed, per normal."""
    normals = surface_normals(camera_points(render.depths, cameras))
    opaque = render.alphas.detach()
    weights = opaque[:, :-1, :-1] * opaque[:, 1:, :-1] * opaque[:, :-1, 1:]
    vertical = weights[:, 1:] * weights[:, :-1] * (normals[:, 1:] - normals[:, :-1]).square()
    horizontal = weights[:, :, 1:] * weights[:, :, :-1] * (normals[:, :, 1:] - normals[:, :, :-1]).square()
    return (vertical.sum() + horizontal.sum()) / weights.numel()


def reprojection_error(render: Render, cameras: Cameras, other: Render, other_cameras: Cameras) -> Float[Tensor, ""]:
    """The squared difference in colour between each surface point and the other view's pixel of it, summed, per value.

    Views are paired in their order. What the other view does not see, or sees something else in front of, does not
    count. The gradient reaches both views' colours and, through the place where the other view is read, the depth.
    """
    points = camera_points(render.depths, cameras)
    inside = in_camera(points, cameras, other_cameras)
    seen = torch.cat([other.images, other.alphas, other.depths], dim=-1)
    images, alphas, depths = look_up(seen, inside, other_cameras).split([3, 1, 1], dim=-1)
    visible = inside[..., 2:] < depths + HIDDEN
    weights = (render.alphas * alphas * visible).detach()
    return (weights * (render.images - images).square()).sum() / images.numel()


def camera_points(depths: Float[Tensor, "B H W 1"], cameras: Cameras) -> Float[Tensor, "B H W 3"]:
    """The point at each pixel's depth, in its camera's axes."""
    height, width = depths.shape[1:3]
    place = {"device": depths.device, "dtype": depths.dtype}
    y, x = torch.meshgrid(torch.arange(height, **place) + 0.5, torch.arange(width, **place) + 0.5, indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    rays = torch.einsum("bij,hwj->bhwi", torch.linalg.inv_ex(cameras.Ks.to(depths)).inverse, pixels)
    return depths * rays


def surface_normals(points: Float[Tensor, "B H W 3"]) -> Float[Tensor, "B h w 3"]:
    """Unit normals of each point with its right and lower neighbours, towards the camera; 0 where there is none."""
    right = points[:, :-1, 1:] - points[:, :-1, :-1]
    down = points[:, 1:, :-1] - points[:, :-1, :-1]
    normals = torch.linalg.cross(down, right)
    squares = normals.square().sum(-1, keepdim=True)
    # Where no surface is, the root of 0 would have no gradient; it is taken of 1 instead.
    return normals / torch.where(squares > 0.0, squares, 1.0).sqrt()


def in_camera(points: Float[Tensor, "B H W 3"], cameras: Cameras, other: Cameras) -> Float[Tensor, "B H W 3"]:
    """Points in the axes of `cameras`, in those of `other`."""
    across = other.viewmats.to(points) @ torch.linalg.inv_ex(cameras.viewmats.to(points)).inverse
    return torch.einsum("bij,bhwj->bhwi", across[:, :3, :3], points) + across[:, None, None, :3, 3]


def look_up(
    values: Float[Tensor, "B H W D"], points: Float[Tensor, "B H W 3"], cameras: Cameras
) -> Float[Tensor, "B H W D"]:
    """What the pictures `values` show at the points, in their cameras' axes; 0 outside and behind."""
    pixels = torch.einsum("bij,bhwj->bhwi", cameras.Ks.to(points)[:, :2], points) / points[..., 2:].clamp_min(1e-6)
    size = pixels.new_tensor([cameras.width, cameras.height])
    found = grid_sample(values.permute(0, 3, 1, 2), 2.0 * pixels / size - 1.0, align_corners=False)
    return found.permute(0, 2, 3, 1)
