"""Turntable: a cloud seen from all around, as pictures, as one sheet (PNG) and as a film (GIF, MP4).

V views of H x W pixels. Pillow is imported when a picture is made, not before, and ffmpeg when an MP4 is.
"""

import tempfile
from collections.abc import Callable
from math import ceil, radians, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from splatdream.cameras import Cameras, orbit
from splatdream.catalog import choose
from splatdream.consistency import camera_points, surface_normals
from splatdream.contracts import Render, Renderer
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
    shows: str = "colour",
) -> Float[Tensor, "V H W 3"]:
    """Pictures on white from evenly around, the first one of the front, in [0, 1] on the CPU.

    `shows` is one of `PASSES`; `chunk` views are rendered at a time, which bounds the memory.
    """
    shown = PASSES[choose("pass", shows, list(PASSES))]
    cameras = orbit(views, size, elevation=elevation, distance=distance).to(splats.means)
    pictures = []
    for rows in torch.arange(views).split(chunk):
        backgrounds = splats.means.new_ones(len(rows), 3)
        render = renderer(splats, cameras[rows], backgrounds, antialiased=antialiased)
        pictures.append(shown(render, cameras[rows]).clamp(0, 1).cpu())
    return torch.cat(pictures)


def colour(render: Render, cameras: Cameras) -> Float[Tensor, "B H W 3"]:
    return render.images


def alpha(render: Render, cameras: Cameras) -> Float[Tensor, "B H W 3"]:
    """White where the object is."""
    return render.alphas.expand(-1, -1, -1, 3)


def depth(render: Render, cameras: Cameras) -> Float[Tensor, "B H W 3"]:
    """White at one unit before the middle of the world, darker to one unit behind it, and black where nothing is."""
    middle = cameras.positions.norm(dim=1)[:, None, None, None]
    return (render.alphas * (0.5 + 0.5 * (middle - render.depths)).clamp(0, 1)).expand(-1, -1, -1, 3)


def normal(render: Render, cameras: Cameras) -> Float[Tensor, "B H W 3"]:
    """Normals of the depth's surface in the camera's axes, as normal maps have them: red right, green up, blue near."""
    normals = surface_normals(camera_points(render.depths, cameras))
    normals = torch.nn.functional.pad(normals, (0, 0, 0, 1, 0, 1))  # the last row and column have no neighbour
    facing = normals * normals.new_tensor([1.0, -1.0, -1.0])
    return torch.where(render.alphas > 0.5, 0.5 + 0.5 * facing, normals.new_tensor([0.5, 0.5, 1.0]))


PASSES: dict[str, Callable[[Render, Cameras], Tensor]] = {
    "colour": colour,
    "depth": depth,
    "normal": normal,
    "alpha": alpha,
}
"""What a turntable may show."""


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


def write_mp4(images: Images, path: str | Path, *, seconds: float = 3.0) -> None:
    """The pictures as a film of one turn in H.264, which every browser plays, atomically.

    Odd sizes lose a row or column, as the format has none. ValueError where imageio-ffmpeg is not installed.
    """
    try:
        import imageio_ffmpeg
    except ImportError as error:
        message = f"{path}: an .mp4 needs the package imageio-ffmpeg; pip install 'splatdream[film]'"
        raise ValueError(message) from error
    frames = pictures_of(images)
    width, height = (side - side % 2 for side in frames[0].size)
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "film.mp4"
        rate: Any = len(frames) / seconds  # ffmpeg takes fractions, though its wrapper names integers
        writer = imageio_ffmpeg.write_frames(str(film), (width, height), fps=rate, quality=8, macro_block_size=2)
        writer.send(None)
        for frame in frames:
            writer.send(frame.crop((0, 0, width, height)).tobytes())
        writer.close()
        content = film.read_bytes()
    with atomic_write(path) as file:
        file.write(content)


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
