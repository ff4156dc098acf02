""".spz, Niantic's packed layout: 20 bytes a Gaussian and one for every coefficient beyond the constant, compressed.

Positions are fixed-point numbers of 24 bits, log scales l bytes 16 (l + 10), opacities o bytes 255 o, constant
coefficients f bytes 255 (0.15 f + 0.5), other coefficients f bytes 128 f + 128, rotations 2 and three times 10 bits.
Version 3 keeps all of it in one gzip stream, version 4 every attribute in a stream of Zstandard. Axes are y-up.
Versions 1 and 2 are read as well; they have rotations of three bytes, and version 1 has positions of float16.
"""

import gzip
import struct
import zlib
from pathlib import Path
from types import ModuleType

import numpy as np

from splatdream.export.asset import Asset, check_bulk, cloud, logits, ready, received
from splatdream.export.atomic import atomic_write
from splatdream.export.axes import Axes
from splatdream.export.quantize import from_smallest_three, levels, smallest_three, unlevel
from splatdream.splats import Splats

MAGIC = b"NGSP"
HEAD = struct.Struct("<4sIIBBBB")
"""Magic, version, count, degree, fractional bits, flags, number of streams."""
HEAD_4 = struct.Struct("<4sIIBBBBI12x")
"""The same and the place of the table of streams."""
STREAM = struct.Struct("<QQ")
EXTENSION = struct.Struct("<II")
ANTIALIASED, EXTENDED = 1, 2
FRACTIONAL_BITS = 12
MOST_EXTRA = 1 << 20
COLOUR = 0.15

COORDINATES = 0xADBE0003
"""The extension that tells the axes, by the letters of right, up and back, down and forward."""
KNOWN_COORDINATES: dict[int, Axes] = {0: "y-up", 4: "y-up", 6: "y-down", 12: "z-up"}


def write_spz(
    splats: Splats,
    path: str | Path,
    *,
    up: Axes = "y-up",
    version: int = 3,
    sh_bits: tuple[int, int] = (5, 4),
    antialiased: bool = False,
) -> None:
    """The cloud in the axes `up`, atomically.

    Errors are at most 1/8192 in a position (more where |p| >= 2048), 1/32 in a log scale, which is cut off at -10 and
    5.94, 1/510 in an opacity, 0.0131 in a constant coefficient, 0.0007 in three components of a rotation. Coefficients
    of degree 1 and of degrees 2 and 3 keep so many `sh_bits` b: they are off by 2^-b + 1/256 and cut off at -1 and 1.
    ValueError when a row is not finite or lies beyond 2^22, for unknown options, and for version 4 without zstandard.

    PlayCanvas' tools take the axes for those of a PLY (splat-transform since version 3); for them write y-down.
    """
    if version not in (3, 4):
        raise ValueError(f"version {version} of .spz is not written; choose 3 or 4")
    if not all(1 <= bits <= 8 for bits in sh_bits):
        raise ValueError(f"coefficients can keep 1 to 8 bits, not {sh_bits}")
    zstandard = zstandard_for(path) if version == 4 else None
    splats = ready(splats, path, up=up)
    bits = fractional_bits(path, splats.means.numpy())
    sections = [
        pack_positions(splats.means.numpy(), bits),
        levels(splats.opacities.numpy(), 8).astype(np.uint8),
        byte(255 * (COLOUR * splats.sh0.numpy() + 0.5)),
        byte(16 * (splats.log_scales.numpy() + 10)),
        pack_rotations(splats.quats.numpy()),
        pack_coefficients(splats.shN.numpy(), sh_bits),
    ]
    head = (MAGIC, version, len(splats), splats.sh_degree, bits, ANTIALIASED if antialiased else 0)
    if zstandard is None:
        content = gzip.compress(HEAD.pack(*head, 0) + b"".join(map(np.ndarray.tobytes, sections)), 6, mtime=0)
    else:
        kept = [section.tobytes() for section in sections if section.size]
        streams = [zstandard.ZstdCompressor(level=12).compress(section) for section in kept]
        table = [STREAM.pack(len(stream), len(section)) for stream, section in zip(streams, kept, strict=True)]
        content = b"".join([HEAD_4.pack(*head, len(kept), HEAD_4.size), *table, *streams])
    with atomic_write(path) as file:
        file.write(content)


def zstandard_for(path: str | Path) -> ModuleType:
    try:
        import zstandard
    except ImportError as error:
        message = f"{path}: version 4 of .spz needs the package zstandard; pip install 'splatdream[formats]'"
        raise ValueError(message) from error
    return zstandard


def fractional_bits(path: str | Path, means: np.ndarray) -> int:
    """How many of a position's 24 bits lie behind the point: 12, or as many as the largest leaves."""
    largest = float(np.abs(means).max(initial=0))
    for bits in range(FRACTIONAL_BITS, 0, -1):
        if largest * 2**bits + 1 < 2**23:
            return bits
    raise ValueError(f"a Gaussian at {largest:.4g} lies beyond what .spz can hold; nothing was written to {path}")


def byte(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def pack_positions(means: np.ndarray, bits: int) -> np.ndarray:
    fixed = np.rint(means.astype(np.float64) * 2**bits).astype("<i4")
    return fixed[:, :, None].view(np.uint8)[:, :, :3]


def pack_rotations(quats: np.ndarray) -> np.ndarray:
    """32 bits, of an xyzw quaternion the place of the largest component and sign and size of the three others."""
    places, three = smallest_three(quats[:, [1, 2, 3, 0]])
    numbers = levels(np.abs(three), 9) | (three < 0).astype(np.uint32) << 9
    packed = places.astype(np.uint32) << 30 | numbers[:, 0] << 20 | numbers[:, 1] << 10 | numbers[:, 2]
    return packed.astype("<u4")


def pack_coefficients(shN: np.ndarray, sh_bits: tuple[int, int]) -> np.ndarray:
    """Bytes whose lower bits are nought where fewer than 8 are kept."""
    K = shN.shape[1]
    steps = np.array([2 ** (8 - sh_bits[0])] * min(K, 3) + [2 ** (8 - sh_bits[1])] * max(K - 3, 0))[:, None]
    return byte((np.rint(128 * shN + 128) + steps // 2) // steps * steps)


def load_spz(path: str | Path, *, up: Axes | None = None, drop_invalid: bool = False) -> Asset:
    """The asset in a file of version 1 to 4, whose axes are `up`, else what the file says, else y-up.

    ValueError, saying why, for a file that is none, is cut short or has a degree above 3, for version 4 without
    zstandard, and, unless they may be dropped, for rows that are not finite.
    """
    content = Path(path).read_bytes()
    if content[:4] == MAGIC:
        head, sections, extensions = read_streams(path, content)
    else:
        head, sections, extensions = read_gzip(path, content)
    _, version, count, degree, bits, flags, _ = head
    positions, alphas, colours, scales, rotations, coefficients = sections
    splats = cloud(
        means=unpack_positions(positions, count, version, bits),
        quats=unpack_rotations(rotations, version),
        log_scales=scales.reshape(count, 3) / np.float32(16) - 10,
        logit_opacities=logits(unlevel(alphas, 8)),
        sh0=(colours.reshape(count, 3) / np.float32(255) - 0.5) / COLOUR,
        shN=(coefficients.reshape(count, (degree + 1) ** 2 - 1, 3).astype(np.float32) - 128) / 128,
    )
    source = up or said_axes(path, extensions if flags & EXTENDED else b"")
    return received(path, splats, source=source, drop_invalid=drop_invalid, antialiased=bool(flags & ANTIALIASED))


def read_gzip(path: str | Path, content: bytes) -> tuple[tuple, list[np.ndarray], bytes]:
    """Head, sections and extensions of versions 1 to 3."""
    stream = zlib.decompressobj(wbits=31)
    try:
        start = stream.decompress(content, HEAD.size)
        head = check_head(path, HEAD.unpack(start) if len(start) == HEAD.size else None, (1, 2, 3))
        sizes = section_sizes(head)
        check_bulk(path, sum(sizes), len(content))
        body = stream.decompress(stream.unconsumed_tail, sum(sizes) + MOST_EXTRA)
    except zlib.error as error:
        raise ValueError(f"{path} is no complete .spz file: {error}") from error
    if len(body) < sum(sizes) or not stream.eof:
        raise ValueError(f"{path} is no complete .spz file: it is cut short, or longer than its header says")
    cuts = np.cumsum(sizes)
    return head, np.split(np.frombuffer(body, np.uint8, cuts[-1]), cuts[:-1]), body[cuts[-1] :]


def read_streams(path: str | Path, content: bytes) -> tuple[tuple, list[np.ndarray], bytes]:
    """Head, sections and extensions of version 4."""
    zstandard = zstandard_for(path)
    if len(content) < HEAD_4.size:
        raise ValueError(f"{path} is no complete .spz file: it is shorter than its header")
    *start, table = HEAD_4.unpack_from(content)
    head = check_head(path, tuple(start), (4,))
    sizes = section_sizes(head)
    check_bulk(path, sum(sizes), len(content))
    place = table + STREAM.size * head[6]
    if head[6] != np.count_nonzero(sizes) or table < HEAD_4.size or place > len(content):
        raise ValueError(f"{path} is no complete .spz file: its table of {head[6]} streams does not fit its header")
    rows, sections = STREAM.iter_unpack(content[table:place]), []
    for size in sizes:
        packed, unpacked = next(rows) if size else (0, 0)
        stream = content[place : place + packed]
        if unpacked != size or len(stream) < packed:
            raise ValueError(f"{path} is no complete .spz file: a stream has not the size that its header tells")
        sections.append(np.frombuffer(unpack_stream(path, zstandard, stream, size), np.uint8))
        place += packed
    return head, sections, content[HEAD_4.size : table]


def unpack_stream(path: str | Path, zstandard: ModuleType, stream: bytes, size: int) -> bytes:
    try:
        # By reading, since the stream's own word on its size is as little to be trusted.
        section = zstandard.ZstdDecompressor().stream_reader(stream).read(size + 1) if size else b""
    except zstandard.ZstdError as error:
        raise ValueError(f"{path} is no complete .spz file: {error}") from error
    if len(section) != size:
        raise ValueError(f"{path} is no complete .spz file: a stream of {size:,} bytes has {len(section):,}")
    return section


def check_head(path: str | Path, head: tuple | None, versions: tuple[int, ...]) -> tuple:
    """The head, if it is one."""
    if head is None or head[0] != MAGIC:
        raise ValueError(f"{path} is no .spz file: it does not begin as one")
    _, version, _, degree, bits, _, _ = head
    if version not in versions:
        raise ValueError(f"{path} is a .spz file of version {version}; 1 to 3 are read in gzip, 4 in Zstandard")
    if degree > 3:
        raise ValueError(f"{path} has spherical harmonics of degree {degree}; 0 to 3 are read")
    if bits > 24:
        raise ValueError(f"{path} has positions of 24 bits, {bits} of them behind the point")
    return head


def section_sizes(head: tuple) -> list[int]:
    """Bytes of positions, opacities, colours, scales, rotations and coefficients."""
    _, version, count, degree, *_ = head
    return [
        count * each
        for each in (6 if version == 1 else 9, 1, 3, 3, 3 if version < 3 else 4, 3 * (degree**2 + 2 * degree))
    ]


def unpack_positions(positions: np.ndarray, count: int, version: int, bits: int) -> np.ndarray:
    if version == 1:
        return positions.view("<f2").reshape(count, 3)
    # Shifted up by one byte, so that the sign is where int32 has it.
    padded = np.zeros((3 * count, 4), np.uint8)
    padded[:, 1:] = positions.reshape(-1, 3)
    return padded.view("<i4").reshape(count, 3) / np.float64(2 ** (bits + 8))


def unpack_rotations(rotations: np.ndarray, version: int) -> np.ndarray:
    """Quaternions, wxyz."""
    if version < 3:
        vectors = rotations.reshape(-1, 3) / np.float32(127.5) - 1
        w = np.sqrt(np.maximum(0, 1 - np.square(vectors).sum(1, keepdims=True)))
        return np.concatenate([w, vectors], 1)
    packed = rotations.view("<u4")
    numbers = np.stack([packed >> shift for shift in (20, 10, 0)], 1)
    three = np.where(numbers & 512, -1, 1) * unlevel(numbers, 9)
    return from_smallest_three(packed >> 30, three)[:, [3, 0, 1, 2]]


def said_axes(path: str | Path, extensions: bytes) -> Axes:
    """The axes that an extension tells, y-up without one; all other extensions are passed over."""
    place = 0
    while place + EXTENSION.size <= len(extensions):
        kind, size = EXTENSION.unpack_from(extensions, place)
        place += EXTENSION.size
        if kind == COORDINATES:
            told = int.from_bytes(extensions[place : place + 4], "little")
            if told not in KNOWN_COORDINATES:
                raise ValueError(
                    f"{path} has axes number {told}, which are not read; up= (--in-up) reads it all the same"
                )
            return KNOWN_COORDINATES[told]
        place += size
    return "y-up"
