""".sog, PlayCanvas' spatially ordered Gaussians, version 2: pictures of numbers, lossless WebP, in a zip.

A pixel of every picture belongs to one Gaussian. Positions have 16 bits of sign(p) log(1 + |p|), in two pictures;
log scales and constant coefficients are places in codebooks of 256 values, opacities bytes, rotations a byte for each
of the smallest three and one for the place of the fourth. The other coefficients are rows of a palette, 64 to a line of
its picture, and their values places in a third codebook.
"""

import json
from collections.abc import Callable
from io import BytesIO
from math import ceil, sqrt
from pathlib import Path
from struct import error as StructError  # noqa: N812
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo
from zlib import error as ZlibError  # noqa: N812

import numpy as np

from splatdream.export.asset import Asset, check_bulk, cloud, logits, ready, received
from splatdream.export.atomic import atomic_write
from splatdream.export.axes import Axes
from splatdream.export.codebook import LEVELS, codebook, nearest, palette
from splatdream.export.quantize import from_smallest_three, levels, morton_order, smallest_three
from splatdream.splats import Splats

LARGEST_PLACE = 252
"""What the fourth byte of a rotation says of a largest component at place 0."""
LINE = 64
MOST_ROWS = 1 << 16
WIDEST = 16383
BANDS = {1: 3, 2: 8, 3: 15}
BROKEN = (BadZipFile, ZlibError, StructError, NotImplementedError, EOFError, OSError, ValueError)
"""What comes of a zip that is none."""


def write_sog(splats: Splats, path: str | Path, *, up: Axes = "y-down", antialiased: bool = False) -> None:
    """The cloud in the axes `up`, in the order of a curve through space, atomically.

    Errors are at most (1 + |p|) / 131070 of the range of log(1 + |p|) in a position, 1/254 of their range in log scales
    and all coefficients, 1/510 in an opacity and 0.0028 in three components of a rotation. Of more than 65536 different
    rows of coefficients beyond the constant, those alike are averaged. ValueError when a row is not finite.
    """
    splats = ready(splats, path, up=up)
    arrays = {name: value.numpy() for name, value in splats.parameters().items()}
    order = morton_order(arrays["means"])
    arrays = {name: value[order] for name, value in arrays.items()}
    opacities = levels(splats.opacities.numpy()[order], 8)[:, None]
    positions, bounds = pack_positions(arrays["means"])
    scales, colours = codebook(arrays["log_scales"]), codebook(arrays["sh0"])
    pictures = {
        "means_l.webp": square(positions & 255),
        "means_u.webp": square(positions >> 8),
        "scales.webp": square(nearest(arrays["log_scales"], scales)),
        "quats.webp": square(pack_rotations(arrays["quats"])),
        "sh0.webp": square(np.concatenate([nearest(arrays["sh0"][:, 0], colours), opacities], 1)),
    }
    meta: dict[str, Any] = {
        "version": 2,
        "asset": {"generator": "splatdream"},
        "count": len(splats),
        "antialias": antialiased,
        "means": bounds | {"files": ["means_l.webp", "means_u.webp"]},
        "scales": {"codebook": scales.tolist(), "files": ["scales.webp"]},
        "quats": {"files": ["quats.webp"]},
        "sh0": {"codebook": colours.tolist(), "files": ["sh0.webp"]},
    }
    if splats.sh_degree and len(splats):
        meta["shN"], more = pack_coefficients(arrays["shN"], splats.sh_degree)
        pictures |= more
    with atomic_write(path) as file, ZipFile(file, "w", ZIP_STORED) as archive:
        archive.writestr(ZipInfo("meta.json"), json.dumps(meta))
        for name, picture in pictures.items():
            archive.writestr(ZipInfo(name), webp(picture))


def pack_positions(means: np.ndarray) -> tuple[np.ndarray, dict[str, list[float]]]:
    """Numbers of 16 bits, and the bounds between which they lie."""
    values = np.copysign(np.log1p(np.abs(means.astype(np.float64))), means)
    low, high = (values.min(0), values.max(0)) if len(values) else (np.zeros(3), np.zeros(3))
    shares = np.divide(values - low, high - low, where=high > low, out=np.zeros_like(values))
    return levels(shares, 16), {"mins": low.tolist(), "maxs": high.tolist()}


def pack_rotations(quats: np.ndarray) -> np.ndarray:
    places, three = smallest_three(quats)
    return np.concatenate([levels(0.5 + 0.5 * three, 8), LARGEST_PLACE + places[:, None]], 1)


def pack_coefficients(shN: np.ndarray, degree: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What the meta data say of the coefficients, and their pictures."""
    book = codebook(shN)
    labels, rows = palette(book[nearest(shN, book)].reshape(len(shN), -1), MOST_ROWS)
    K = shN.shape[1]
    centroids = np.zeros((ceil(len(rows) / LINE) * LINE, K, 3), np.uint8)
    centroids[: len(rows)] = nearest(rows, book).reshape(-1, K, 3)
    pictures = {
        "shN_centroids.webp": centroids.reshape(-1, LINE * K, 3),
        "shN_labels.webp": square(np.stack([labels & 255, labels >> 8, np.zeros_like(labels)], 1)),
    }
    return {"count": len(rows), "bands": degree, "codebook": book.tolist(), "files": list(pictures)}, pictures


def square(rows: np.ndarray) -> np.ndarray:
    """Rows of bytes as the pixels of a picture that is about as high as wide."""
    width = max(1, ceil(sqrt(len(rows))))
    pixels = np.zeros((max(1, ceil(len(rows) / width)) * width, rows.shape[1]), np.uint8)
    pixels[: len(rows)] = rows
    return pixels.reshape(-1, width, rows.shape[1])


def webp(picture: np.ndarray) -> bytes:
    from PIL import Image

    content = BytesIO()
    # Exact, or colours would be lost where the fourth byte, no transparency here, is 0.
    Image.fromarray(picture).save(content, "WEBP", lossless=True, exact=True)
    return content.getvalue()


def load_sog(path: str | Path, *, up: Axes | None = None, drop_invalid: bool = False) -> Asset:
    """The asset in a file of version 2, whose axes are `up`, by default y-down.

    ValueError, saying why, for a file that is none, is cut short or does not fit together, and, unless they may be
    dropped, for rows that are not finite.
    """
    content = Path(path).read_bytes()
    try:
        archive = ZipFile(BytesIO(content))
    except BROKEN as error:
        raise ValueError(f"{path} is no complete .sog file: {error or type(error).__name__}") from error
    check_bulk(path, sum(info.file_size for info in archive.infolist()), len(content))
    return decode(path, lambda name: member(path, archive, name), up or "y-down", drop_invalid)


def member(path: str | Path, archive: ZipFile, name: str) -> bytes:
    """The bytes of a file in the zip."""
    if name not in archive.namelist():
        raise ValueError(f"{path} is no complete .sog file: it has no {name}")
    info = archive.getinfo(name)
    if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED) or info.flag_bits & 1:
        raise ValueError(f"{path} is no .sog file: its {name} is packed in a way that is not read, or encrypted")
    try:
        return archive.read(info)
    except BROKEN as error:
        raise ValueError(f"{path} is no complete .sog file: its {name} is broken: {error}") from error


def decode(path: str | Path, content: Callable[[str], bytes], source: Axes, drop_invalid: bool) -> Asset:
    """The asset of the files that `content` gives by name."""
    meta = Meta(path, content)
    count = meta.count()
    lower, upper = meta.pixels("means", 0, count)[:, :3], meta.pixels("means", 1, count)[:, :3]
    low, high = meta.numbers("means", "mins", 3), meta.numbers("means", "maxs", 3)
    values = low + (high - low) * ((upper.astype(np.float64) * 256 + lower) / 65535)
    with np.errstate(over="ignore"):
        means = np.copysign(np.expm1(np.abs(values)), values)
    quats = meta.pixels("quats", 0, count)
    if (quats[:, 3] < LARGEST_PLACE).any():
        raise ValueError(f"{path} has rotations that do not say which component they leave out")
    colours = meta.pixels("sh0", 0, count)
    splats = cloud(
        means=means,
        quats=from_smallest_three(quats[:, 3] - LARGEST_PLACE, quats[:, :3] / np.float32(127.5) - 1),
        log_scales=meta.book("scales")[meta.pixels("scales", 0, count)[:, :3]],
        logit_opacities=logits(colours[:, 3] / np.float32(255)),
        sh0=meta.book("sh0")[colours[:, :3]],
        shN=meta.coefficients(count),
    )
    antialiased = meta.data.get("antialias") is True
    return received(path, splats, source=source, drop_invalid=drop_invalid, antialiased=antialiased)


class Meta:
    """The meta data, and the pictures that they name; ValueError for all that is not as it must be."""

    def __init__(self, path: str | Path, content: Callable[[str], bytes]) -> None:
        self.path, self.content = path, content
        try:
            self.data = json.loads(content("meta.json"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is no .sog file: its meta.json cannot be read: {error}") from error
        version = self.data.get("version") if isinstance(self.data, dict) else None
        if version != 2:
            raise ValueError(f"{path} is a .sog file of version {version or 1!r}; version 2 is read")

    def entry(self, name: str, key: str, kind: type) -> Any:
        """What meta.json has under a name and a key."""
        part = self.data.get(name)
        found = part.get(key) if isinstance(part, dict) else None
        if not isinstance(found, kind) or isinstance(found, bool):
            raise ValueError(f"{self.path} is no .sog file: its meta.json has no {key} of {name}")
        return found

    def count(self) -> int:
        count = self.data.get("count")
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= WIDEST**2:
            raise ValueError(f"{self.path} is no .sog file: its meta.json counts {count!r} Gaussians")
        return count

    def numbers(self, name: str, key: str, count: int) -> np.ndarray:
        found = self.entry(name, key, list)
        try:
            numbers = np.array([float(number) for number in found])
        except (TypeError, ValueError, OverflowError):
            numbers = np.zeros(0)
        if len(numbers) != count:
            raise ValueError(f"{self.path} is no .sog file: the {key} of {name} are not {count} numbers")
        return numbers

    def book(self, name: str) -> np.ndarray:
        """A codebook."""
        found = self.entry(name, "codebook", list)
        # PlayCanvas wrote null at first for the lowest value of evenly spaced ones.
        if len(found) == LEVELS and found[0] is None and isinstance(found[1], float) and isinstance(found[-1], float):
            found[0] = found[1] + (found[1] - found[-1]) / (LEVELS - 1)
        return self.numbers(name, "codebook", LEVELS)

    def picture(self, name: str, index: int) -> np.ndarray:
        """A picture, H x W x 4."""
        files = self.entry(name, "files", list)
        if index >= len(files) or not isinstance(files[index], str):
            raise ValueError(f"{self.path} is no .sog file: its meta.json names no file {index} for {name}")
        return read_webp(f"{self.path}: {files[index]}", self.content(files[index]))

    def pixels(self, name: str, index: int, count: int) -> np.ndarray:
        """The first `count` pixels of a picture."""
        picture = self.picture(name, index)
        if picture.shape[0] * picture.shape[1] < count:
            raise ValueError(f"{self.path} counts {count} Gaussians, and its picture of {name} has fewer pixels")
        return picture.reshape(-1, 4)[:count]

    def coefficients(self, count: int) -> np.ndarray | None:
        """N x K x 3 out of the palette; None where there is none."""
        if self.data.get("shN") is None:
            return None
        rows, bands = self.entry("shN", "count", int), self.entry("shN", "bands", int)
        if bands not in BANDS:
            raise ValueError(f"{self.path} has spherical harmonics of degree {bands}; 0 to 3 are read")
        K = BANDS[bands]
        centroids, labels = self.picture("shN", 0), self.pixels("shN", 1, count).astype(np.int64)
        if centroids.shape[1] != LINE * K or not 0 <= rows <= len(centroids) * LINE:
            raise ValueError(f"{self.path} has a palette of {rows} rows, and a picture that is not made for it")
        labels = labels[:, 0] + 256 * labels[:, 1]
        if (labels >= rows).any():
            raise ValueError(f"{self.path} has coefficients outside of its palette of {rows} rows")
        return self.book("shN")[centroids[:, :, :3].reshape(-1, K, 3)[labels]]


def read_webp(what: str, content: bytes) -> np.ndarray:
    """A lossless WebP as H x W x 4 bytes; its size is checked before it is unpacked."""
    from PIL import Image

    width, height = webp_size(what, content)
    check_bulk(what, 4 * width * height, len(content))
    try:
        with Image.open(BytesIO(content), formats=["WEBP"]) as image:
            pixels = np.asarray(image.convert("RGBA"))
    except (OSError, ValueError, SyntaxError, RuntimeError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{what} is no complete picture: {error}") from error
    if pixels.shape != (height, width, 4):
        raise ValueError(f"{what} is no complete picture: its size is not the one that it tells")
    return pixels


def webp_size(what: str, content: bytes) -> tuple[int, int]:
    """Width and height by the header of the one or the other kind of lossless WebP."""
    if content[:4] == b"RIFF" and content[8:16] == b"WEBPVP8L" and len(content) >= 25:
        bits = int.from_bytes(content[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if content[:4] == b"RIFF" and content[8:16] == b"WEBPVP8X" and len(content) >= 30:
        return int.from_bytes(content[24:27], "little") + 1, int.from_bytes(content[27:30], "little") + 1
    raise ValueError(f"{what} is no lossless WebP")
