"""Compressed PLY, PlayCanvas' packed layout: 16 bytes a Gaussian and one for every coefficient beyond the constant.

256 neighbours share a chunk, which holds the least and the largest of their positions, log scales and colours; between
these a position and a scale have 11, 10 and 11 bits, a colour 8, an opacity 8, a rotation 2 and three times 10. The
coefficients have 8 bits for -4 ... 4.
"""

from pathlib import Path

import numpy as np

from splatdream.export.asset import Asset, cloud, logits, ready, received
from splatdream.export.atomic import atomic_write
from splatdream.export.axes import Axes
from splatdream.export.ply_header import header
from splatdream.export.quantize import from_smallest_three, levels, morton_order, smallest_three, unlevel
from splatdream.splats import SH_C0, Splats

CHUNK = 256
BITS = (11, 10, 11)
SHIFTS = (21, 11, 0)
LOG_SCALES = 20.0
"""Scales are cut off at exp(-20) and exp(20)."""
COEFFICIENTS = 8.0
PACKED = ["packed_position", "packed_rotation", "packed_scale", "packed_color"]
RANGES = [("", "xyz"), ("scale_", "xyz"), ("", "rgb")]
BOUNDS = [f"{end}_{kind}{axis}" for kind, axes in RANGES for end in ("min", "max") for axis in axes]


def write_compressed_ply(splats: Splats, path: str | Path, *, up: Axes = "y-down", antialiased: bool = False) -> None:
    """The cloud in the axes `up`, in the order of a curve through space, atomically.

    Half a level of error: of a chunk's extent, 1/4094 (in y 1/2046) in position and log scale and 1/510 in colour;
    1/510 in opacity, 0.0007 in three components of a rotation, 1/64 in a coefficient, which is cut off beyond 4.
    ValueError when a row is not finite.
    """
    splats = ready(splats, path, up=up)
    order = morton_order(splats.means.numpy())
    packed, bounds = zip(
        pack_three(splats.means.numpy()[order]),
        pack_three(np.clip(splats.log_scales.numpy()[order], -LOG_SCALES, LOG_SCALES)),
        pack_colours(splats.sh0.numpy()[order, 0], splats.opacities.numpy()[order]),
        strict=True,
    )
    position, scale, colour = packed
    rows = np.stack([position, pack_rotations(splats.quats.numpy()[order]), scale, colour], 1)
    rest = splats.shN.transpose(1, 2).flatten(1).numpy()[order]
    elements = [("chunk", len(bounds[0]), "float", BOUNDS), ("vertex", len(rows), "uint", PACKED)]
    if rest.shape[1]:
        elements.append(("sh", len(rows), "uchar", [f"f_rest_{index}" for index in range(rest.shape[1])]))
    with atomic_write(path) as file:
        file.write(header(elements, up=up, antialiased=antialiased))
        file.write(np.concatenate(bounds, 1).astype("<f4").data)
        file.write(rows.astype("<u4").data)
        file.write(np.clip((rest / COEFFICIENTS + 0.5) * 256, 0, 255).astype(np.uint8).data)


def pack_three(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Three numbers in 32 bits, and the bounds of each chunk."""
    low, high = bounds_of(values)
    first, second, third = (levels(shares(values, low, high)[:, axis], BITS[axis]) for axis in range(3))
    return first << 21 | second << 11 | third, np.concatenate([low, high], 1)


def pack_colours(sh0: np.ndarray, opacities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    colours = 0.5 + SH_C0 * sh0
    low, high = bounds_of(colours)
    red, green, blue = levels(shares(colours, low, high), 8).T
    return red << 24 | green << 16 | blue << 8 | levels(opacities, 8), np.concatenate([low, high], 1)


def pack_rotations(quats: np.ndarray) -> np.ndarray:
    places, three = smallest_three(quats)
    first, second, third = levels(0.5 + 0.5 * three, 10).T
    return places.astype(np.uint32) << 30 | first << 20 | second << 10 | third


def bounds_of(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest of every chunk, the last of which may be shorter."""
    starts = np.arange(0, len(values), CHUNK)
    if len(starts) == 0:
        return values[:0], values[:0]
    return np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)


def shares(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Where values lie between the bounds of their chunks, 0 to 1; 0 where these are equal."""
    chunks = np.arange(len(values)) // CHUNK
    # The distance of two numbers of float32 may be none itself.
    low = low.astype(np.float64)
    size = (high - low)[chunks]
    return np.divide(values - low[chunks], size, where=size > 0, out=np.zeros(values.shape))


# What bounds beyond float32 lead to is reported in words at the end.
@np.errstate(over="ignore", invalid="ignore")
def decode(
    path: str | Path,
    elements: dict[str, np.ndarray],
    *,
    source: Axes,
    drop_invalid: bool = False,
    antialiased: bool = False,
) -> Asset:
    """The asset in the elements of a compressed file; ValueError where they do not fit each other."""
    check(path, elements)
    rows = elements["vertex"]
    chunks = np.arange(len(rows)) // CHUNK
    position, rotation, scale, colour = (rows[name].astype(np.uint32) for name in PACKED)
    rgb = np.stack([unlevel(colour >> shift, 8) for shift in (24, 16, 8)], 1)
    # Before colours had bounds they lay in 0 ... 1.
    if coloured(elements):
        rgb = between(elements["chunk"], chunks, "", "rgb", rgb)
    three = np.stack([unlevel(rotation >> shift, 10) for shift in (20, 10, 0)], 1)
    splats = cloud(
        means=between(elements["chunk"], chunks, "", "xyz", unpack_three(position)),
        quats=from_smallest_three(rotation >> 30, 2 * three - 1),
        log_scales=between(elements["chunk"], chunks, "scale_", "xyz", unpack_three(scale)),
        logit_opacities=logits(unlevel(colour, 8)),
        sh0=(rgb - 0.5) / SH_C0,
        shN=coefficients(elements["sh"]) if "sh" in elements else None,
    )
    return received(path, splats, source=source, drop_invalid=drop_invalid, antialiased=antialiased)


def coloured(elements: dict[str, np.ndarray]) -> bool:
    """Whether colours have bounds."""
    return not set(BOUNDS[-6:]).isdisjoint(elements["chunk"].dtype.names or ())


def check(path: str | Path, elements: dict[str, np.ndarray]) -> None:
    """ValueError unless the elements are those of a compressed cloud and have the right lengths."""
    rows = elements.get("vertex", np.zeros(0))
    needed = {"vertex": PACKED, "chunk": BOUNDS if coloured(elements) else BOUNDS[:-6]}
    for element, names in needed.items():
        dtype = elements[element].dtype if element in elements else np.dtype([])
        missing = [name for name in names if name not in (dtype.names or ())]
        if missing:
            raise ValueError(
                f"{path} is an incomplete compressed PLY: its element {element} lacks {', '.join(missing)}"
            )
        if any(dtype[name].kind not in ("iu" if element == "vertex" else "f") for name in names):
            raise ValueError(f"{path} has numbers of a wrong type in its element {element}")
    if -(-len(rows) // CHUNK) != len(elements["chunk"]):
        raise ValueError(
            f"{path} has {len(rows)} Gaussians in {len(elements['chunk'])} chunks; {CHUNK} belong to a chunk"
        )
    if "sh" in elements:
        names = elements["sh"].dtype.names or ()
        wanted = [f"f_rest_{index}" for index in range(len(names))]
        if len(names) not in (9, 24, 45) or list(names) != wanted or len(elements["sh"]) != len(rows):
            raise ValueError(
                f"{path} has {len(elements['sh'])} rows of {len(names)} coefficients for {len(rows)} Gaussians"
            )
        if any(elements["sh"].dtype[name] != np.uint8 for name in names):
            raise ValueError(f"{path} has coefficients that are not of type uchar")


def unpack_three(packed: np.ndarray) -> np.ndarray:
    return np.stack([unlevel(packed >> shift, bits) for shift, bits in zip(SHIFTS, BITS, strict=True)], 1)


def between(bounds: np.ndarray, chunks: np.ndarray, kind: str, axes: str, part: np.ndarray) -> np.ndarray:
    """The values that lie `part` of the way from the lower to the upper bounds."""
    names = ([f"{end}_{kind}{axis}" for axis in axes] for end in ("min", "max"))
    low, high = (np.stack([bounds[name] for name in each], 1).astype(np.float64)[chunks] for each in names)
    return low + (high - low) * part


def coefficients(sh: np.ndarray) -> np.ndarray:
    """N x K x 3 from bytes, a byte standing for the middle of its interval and the ends for themselves."""
    flat = np.stack([sh[name] for name in sh.dtype.names or ()], 1)
    middle = (flat + np.float32(0.5)) / 256
    values = COEFFICIENTS * (np.where(flat == 0, 0, np.where(flat == 255, 1, middle)) - 0.5)
    return values.reshape(len(flat), 3, flat.shape[1] // 3).transpose(0, 2, 1)
