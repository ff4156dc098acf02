"""The readable renderer: every Gaussian meets every pixel, in plain torch, and autograd does the rest.

It is the reference for the fast ones, in float32 or float64. Semantics are those of gsplat 1.5.3, whose rules are
spelled out in `splatdream.render`. N Gaussians, B views, P pixels of a band of rows, D channels; `means2d` are in
pixels with pixel centres at +0.5, `conics` are inverse screen covariances (xx, xy, yy).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from splatdream.cameras import Cameras
from splatdream.contracts import Render
from splatdream.render import (
    BLUR,
    FAR,
    MARGIN,
    MAX_ALPHA,
    MAX_EXTENT,
    MIN_ALPHA,
    MIN_QUAT_NORM,
    MIN_TRANSMITTANCE,
    NEAR,
)
from splatdream.render._check import check
from splatdream.render.harmonics import band1, band2, band3
from splatdream.splats import SH_C0, Splats

PAIRS = 1_000_000
"""Pixel-Gaussian pairs held at once; more pixels are taken in bands of rows and computed again in backward."""


def render(
    splats: Splats,
    cameras: Cameras,
    backgrounds: Float[Tensor, "B 3"] | None = None,
    *,
    extras: Float[Tensor, "N E"] | None = None,
    antialiased: bool = False,
) -> Render:
    """The cloud from every camera; extras are composited over zero. ValueError for input that is not finite."""
    check(splats, cameras, backgrounds, extras)
    projection = project(splats, cameras, antialiased)
    if projection.means2d.requires_grad:
        projection.means2d.retain_grad()
    views = [composite_view(view, projection, splats, cameras, backgrounds, extras) for view in range(len(cameras))]
    features, alphas, depths = (torch.stack(values) for values in zip(*views, strict=True))
    return Render(features, alphas, depths, projection.means2d, projection.radii)


@dataclass(frozen=True)
class Projection:
    """Gaussians as ellipses on the screens of B views; `opacities` are lowered where antialiased."""

    means2d: Float[Tensor, "B N 2"]
    conics: Float[Tensor, "B N 3"]
    opacities: Float[Tensor, "B N"]
    depths: Float[Tensor, "B N"]
    radii: Int[Tensor, "B N 2"]
    drawn: Bool[Tensor, "B N"]


def project(splats: Splats, cameras: Cameras, antialiased: bool) -> Projection:
    """EWA splatting (Zwicker et al. 2001) as gsplat has it; what is not drawn gets harmless numbers, no gradient."""
    rotations, translations = cameras.viewmats[:, None, :3, :3], cameras.viewmats[:, None, :3, 3]
    means_c = (rotations @ splats.means[None, :, :, None])[..., 0] + translations
    depths = means_c[..., 2]
    drawn = (depths >= NEAR) & (depths <= FAR) & (splats.quats.norm(dim=-1) > MIN_QUAT_NORM)
    means_c = torch.where(drawn[..., None], means_c, means_c.new_tensor([0.0, 0.0, 1.0]))
    means2d, jacobians = perspective(means_c, cameras)
    axes = rotation_matrices(splats.quats) * splats.scales[:, None, :]
    spread = jacobians @ rotations @ axes
    covariances = spread @ spread.transpose(-1, -2)
    xx, xy, yy = covariances[..., 0, 0], covariances[..., 0, 1], covariances[..., 1, 1]
    sharp = xx * yy - xy * xy
    xx, yy = xx + BLUR, yy + BLUR
    determinants = xx * yy - xy * xy
    drawn = drawn & (determinants > 0) & determinants.isfinite()
    one = torch.ones_like(determinants)
    xx, yy, determinants = (torch.where(drawn, value, one) for value in (xx, yy, determinants))
    xy = torch.where(drawn, xy, torch.zeros_like(xy))
    opacities = splats.opacities.expand_as(depths)
    if antialiased:
        # The clamp keeps the root's gradient finite; a factor this small (1e-5) is below MIN_ALPHA anyhow.
        opacities = opacities * torch.where(drawn, sharp / determinants, one).clamp_min(1e-10).sqrt()
    radii = extents(means2d, xx, yy, opacities, cameras)
    drawn = drawn & (opacities >= MIN_ALPHA) & (radii > 0).any(-1)
    conics = torch.stack([yy, -xy, xx], -1) / determinants[..., None]
    return Projection(means2d, conics, opacities, depths, radii * drawn[..., None], drawn)


def perspective(
    means_c: Float[Tensor, "B N 3"], cameras: Cameras
) -> tuple[Float[Tensor, "B N 2"], Float[Tensor, "B N 2 3"]]:
    """Pixels of points in camera space, and the map's derivative, held at a frustum a little wider than the picture."""
    focals = cameras.Ks[:, None, [0, 1], [0, 1]]
    centres = cameras.Ks[:, None, [0, 1], [2, 2]]
    size = focals.new_tensor([cameras.width, cameras.height])
    slopes = means_c[..., :2] / means_c[..., 2:]
    margins = MARGIN * 0.5 * size / focals
    held = torch.minimum(torch.maximum(slopes, -centres / focals - margins), (size - centres) / focals + margins)
    scale = focals / means_c[..., 2:]
    jacobians = torch.cat([torch.diag_embed(scale), (-scale * held)[..., None]], -1)
    return focals * slopes + centres, jacobians


def rotation_matrices(quats: Float[Tensor, "N 4"]) -> Float[Tensor, "N 3 3"]:
    """Rotations of wxyz quaternions of any length; those without a direction become the identity."""
    usable = quats.norm(dim=-1, keepdim=True) > MIN_QUAT_NORM
    quats = torch.where(usable, quats, quats.new_tensor([1.0, 0.0, 0.0, 0.0]))
    w, x, y, z = (quats / quats.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
    ]
    return torch.stack(rows, -2)


@torch.no_grad()
def extents(means2d: Tensor, xx: Tensor, yy: Tensor, opacities: Tensor, cameras: Cameras) -> Int[Tensor, "B N 2"]:
    """Half sizes in pixels of the boxes outside which alpha is below MIN_ALPHA; 0 for boxes beside the picture."""
    reach = (2 * (opacities / MIN_ALPHA).clamp_min(1.0).log()).sqrt().clamp_max(MAX_EXTENT)
    radii = (reach[..., None] * torch.stack([xx, yy], -1).sqrt()).ceil()
    size = radii.new_tensor([cameras.width, cameras.height])
    inside = ((means2d + radii > 0) & (means2d - radii < size)).all(-1, keepdim=True)
    return (radii * inside).clamp_max(2**30).int()


def colours(splats: Splats, positions: Float[Tensor, "3"]) -> Float[Tensor, "N 3"]:
    """Colours seen from a camera at `positions`, spherical harmonics of the viewing direction included."""
    values = 0.5 + SH_C0 * splats.sh0[:, 0]
    if splats.sh_degree > 0:
        x, y, z = torch.nn.functional.normalize(splats.means - positions, dim=-1).unbind(-1)
        bands = [band(x, y, z) for band in (band1, band2, band3)[: splats.sh_degree]]
        bases = torch.stack([basis for band in bands for basis in band], -1)
        values = values + (bases[..., None] * splats.shN).sum(-2)
    return values.clamp_min(0.0)


def composite_view(
    view: int,
    projection: Projection,
    splats: Splats,
    cameras: Cameras,
    backgrounds: Tensor | None,
    extras: Tensor | None,
) -> tuple[Float[Tensor, "H W D"], Float[Tensor, "H W 1"], Float[Tensor, "H W 1"]]:
    """Features, alphas and expected depths of one view, a band of rows at a time."""
    order = projection.depths[view].argsort(stable=True)
    order = order[projection.drawn[view][order]]
    channels = [colours(splats, cameras.positions[view]), *([] if extras is None else [extras])]
    channels = torch.cat([*channels, projection.depths[view, :, None]], -1)[order]
    ellipses = (value[view, order] for value in (projection.means2d, projection.conics, projection.opacities))
    ellipses = (*ellipses, channels)
    rows = max(1, PAIRS // max(1, len(order) * cameras.width))
    bands = [
        checkpoint(composite_band, top, min(rows, cameras.height - top), cameras.width, *ellipses, use_reentrant=False)
        for top in range(0, cameras.height, rows)
    ]
    sums, transmittances = (torch.cat(values) for values in zip(*bands, strict=True))
    alphas = 1 - transmittances
    features = sums[..., :-1]
    if backgrounds is not None:
        padding = features.new_zeros(features.shape[-1] - 3)
        features = features + transmittances * torch.cat([backgrounds[view], padding])
    return features, alphas, sums[..., -1:] / alphas.clamp_min(1e-10)


def composite_band(
    top: int, rows: int, width: int, means2d: Tensor, conics: Tensor, opacities: Tensor, channels: Tensor
) -> tuple[Float[Tensor, "rows W D"], Float[Tensor, "rows W 1"]]:
    """Weighted sums of the channels of Gaussians sorted front to back, and the transmittance left, per pixel."""
    y = torch.arange(top, top + rows, dtype=means2d.dtype, device=means2d.device) + 0.5
    x = torch.arange(width, dtype=means2d.dtype, device=means2d.device) + 0.5
    dx = means2d[:, 0, None, None] - x[None, None, :]
    dy = means2d[:, 1, None, None] - y[None, :, None]
    a, b, c = (conic[:, None, None] for conic in conics.unbind(-1))
    sigmas = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
    # Rounding can make a needle's sigma negative; gsplat skips that pixel, and the clamp keeps exp finite there.
    alphas = (opacities[:, None, None] * torch.exp(-sigmas.clamp_min(0.0))).clamp_max(MAX_ALPHA)
    alphas = torch.where((sigmas >= 0) & (alphas >= MIN_ALPHA), alphas, torch.zeros_like(alphas))
    # Products only fall, so the first Gaussian to bring one to the limit ends its pixel, itself excluded.
    unspent = torch.cumprod(1 - alphas.detach(), 0) > MIN_TRANSMITTANCE
    alphas = alphas * unspent
    after = torch.cumprod(1 - alphas, 0)
    before = torch.cat([torch.ones_like(after[:1]), after[:-1]])
    sums = torch.einsum("npq,nd->pqd", alphas * before, channels)
    left = after[-1] if len(after) else torch.ones(rows, width, dtype=means2d.dtype, device=means2d.device)
    return sums, left[..., None]
