"""Asset: a cloud as a file holds it, and what all readers and writers have in common.

Writers take the cloud as `ready` makes it; readers hand what they decoded to `received`, which turns it to our axes.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from splatdream.export.axes import Axes, turn
from splatdream.splats import Splats, logit

LOG_FLAT = -87.0
"""The logarithm of a scale of 0, of which float32 has none."""
FREE_BYTES = 1 << 26
MOST_PACKED = 1024
"""No file is taken to hold more than this many times its size, except for a few bytes that any machine has."""


@dataclass(frozen=True)
class Asset:
    """A cloud, and whether it was made with an antialiasing renderer and looks right in such a one only.

    `dropped` counts the file's rows that are not finite and were left out.
    """

    splats: Splats
    antialiased: bool = False
    dropped: int = 0


def ready(splats: Splats, path: str | Path, *, up: Axes) -> Splats:
    """The cloud in main memory and float32, in the axes `up`, its quaternions of unit length.

    ValueError when a row is not finite.
    """
    splats = turn(splats.detach().to("cpu", torch.float32), target=up)
    refuse_broken(len(splats) - len(finite_part(splats)), len(splats), path)
    return splats.replace(quats=torch.nn.functional.normalize(splats.quats, dim=-1))


def refuse_broken(broken: int, count: int, path: str | Path) -> None:
    if broken:
        raise ValueError(f"{broken} of {count} Gaussians are not finite; nothing was written to {path}")


def received(
    path: str | Path, splats: Splats, *, source: Axes, drop_invalid: bool = False, antialiased: bool = False
) -> Asset:
    """The asset in a file whose axes are `source`; ValueError for rows that are not finite and may not be dropped."""
    kept = finite_part(splats)
    dropped = len(splats) - len(kept)
    refuse_rows(path, dropped, len(splats), drop_invalid)
    return Asset(turn(kept, source=source).map(Tensor.contiguous), antialiased, dropped)


def refuse_rows(path: str | Path, broken: int, count: int, drop_invalid: bool) -> None:
    """ValueError for broken rows that may not be dropped."""
    if broken and not drop_invalid:
        raise ValueError(
            f"{path}: {broken} of {count} rows are not finite; drop_invalid=True (--drop-invalid) leaves them out"
        )


def finite_part(splats: Splats) -> Splats:
    """The rows of nothing but finite values."""
    # Where a sum is finite, so is every term; that it is not may also come of its size.
    if all(value.sum().isfinite() for value in splats.parameters().values()):
        return splats
    rows = finite_rows(splats)
    return splats.map(lambda value: value[rows])


def finite_rows(splats: Splats) -> Bool[Tensor, " N"]:
    rows = torch.ones(len(splats), dtype=torch.bool)
    for value in splats.parameters().values():
        finite = value.isfinite()
        rows &= finite if finite.ndim == 1 else finite.flatten(1).all(1)
    return rows


def cloud(
    means: np.ndarray,
    quats: np.ndarray,
    log_scales: np.ndarray,
    logit_opacities: np.ndarray,
    sh0: np.ndarray,
    shN: np.ndarray | None = None,
) -> Splats:
    """Splats of arrays of any real type, a row each; `sh0` is N x 3."""
    arrays = [means, quats, log_scales, logit_opacities, sh0[:, None], shN if shN is not None else sh0[:, None][:, :0]]
    # A double beyond float32 becomes infinite here, and is reported in words later.
    with np.errstate(over="ignore"):
        return Splats(*(torch.from_numpy(np.require(array, np.float32, ["C", "W"])) for array in arrays))


def logits(opacities: np.ndarray) -> np.ndarray:
    """Logits of opacities, finite for 0 and 1; NaN for what is no opacity."""
    opacities = np.where((opacities >= 0) & (opacities <= 1), opacities, np.nan)
    return logit(torch.from_numpy(opacities.astype(np.float32))).numpy()


def logs(scales: np.ndarray) -> np.ndarray:
    """Logarithms of scales, finite for 0; NaN for negative ones."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.maximum(np.log(scales), LOG_FLAT, where=scales >= 0, out=np.full(scales.shape, np.nan))


def linear_scales(splats: Splats, path: str | Path) -> np.ndarray:
    """The scales that the logarithms stand for; ValueError where float32 has no such number."""
    scales = splats.scales.numpy()
    beyond = int((~np.isfinite(scales)).any(1).sum())
    if beyond:
        raise ValueError(
            f"{beyond} of {len(splats)} Gaussians are larger than float32 can say; nothing was written to {path}"
        )
    return scales


def check_bulk(path: str | Path, size: int, packed: int) -> None:
    """ValueError when `packed` bytes of a file claim to unpack to a `size` that they hardly can."""
    if size > max(FREE_BYTES, MOST_PACKED * packed):
        raise ValueError(f"{path} claims to hold {size:,} bytes in {packed:,}; no splat file packs so tightly")
