"""The fast renderer for machines without CUDA: own kernels in numba, forward and backward.

Two differentiable steps, named as in gsplat: `Project` makes ellipses of Gaussians, `Composite` lays them over the
background. Between them lies `screen`, whose gradient densification needs. Work is shared among threads by tasks that
write disjoint memory, so the same input gives the same bytes for any number of threads (`_threads`). Kernels compile at
first use and are cached beside the source or, where that is read-only, in the user's cache.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from splatdream.cameras import Cameras
from splatdream.contracts import Render
from splatdream.render._check import check
from splatdream.render._composite import AREA, composite
from splatdream.render._composite_backward import MOMENTS, composite_backward, gather
from splatdream.render._project import ROW, project
from splatdream.render._project_backward import project_backward
from splatdream.render._threads import run
from splatdream.render._tiles import HEAD, tile_lists
from splatdream.splats import Splats

GAUSSIANS_AT_ONCE = 512
TILES_AT_ONCE = 8


def render(
    splats: Splats,
    cameras: Cameras,
    backgrounds: Float[Tensor, "B 3"] | None = None,
    *,
    extras: Float[Tensor, "N E"] | None = None,
    antialiased: bool = False,
) -> Render:
    """The cloud from every camera; extras are composited over zero. Not differentiable in the cameras.

    ValueError for input that is not finite, not in main memory or not float32.
    """
    check(splats, cameras, backgrounds, extras)
    if splats.means.device.type != "cpu" or splats.means.dtype != torch.float32:
        found = f"{splats.means.dtype} on {splats.means.device}"
        raise ValueError(f"means are {found}; cpu takes float32 in main memory (`dense` takes the rest).")
    size = (cameras.width, cameras.height)
    means2d, rows, radii = Project.apply(*splats.parameters().values(), view_table(cameras), size, antialiased)
    if means2d.requires_grad:
        means2d.retain_grad()
    if extras is None:
        extras = zeros(len(splats), 0)
    backdrop = zeros(len(cameras), 3 + extras.shape[1])
    if backgrounds is not None:
        backdrop = torch.cat([backgrounds, backdrop[:, 3:]], -1)
    features, alphas, depths = Composite.apply(means2d, rows, extras, backdrop, radii, size)
    return Render(features, alphas, depths, means2d, radii)


def view_table(cameras: Cameras) -> np.ndarray:
    """(B, 19) doubles: the world-to-camera rows (12), fx fy cx cy, and the camera's place in the world."""
    viewmats, Ks = cameras.viewmats.detach().double(), cameras.Ks.detach().double()
    lens = torch.stack([Ks[:, 0, 0], Ks[:, 1, 1], Ks[:, 0, 2], Ks[:, 1, 2]], -1)
    positions = -(viewmats[:, :3, :3] * viewmats[:, :3, 3:]).sum(1)
    return torch.cat([viewmats[:, :3].reshape(-1, 12), lens, positions], -1).numpy()


def zeros(*shape: int, dtype: type = np.float32) -> Tensor:
    """Zeros from numpy, whose pages come from the system already cleared: torch would wake its threads for them."""
    return torch.from_numpy(np.zeros(shape, dtype))


def given(gradients, shapes) -> list[Tensor]:
    """The gradients that arrive, zeros for outputs that the loss does not use."""
    pairs = zip(gradients, shapes, strict=True)
    return [zeros(*shape) if gradient is None else gradient for gradient, shape in pairs]


def arrays(tensors) -> list[np.ndarray]:
    """The tensors' own memory, row by row."""
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


class Project(torch.autograd.Function):
    """Stored parameters -> means2d (B N 2), rows (B N ROW) of `_project`, radii (B N 2)."""

    @staticmethod
    def forward(ctx, means, quats, log_scales, logit_opacities, sh0, shN, views, size, antialiased):
        inputs = (means, quats, log_scales, logit_opacities, sh0, shN)
        shape = (len(views), len(means))
        means2d, rows, radii = zeros(*shape, 2), zeros(*shape, ROW), zeros(*shape, 2, dtype=np.int32)
        ctx.settings = (views, size, antialiased)
        written = arrays((means2d, rows, radii))
        run(project, len(means), GAUSSIANS_AT_ONCE, *arrays(inputs), *ctx.settings, *written)
        ctx.save_for_backward(*inputs, rows, radii)
        ctx.mark_non_differentiable(radii)
        ctx.set_materialize_grads(False)
        return means2d, rows, radii

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        *inputs, rows, radii = ctx.saved_tensors
        results = [zeros(*tensor.shape) for tensor in inputs]
        received = given(gradients[:2], (radii.shape, rows.shape))
        upstream = arrays((rows, radii, *received))
        settings = (len(results[0]), GAUSSIANS_AT_ONCE, *arrays(inputs), *ctx.settings)
        run(project_backward, *settings, *upstream, *arrays(results))
        return *results, None, None, None


class Composite(torch.autograd.Function):
    """Ellipses, extras (N E) and backgrounds (B D) -> features (B H W D), alphas and expected depths (B H W 1)."""

    @staticmethod
    def forward(ctx, means2d, rows, extras, backgrounds, radii, size):
        lists = tile_lists(*arrays((means2d, rows, radii, extras)), size=size)
        views, channels = len(means2d), 4 + extras.shape[1]
        features, alphas, depths = (torch.empty(views, size[1], size[0], d) for d in (channels - 1, 1, 1))
        tiles = lists.begins.shape[1] - 1
        ctx.ends = np.empty((views, tiles, 2, AREA), np.float32)
        ctx.common = (lists.packed, lists.pairs, lists.begins, size, *arrays([backgrounds]))
        outputs = arrays((features, alphas, depths))
        run(composite, views * tiles, TILES_AT_ONCE, *ctx.common, ctx.ends, *outputs)
        ctx.lists = lists
        ctx.save_for_backward(alphas, depths)
        ctx.set_materialize_grads(False)
        return features, alphas, depths

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        lists, (views, tiles, *_), (alphas, depths) = ctx.lists, ctx.ends.shape, ctx.saved_tensors
        channels = lists.packed.shape[2] - HEAD
        shapes = ((*alphas.shape[:3], channels - 1), alphas.shape, depths.shape)
        v_slots = np.empty((len(lists.pairs), MOMENTS + channels), np.float32)
        v_backgrounds = np.zeros((views, tiles, channels - 1), np.float32)
        upstream = arrays((alphas, depths, *given(gradients, shapes)))
        written = (v_slots, v_backgrounds)
        run(composite_backward, views * tiles, TILES_AT_ONCE, *ctx.common, ctx.ends, *upstream, *written)
        v_means2d, v_rows, v_extras = (
            np.zeros((*lists.order.shape, size), np.float32) for size in (2, ROW, channels - 4)
        )
        run(gather, views, 1, lists.order, lists.seen, lists.slots, lists.begins, lists.packed, v_slots,
            v_means2d, v_rows, v_extras)  # fmt: skip
        # Numpy adds in one order whatever the number of threads; torch does not promise that.
        results = (v_means2d, v_rows, v_extras.sum(0), v_backgrounds.sum(1))
        return *(torch.from_numpy(result) for result in results), None, None
