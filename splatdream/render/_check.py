"""What every renderer refuses before it starts: numbers that are not finite, devices and types that differ."""

from collections.abc import Iterator
from math import isfinite

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from splatdream.cameras import Cameras
from splatdream.splats import Splats

SH_BASES = (0, 3, 8, 15)


def check(
    splats: Splats,
    cameras: Cameras,
    backgrounds: Float[Tensor, "B 3"] | None,
    extras: Float[Tensor, "N E"] | None,
) -> None:
    """Nothing if the arguments can be drawn; else a ValueError that names the first one that cannot."""
    inputs = dict(named(splats, cameras, backgrounds, extras))
    device, dtype = splats.means.device, splats.means.dtype
    for name, value in inputs.items():
        if value.device != device:
            raise ValueError(f"{name} is on {value.device}, but means are on {device}: move both to one device.")
        if value.dtype != dtype:
            raise ValueError(f"{name} has type {value.dtype}, but means have {dtype}: one type is allowed in a call.")
    if splats.shN.shape[1] not in SH_BASES:
        raise ValueError(f"shN has {splats.shN.shape[1]} bases; degrees 0 to 3 have {SH_BASES}.")
    check_sizes(splats, cameras, backgrounds, extras)
    for (name, value), total in zip(inputs.items(), totals(list(inputs.values())), strict=True):
        if not isfinite(total) and not bool(value.isfinite().all()):
            bad = int((~value.isfinite()).sum())
            raise ValueError(f"{name} holds {bad} numbers that are not finite; a renderer takes finite ones only.")


def totals(tensors: list[Tensor]) -> list[float]:
    """The sums: one cheap pass, and finite only if no entry is NaN or infinite (though large entries may overflow)."""
    if tensors[0].device.type != "cpu":
        return torch.stack([tensor.detach().sum() for tensor in tensors]).tolist()
    # Numpy, since torch would wake its threads for so little.
    with np.errstate(all="ignore"):
        return [float(tensor.detach().numpy().sum()) for tensor in tensors]


def check_sizes(splats: Splats, cameras: Cameras, backgrounds: Tensor | None, extras: Tensor | None) -> None:
    """Nothing if rows and views agree; kernels would read past the end of a shorter tensor."""
    for name, value in splats.parameters().items():
        if len(value) != len(splats):
            raise ValueError(f"{name} has {len(value)} rows, but means have {len(splats)}.")
    if extras is not None and len(extras) != len(splats):
        raise ValueError(f"extras have {len(extras)} rows, but there are {len(splats)} Gaussians.")
    if backgrounds is not None and tuple(backgrounds.shape) != (len(cameras), 3):
        raise ValueError(f"backgrounds have shape {tuple(backgrounds.shape)}; {(len(cameras), 3)} is needed.")


def named(
    splats: Splats, cameras: Cameras, backgrounds: Tensor | None, extras: Tensor | None
) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a call and what the user calls them."""
    yield from splats.parameters().items()
    yield "viewmats", cameras.viewmats
    yield "Ks", cameras.Ks
    if backgrounds is not None:
        yield "backgrounds", backgrounds
    if extras is not None:
        yield "extras", extras
