"""PLY: the splat file that every viewer reads (the layout of Kerbl et al. 2023), written and read.

Stored values are the parameters themselves: log scales, logit opacities, wxyz quaternions, spherical harmonics with
colour = 0.5 + SH_C0 f_dc. `f_rest_*` is channel-major: all of red, then green, then blue. Readers go by name. Rows pass
in blocks that fit a processor's cache, a few at once; the next ones are made while the disk has the last one.

plyfile is GPL-3.0-or-later; it is imported in this file only, inside the function that needs it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from splatdream.export import compressed_ply
from splatdream.export.asset import LOG_FLAT, Asset, finite_part, refuse_broken, refuse_rows
from splatdream.export.atomic import atomic_write
from splatdream.export.axes import Axes, turn
from splatdream.export.ply_header import check_size, header, said_antialiased, said_axes
from splatdream.splats import Splats, logit, sh0_from_colours

T = TypeVar("T")
R = TypeVar("R")
BLOCK = 1 << 14
THREADS = 2
IN_FLIGHT = THREADS + 2
REST_COUNTS = {0: 0, 9: 1, 24: 2, 45: 3}
PLACE = ["x", "y", "z"]
NORMAL = ["nx", "ny", "nz"]
COLOUR = ["f_dc_0", "f_dc_1", "f_dc_2"]
BYTES = ["red", "green", "blue"]
SCALE = ["scale_0", "scale_1", "scale_2"]
ROTATION = ["rot_0", "rot_1", "rot_2", "rot_3"]
REQUIRED = [*PLACE, *COLOUR, "opacity", *SCALE, *ROTATION]


def write_ply(
    splats: Splats, path: str | Path, *, up: Axes = "y-down", rest: bool = True, antialiased: bool = False
) -> None:
    """The cloud as little-endian PLY in the axes `up`, atomically and exactly but for the length of quaternions.

    A cloud of degree 0 gets the `f_rest_*` of degree 3 as zeros, since some viewers ask for them, unless `rest` is
    False. `antialiased` says how the cloud was rendered while it was made. ValueError when a row is not finite.
    """
    count = 45 if rest and splats.sh_degree == 0 else 3 * splats.shN.shape[1]
    names = [*PLACE, *NORMAL, *COLOUR, *rest_names(count), "opacity", *SCALE, *ROTATION]
    with atomic_write(path) as file:
        file.write(header([("vertex", len(splats), "float", names)], up=up, antialiased=antialiased))
        broken, matrices = 0, cycle(torch.zeros(IN_FLIGHT, min(BLOCK, len(splats)), len(names)))

        def filled(given: tuple[Splats, Tensor]) -> tuple[np.ndarray, int]:
            block, matrix = given
            rows = matrix[: len(block)]
            fill(rows, turn(block, target=up))
            return rows.numpy(), len(block) - len(finite_part(block))

        for rows, failing in in_threads(filled, zip(blocks(splats), matrices, strict=False)):
            broken += failing
            file.write(rows.astype("<f4", copy=False).data)
        refuse_broken(broken, len(splats), path)


def in_threads(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """What the function makes of each item, in their order; the next ones are made while the last one is used.

    So IN_FLIGHT items are in use at a time.
    """
    coming: deque[Future[R]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        for item in items:
            coming.append(pool.submit(function, item))
            if len(coming) > THREADS:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def blocks(splats: Splats) -> Iterator[Splats]:
    """The cloud in parts of few rows, in main memory and float32."""
    whole = splats.detach().to("cpu", torch.float32)
    for start in range(0, len(splats), BLOCK):
        yield whole.map(lambda value, rows=slice(start, start + BLOCK): value[rows])


def fill(matrix: Float[Tensor, "N columns"], splats: Splats) -> None:
    """Writes one row per Gaussian in the order of the layout; what the cloud does not have stays as it is."""
    rest = splats.shN.transpose(1, 2).flatten(1)
    matrix[:, 0:3] = splats.means
    matrix[:, 6:9] = splats.sh0[:, 0]
    matrix[:, 9 : 9 + rest.shape[1]] = rest
    matrix[:, -8] = splats.logit_opacities
    matrix[:, -7:-4] = splats.log_scales
    matrix[:, -4:] = torch.nn.functional.normalize(splats.quats, dim=-1)


def rest_names(count: int) -> list[str]:
    return [f"f_rest_{index}" for index in range(count)]


def read_ply(path: str | Path, *, up: Axes | None = None, drop_invalid: bool = False) -> Splats:
    """The cloud of a splat file of any tool, in this project's axes; `load_ply` says the rest."""
    return load_ply(path, up=up, drop_invalid=drop_invalid).splats


def load_ply(path: str | Path, *, up: Axes | None = None, drop_invalid: bool = False) -> Asset:
    """The asset in a splat file of any tool, plain or compressed.

    The file's axes are `up`, else what its header says, else y-down. Properties may come in any order and type, ASCII
    or binary; normals and `f_rest_*` may be missing, and `red green blue` stand for `f_dc_*`; a third degree of nothing
    but zeros reads as degree 0. ValueError, saying why, for a file that is no splat PLY, is cut short, or holds rows
    that are not finite; with `drop_invalid` such rows are left out.
    """
    elements, comments = load(path)
    source = up or said_axes(path, comments)
    antialiased = said_antialiased(comments)
    if "chunk" in elements:
        return compressed_ply.decode(path, elements, source=source, drop_invalid=drop_invalid, antialiased=antialiased)
    vertices = vertices_of(path, elements)
    degree = check_degree(path, vertices.dtype)
    splats = gather(path, vertices, degree, source, drop_invalid)
    return Asset(splats, antialiased, len(vertices) - len(splats))


def gather(path: str | Path, vertices: np.ndarray, degree: int, source: Axes, drop_invalid: bool) -> Splats:
    """The finite rows of a table, turned."""
    count, K = len(vertices), (degree + 1) ** 2 - 1
    # numpy's zeros take neither memory nor time until they are touched.
    shapes = [(3,), (4,), (3,), (), (1, 3), (K, 3)]
    whole = Splats(*(torch.from_numpy(np.zeros((count, *shape), np.float32)) for shape in shapes))
    kept, coloured = 0, K < 15

    def read(rows: np.ndarray) -> tuple[Splats, bool]:
        block = finite_part(rows_of(rows, K))
        plain = K == 15 and not bool(block.shN.any())
        return turn(block.replace(shN=block.shN[:, :0]) if plain else block, source=source), plain

    for block, plain in in_threads(read, row_blocks(path, vertices)):
        coloured = coloured or not plain
        for name, value in block.parameters().items():
            place = getattr(whole, name)[kept : kept + len(block)]
            if place.shape == value.shape:
                place.copy_(value)
        kept += len(block)
    refuse_rows(path, count - kept, count, drop_invalid)
    whole = whole.map(lambda value: value[:kept])
    return whole if coloured else whole.replace(shN=torch.zeros(kept, 0, 3))


def row_blocks(path: str | Path, vertices: np.ndarray) -> Iterator[np.ndarray]:
    """The rows in blocks, to be used before IN_FLIGHT more have come."""
    if not isinstance(vertices, np.memmap) or len(vertices) == 0:
        yield from (vertices[start : start + BLOCK] for start in range(0, len(vertices), BLOCK))
        return
    # To read into the same memory again and again is faster than a map of the file, whose every page costs a fault.
    buffers = cycle(np.empty((IN_FLIGHT, min(BLOCK, len(vertices))), vertices.dtype))
    with Path(path).open("rb") as file:
        file.seek(vertices.offset)
        for start in range(0, len(vertices), BLOCK):
            rows = next(buffers)[: len(vertices) - start]
            if file.readinto(rows.view(np.uint8).data) < rows.nbytes:
                raise ValueError(f"{path} is no complete PLY file: it grew shorter while it was read")
            yield rows


def rows_of(vertices: np.ndarray, K: int) -> Splats:
    """The cloud of some rows of a file, whatever their order and type.

    An infinite logit is an opacity of 0 or 1, a logarithm of minus infinity is a scale of 0.
    """
    names = vertices.dtype.names or ()
    colours = COLOUR if COLOUR[0] in names else BYTES
    sh0 = torch.from_numpy(columns(vertices, colours))
    if colours is BYTES:
        sh0 = sh0_from_colours(sh0 / brightest(vertices.dtype[BYTES[0]]))[:, 0]
    logits = torch.from_numpy(columns(vertices, ["opacity"]))[:, 0]
    log_scales = torch.from_numpy(columns(vertices, SCALE))
    return Splats(
        means=torch.from_numpy(columns(vertices, PLACE)),
        quats=torch.from_numpy(columns(vertices, ROTATION)),
        log_scales=torch.where(log_scales == -torch.inf, LOG_FLAT, log_scales),
        logit_opacities=torch.where(logits.isinf(), logit((logits > 0).float()), logits),
        sh0=sh0[:, None],
        shN=torch.from_numpy(columns(vertices, rest_names(3 * K))).reshape(len(vertices), 3, K).transpose(1, 2),
    )


def columns(vertices: np.ndarray, names: list[str]) -> np.ndarray:
    """Some properties as a matrix of float32; a double beyond it becomes infinite."""
    order, dtype = list(vertices.dtype.names or ()), vertices.dtype
    with np.errstate(over="ignore"):
        if all(dtype[name] == dtype[0] for name in order):
            flat = vertices.view(dtype[0]).reshape(len(vertices), len(order))
            where = [order.index(name) for name in names]
            first = where[0] if where else 0
            if where == list(range(first, first + len(where))):
                return flat[:, first : first + len(where)].astype(np.float32, copy=False)
        matrix = np.empty((len(vertices), len(names)), np.float32)
        for column, name in enumerate(names):
            matrix[:, column] = vertices[name]
    return matrix


def brightest(dtype: np.dtype) -> float:
    """What stands for 1 in colours of this type."""
    return float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0


def load(path: str | Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """The file's elements by name, and all that its header says beside them."""
    from plyfile import PlyData, PlyParseError

    check_size(path)
    try:
        # Without its memory map plyfile reads row by row, a hundred times slower.
        with Path(path).open("rb") as file:
            data = PlyData.read(file)
    except (PlyParseError, ValueError, OverflowError, MemoryError) as error:
        raise ValueError(f"{path} is no complete PLY file: {error or type(error).__name__}") from error
    comments = [*data.comments, *data.obj_info]
    for element in data.elements:
        comments += element.comments
    return {element.name: element.data for element in data.elements}, comments


def vertices_of(path: str | Path, elements: dict[str, np.ndarray]) -> np.ndarray:
    """The element called vertex; ValueError unless every row has all that a Gaussian needs, as numbers."""
    if "vertex" not in elements:
        raise ValueError(f"{path} has no element called vertex, but {', '.join(elements) or 'none at all'}")
    vertices = elements["vertex"]
    names = vertices.dtype.names or ()
    if len(elements.get("face", ())) and "opacity" not in names:
        raise ValueError(f"{path} is a mesh (it has faces), not a cloud of Gaussians")
    missing = [name for name in REQUIRED if name not in names]
    if missing and not (missing == COLOUR and set(BYTES) <= set(names)):
        kind = "a point cloud" if len(missing) >= len(REQUIRED) - 3 else "an incomplete cloud of Gaussians"
        raise ValueError(f"{path} is {kind}: its vertices lack {', '.join(missing)}")
    lists = [name for name in names if vertices.dtype[name].hasobject]
    if lists:
        raise ValueError(f"{path} has lists where a Gaussian has numbers: {', '.join(lists)}")
    return vertices


def check_degree(path: str | Path, dtype: np.dtype) -> int:
    """The degree of the spherical harmonics, 0 to 3."""
    rest = [name for name in dtype.names or () if name.startswith("f_rest_")]
    if len(rest) not in REST_COUNTS or set(rest) != set(rest_names(len(rest))):
        raise ValueError(
            f"{path} has {len(rest)} properties f_rest_*; degrees 0, 1, 2 and 3 have 0, 9, 24 and 45, counted from 0"
        )
    return REST_COUNTS[len(rest)]
