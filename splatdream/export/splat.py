""".splat, the layout of the viewer antimatter15/splat: 32 bytes a Gaussian and nothing else.

Three float32 of position, three of linear scale, four bytes of colour and opacity, four of a wxyz quaternion as
128 q + 128. The file has no header; those Gaussians come first that cover the most.
"""

from pathlib import Path

import numpy as np

from splatdream.export.asset import Asset, cloud, linear_scales, logits, logs, ready, received
from splatdream.export.atomic import atomic_write
from splatdream.export.axes import Axes
from splatdream.export.quantize import levels
from splatdream.splats import SH_C0, Splats

ROW = np.dtype([("means", "<f4", 3), ("scales", "<f4", 3), ("colours", "u1", 4), ("quats", "u1", 4)])


def write_splat(splats: Splats, path: str | Path, *, up: Axes = "y-down") -> None:
    """The cloud in the axes `up`, atomically, without view-dependent colour.

    Positions and scales are exact; colours, cut off at 0 and 1, and opacities are off by 1/510 at most, the components
    of a rotation by 1/256. ValueError when a row is not finite, or its scale beyond float32.
    """
    splats = ready(splats, path, up=up)
    order = (splats.log_scales.sum(1).exp() * splats.opacities).argsort(descending=True, stable=True)
    splats = splats.take(order)
    rows = np.empty(len(splats), ROW)
    rows["means"] = splats.means.numpy()
    rows["scales"] = linear_scales(splats, path)
    rows["colours"][:, :3] = levels(0.5 + SH_C0 * splats.sh0[:, 0].numpy(), 8)
    rows["colours"][:, 3] = levels(splats.opacities.numpy(), 8)
    rows["quats"] = pack_rotations(splats.quats.numpy())
    with atomic_write(path) as file:
        file.write(rows.data)


def pack_rotations(quats: np.ndarray) -> np.ndarray:
    """Bytes of the quaternions whose largest component is negative: -1 has a byte of its own, 1 has none."""
    largest = np.take_along_axis(quats, np.abs(quats).argmax(1)[:, None], 1)
    return np.rint(128 * np.where(largest > 0, -quats, quats) + 128).astype(np.uint8)


def load_splat(path: str | Path, *, up: Axes | None = None, drop_invalid: bool = False) -> Asset:
    """The asset in a file whose axes are `up`, by default y-down.

    ValueError for a length that is no multiple of 32 and, unless they may be dropped, for rows that are not finite or
    have a negative scale.
    """
    content = Path(path).read_bytes()
    if len(content) % ROW.itemsize:
        raise ValueError(f"{path} is no complete .splat file: {len(content):,} bytes are no multiple of {ROW.itemsize}")
    rows = np.frombuffer(content, ROW)
    splats = cloud(
        means=rows["means"],
        quats=(rows["quats"].astype(np.float32) - 128) / 128,
        log_scales=logs(rows["scales"]),
        logit_opacities=logits(rows["colours"][:, 3] / np.float32(255)),
        sh0=(rows["colours"][:, :3] / np.float32(255) - 0.5) / SH_C0,
    )
    return received(path, splats, source=up or "y-down", drop_invalid=drop_invalid)
