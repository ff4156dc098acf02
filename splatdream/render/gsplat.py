"""The renderer for CUDA: gsplat's own rasteriser behind the common signature.

gsplat is imported at the first call, never before: on a machine with a CUDA compiler and no GPU, touching a kernel
starts a build of many minutes. Its backward adds with atomics, so gradients differ in the last bits from run to run.
"""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from splatdream.cameras import Cameras
from splatdream.contracts import Render
from splatdream.render import BLUR, FAR, NEAR
from splatdream.render._check import check
from splatdream.render.dense import colours
from splatdream.render.gsplat_build import one_at_a_time
from splatdream.splats import Splats


def render(
    splats: Splats,
    cameras: Cameras,
    backgrounds: Float[Tensor, "B 3"] | None = None,
    *,
    extras: Float[Tensor, "N E"] | None = None,
    antialiased: bool = False,
) -> Render:
    """The cloud from every camera; extras are composited over zero. Places of Gaussians not drawn mean nothing.

    ValueError for input that is not finite, not on a CUDA device or not float32; RuntimeError where gsplat has no
    kernels.
    """
    rasterization = rasterizer()
    check(splats, cameras, backgrounds, extras)
    if splats.means.device.type != "cuda" or splats.means.dtype != torch.float32:
        found = f"{splats.means.dtype} on {splats.means.device}"
        raise ValueError(f"means are {found}; gsplat takes float32 on cuda (`cpu` renders in main memory).")
    colors, sh_degree = features(splats, cameras, extras)
    if backgrounds is not None and extras is not None:
        backgrounds = torch.cat([backgrounds, backgrounds.new_zeros(len(cameras), extras.shape[1])], -1)
    composed, alphas, info = rasterization(
        splats.means,
        splats.quats,
        splats.scales,
        splats.opacities,
        colors,
        cameras.viewmats,
        cameras.Ks,
        cameras.width,
        cameras.height,
        near_plane=NEAR,
        far_plane=FAR,
        eps2d=BLUR,
        sh_degree=sh_degree,
        packed=False,
        backgrounds=backgrounds,
        render_mode="RGB+ED",
        rasterize_mode="antialiased" if antialiased else "classic",
    )
    screen = info["means2d"]
    if screen.requires_grad:
        screen.retain_grad()
    return Render(composed[..., :-1], alphas, composed[..., -1:], screen, info["radii"])


def features(
    splats: Splats, cameras: Cameras, extras: Float[Tensor, "N E"] | None
) -> tuple[Float[Tensor, "*values"], int | None]:
    """What gsplat is to composite: harmonics of a degree or, since it cannot mix them with extras, values per view."""
    if extras is None:
        return torch.cat([splats.sh0, splats.shN], 1), splats.sh_degree
    views = [torch.cat([colours(splats, position), extras], -1) for position in cameras.positions]
    return torch.stack(views), None


def rasterizer():
    """`gsplat.rasterization`, or a RuntimeError that says what is missing."""
    if not torch.cuda.is_available():
        raise RuntimeError("gsplat needs a CUDA device and torch finds none; the renderer cpu needs none.")
    if compiled() is None:
        raise RuntimeError(
            "gsplat has no compiled kernels here: it needs the CUDA toolkit (nvcc) to build them at first use, "
            "or one of its prebuilt wheels (https://docs.gsplat.studio/whl)."
        )
    import gsplat

    return gsplat.rasterization


@cache
def compiled():
    """gsplat's compiled kernels or None; the first call on a machine builds them, while others wait."""
    with one_at_a_time():
        from gsplat.cuda import _backend
    return _backend._C
