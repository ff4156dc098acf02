"""Turntable: a cloud seen from all around, as pictures, as one sheet (PNG) and as a film (GIF).

V views of H x W pixels. Pillow is imported when a picture is made, not before.
"""

from math import ceil, radians, sqrt
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from splatdream.cameras import orbit
from splatdream.contracts import Renderer
from splatdream.export.atomic import atomic_write
from splatdream.splats import Splats

if TYPE_CHECKING:
    from PIL import Image

Images = Float[Tensor, "V H W 3"] | list[Float[Tensor, "H W 3"]]


@torch.no_grad()
def turntable(
    splats: Splats,
    renderer: Renderer,
    *,
    views: int = 12,
    size: int = 256,
    elevation: float = radians(15),
    distance: float = 3.4,
    chunk: int = 4,
    antialiased: bool = False,
) -> Float[Tensor, "V H W 3"]:
    """Pictures on white from evenly around, the first one of the front, in [0, 1] on the CPU.

    `chunk` views are rendered at a time, which bounds the memory.
    """
    cameras = orbit(views, size, elevation=elevation, distance=distance).to(splats.means)
    pictures = []
    for rows in torch.arange(views).split(chunk):
        backgrounds = splats.means.new_ones(len(rows), 3)
        render = renderer(splats, cameras[rows], backgrounds, antialiased=antialiased)
        pictures.append(render.images.clamp(0, 1).cpu())
    return torch.cat(pictures)


def contact_sheet(images: Images, columns: int | None = None, *, gap: int = 2) -> "Image.Image":
    """All pictures on one white sheet, in rows from the top left, `gap` pixels apart; nearly square by default.

    ValueError for no pictures, or pictures of different sizes.
    """
    from PIL import Image

    frames = pictures_of(images)
    columns = min(columns or ceil(sqrt(len(frames))), len(frames))
    width, height = frames[0].size
    rows = ceil(len(frames) / columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    for index, frame in enumerate(frames):
        sheet.paste(frame, ((index % columns) * (width + gap), (index // columns) * (height + gap)))
    return sheet


def write_sheet(images: Images, path: str | Path, columns: int | None = None) -> None:
    """The contact sheet as a PNG, atomically."""
    sheet = contact_sheet(images, columns)
    with atomic_write(path) as file:
        sheet.save(file, format="PNG")


def write_gif(images: Images, path: str | Path, *, seconds: float = 3.0) -> None:
    """The pictures as an endless film in which one turn takes `seconds`, atomically.

    One palette serves all frames, so that colours do not flicker. GIF counts time in hundredths of a second.
    """
    from PIL import Image

    frames = pictures_of(images)
    palette = contact_sheet(images).quantize(256, method=Image.Quantize.MEDIANCUT)
    frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    duration = max(20, round(100 * seconds / len(frames)) * 10)
    with atomic_write(path) as file:
        frames[0].save(file, format="GIF", save_all=True, append_images=frames[1:], duration=duration, loop=0)


def pictures_of(images: Images) -> "list[Image.Image]":
    """8-bit pictures, values rounded to the nearest; what lies outside [0, 1] is cut off."""
    from PIL import Image

    if len(images) == 0:
        raise ValueError("there are no pictures to show")
    sizes = {tuple(image.shape) for image in images}
    if len(sizes) > 1:
        raise ValueError(f"pictures of one size are needed, these have the shapes {sorted(sizes)}")
    return [
        Image.fromarray((image.detach().float().clamp(0, 1) * 255).round().byte().cpu().numpy()) for image in images
    ]
