"""glTF and GLB with KHR_gaussian_splatting, as Khronos ratified it: splats as points of a mesh, in float32.

Attributes are activated: linear scales, opacities in [0, 1], xyzw quaternions. Spherical harmonics are those of splat
files, colour = 0.5 + SH_C0 f_0 in sRGB, an attribute of three numbers for every coefficient. Axes are y-up, front +z.
COLOR_0 lets viewers that do not know the extension show coloured points; glTF has it linear.
"""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from splatdream.export.asset import Asset, cloud, linear_scales, logits, logs, ready, received
from splatdream.export.atomic import atomic_write
from splatdream.export.axes import Axes, rotate
from splatdream.export.gltf_document import WIDTHS, Document, glb
from splatdream.export.quantize import levels
from splatdream.splats import Splats, colours_from_sh0, concatenate

EXTENSION = "KHR_gaussian_splatting"
KERNEL, SRGB = "ellipse", "srgb_rec709_display"
POINTS = 0
VERTICES = 34962
FLOAT, BYTE = 5126, 5121
EVEN = 1e-4


def write_glb(splats: Splats, path: str | Path) -> None:
    """The cloud as GLB, atomically and exactly but for the rounding of float32.

    ValueError when a row is not finite or its scale beyond float32, or when there is none, for which glTF has no place.
    """
    document, binary = build(splats, path)
    with atomic_write(path) as file:
        file.write(glb(document, binary))


def write_gltf(splats: Splats, path: str | Path) -> None:
    """The same as JSON with the bytes in it, a third longer."""
    document, binary = build(splats, path)
    document["buffers"][0]["uri"] = "data:application/octet-stream;base64," + base64.b64encode(binary).decode("ascii")
    with atomic_write(path) as file:
        file.write(json.dumps(document, separators=(",", ":")).encode("ascii"))


def build(splats: Splats, path: str | Path) -> tuple[dict[str, Any], bytes]:
    """The document and its bytes."""
    if len(splats) == 0:
        raise ValueError(f"glTF has no place for a cloud of no Gaussians; nothing was written to {path}")
    arrays = attributes(ready(splats, path, up="y-up"), path)
    types = {width: name for name, width in WIDTHS.items()}
    accessors, views, place = [], [], 0
    for index, array in enumerate(arrays.values()):
        views.append({"buffer": 0, "byteOffset": place, "byteLength": array.nbytes, "target": VERTICES})
        accessor = {"bufferView": index, "componentType": FLOAT, "count": len(array), "type": types[array.shape[1]]}
        if array.dtype == np.uint8:
            accessor |= {"componentType": BYTE, "normalized": True}
        accessors.append(accessor)
        place += array.nbytes
    places = arrays["POSITION"]
    accessors[0] |= {"min": places.min(0).tolist(), "max": places.max(0).tolist()}
    primitive = {
        "mode": POINTS,
        "attributes": {name: index for index, name in enumerate(arrays)},
        "extensions": {EXTENSION: {"kernel": KERNEL, "colorSpace": SRGB}},
    }
    document = {
        "asset": {"version": "2.0", "generator": "splatdream"},
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": place}],
    }
    return document, b"".join(array.tobytes() for array in arrays.values())


def attributes(splats: Splats, path: str | Path) -> dict[str, np.ndarray]:
    """The attributes of the points, a row each, of which the rows of every one fill whole words."""
    shown = colours_from_sh0(splats.sh0).clamp(0, 1).numpy()
    linear = np.where(shown <= 0.04045, shown / 12.92, ((shown + 0.055) / 1.055) ** 2.4)
    fallback = np.concatenate([linear, splats.opacities.numpy()[:, None]], 1)
    arrays = {
        "POSITION": splats.means,
        f"{EXTENSION}:ROTATION": splats.quats[:, [1, 2, 3, 0]],
        f"{EXTENSION}:SCALE": torch.from_numpy(linear_scales(splats, path)),
        f"{EXTENSION}:OPACITY": splats.opacities[:, None],
    }
    coefficients = torch.cat([splats.sh0, splats.shN], 1)
    arrays |= {name: coefficients[:, place] for place, name in enumerate(names(splats.sh_degree))}
    floats = {name: np.ascontiguousarray(value.numpy(), "<f4") for name, value in arrays.items()}
    return floats | {"COLOR_0": levels(fallback, 8).astype(np.uint8)}


def names(degree: int) -> list[str]:
    """The attributes of the coefficients up to a degree, in their order."""
    return [f"{EXTENSION}:SH_DEGREE_{each}_COEF_{n}" for each in range(degree + 1) for n in range(2 * each + 1)]


def load_gltf(path: str | Path, *, up: Axes | None = None, drop_invalid: bool = False) -> Asset:
    """The asset of all Gaussians that the scene of a .glb or .gltf file shows, whose axes are `up`, by default y-up.

    ValueError, saying why, for a file that is none, is cut short or shows no Gaussians, for kernels, colours and
    extensions that are not read, for nodes that stretch or mirror, and, unless they may be dropped, for rows that are
    not finite.
    """
    document = Document(path)
    clouds = [
        placed(document, gaussians(document, primitive, extension), matrix)
        for primitive, matrix in document.instances()
        if (extension := document.get(primitive, "extensions", dict, {}).get(EXTENSION)) is not None
    ]
    if not clouds:
        raise ValueError(f"{path} shows no Gaussians: no primitive in its scene has {EXTENSION}")
    K = max(each.shN.shape[1] for each in clouds)
    same = [each.replace(shN=torch.nn.functional.pad(each.shN, (0, 0, 0, K - each.shN.shape[1]))) for each in clouds]
    return received(path, concatenate(same), source=up or "y-up", drop_invalid=drop_invalid)


def gaussians(document: Document, primitive: dict[str, Any], extension: Any) -> Splats:
    """The cloud of one primitive, where it stands in its own node."""
    if not isinstance(extension, dict) or document.get(primitive, "mode", int, 4) != POINTS:
        raise document.wrong("Gaussians are no points")
    kernel, colours = extension.get("kernel", KERNEL), extension.get("colorSpace", SRGB)
    if kernel != KERNEL or colours != SRGB:
        raise document.wrong(f"its Gaussians are of kernel {kernel!r} and colours {colours!r}, not {KERNEL} and {SRGB}")
    if extension.get("extensions"):
        raise document.wrong(f"its Gaussians need {', '.join(map(str, extension['extensions']))}, which is not read")
    given = document.get(primitive, "attributes", dict)
    degree = degree_of(document, given)
    means, quats, scales, opacities, *coefficients = rows_of(document, given, degree)
    if (scales < 0).any():
        raise document.wrong("it has negative scales; some exporters of 2025 and 2026 wrote logarithms instead")
    return cloud(
        means=means,
        quats=quats[:, [3, 0, 1, 2]],
        log_scales=logs(scales),
        logit_opacities=logits(opacities[:, 0]),
        sh0=coefficients[0],
        shN=np.stack(coefficients[1:], 1) if degree else None,
    )


def degree_of(document: Document, given: dict[str, Any]) -> int:
    """The degree of the spherical harmonics, whose coefficients must all be there."""
    harmonics = {name for name in given if name.startswith(f"{EXTENSION}:SH_")}
    for degree in range(4):
        if harmonics == set(names(degree)):
            return degree
    raise document.wrong(f"its {len(harmonics)} coefficients are not those of a degree from 0 to 3")


def rows_of(document: Document, given: dict[str, Any], degree: int) -> list[np.ndarray]:
    """The arrays of a primitive, all of one length."""
    widths = {"POSITION": 3, f"{EXTENSION}:ROTATION": 4, f"{EXTENSION}:SCALE": 3, f"{EXTENSION}:OPACITY": 1}
    widths |= dict.fromkeys(names(degree), 3)
    missing = [name for name in widths if name not in given]
    if missing:
        raise document.wrong(f"its Gaussians lack {', '.join(missing)}")
    arrays = [document.array(given[name], width) for name, width in widths.items()]
    if len({len(array) for array in arrays}) > 1:
        raise document.wrong("attributes of one primitive have different lengths")
    return arrays


def placed(document: Document, splats: Splats, matrix: np.ndarray) -> Splats:
    """The cloud in the world; ValueError for a matrix that does more than turn, move and scale evenly."""
    if np.array_equal(matrix, np.eye(4)):
        return splats
    linear = matrix[:3, :3]
    determinant = np.linalg.det(linear)
    scale = np.cbrt(determinant)
    if determinant <= 0 or not np.allclose(linear.T @ linear, scale**2 * np.eye(3), rtol=0, atol=EVEN * scale**2):
        raise document.wrong("a node stretches or mirrors its Gaussians; only even scales are read")
    turned = rotate(splats, torch.from_numpy(linear / scale))
    move = torch.from_numpy(matrix[:3, 3]).to(turned.means)
    return turned.replace(means=scale * turned.means + move, log_scales=turned.log_scales + float(np.log(scale)))
