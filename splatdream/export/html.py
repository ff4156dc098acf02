"""`.html`: one page that shows a splat, with all it needs inside, made by viser. It opens without a network.

viser shows colours that are the same from all sides, covariances in half precision, and reads no page back.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from splatdream.export.asset import ready
from splatdream.export.atomic import atomic_write
from splatdream.framing import in_view
from splatdream.splats import Splats, colours_from_sh0

HOST = "127.0.0.1"
FIRST_PORT = 8080
VIEWPOINT = (1.2, -3.0, 1.2)
"""Where a looker stands at first: before the front, a little to its side and above."""


def write_html(splats: Splats, path: str | Path) -> None:
    """The page, atomically. ValueError when a row is not finite, or viser is not installed."""
    content = page(ready(splats, path, up="z-up"))
    with atomic_write(path) as file:
        file.write(content)


def page(splats: Splats) -> bytes:
    """The page's bytes. ValueError where viser is not installed.

    The farthest Gaussian comes first: viser draws them in this order until its sorter is at work. What stands elsewhere
    than in the unit ball is moved there, where the looker looks and half precision suffices.
    """
    splats = in_view(splats)
    distances = (splats.means - splats.means.new_tensor(VIEWPOINT)).norm(dim=1)
    splats = splats.take(distances.argsort(descending=True))
    with served() as server:
        server.scene.add_gaussian_splats("/splat", **arrays(splats))
        return server.scene.as_html().encode()


def arrays(splats: Splats) -> dict[str, Any]:
    """The cloud as viser's `add_gaussian_splats` takes it."""
    cloud = splats.detach().to("cpu", torch.float32)
    return {
        "centers": cloud.means.numpy(),
        "covariances": cloud.covariances.numpy(),
        "rgbs": colours_from_sh0(cloud.sh0).clamp(0, 1).numpy(),
        "opacities": cloud.opacities[:, None].numpy(),
    }


@contextmanager
def served(port: int = FIRST_PORT) -> Iterator[Any]:
    """A viser server of this machine alone, at the first free port from `port` on, seen from the front."""
    viser = viser_for()
    with redirect_stdout(io.StringIO()):  # it announces itself
        server = viser.ViserServer(host=HOST, port=port, verbose=False)
    try:
        server.scene.set_up_direction("+z")
        server.initial_camera.position = VIEWPOINT
        server.initial_camera.look_at = (0.0, 0.0, 0.0)
        yield server
    finally:
        with redirect_stdout(io.StringIO()):
            server.stop()


def viser_for() -> ModuleType:
    try:
        import viser
    except ImportError as error:
        raise ValueError("looking in a browser needs the package viser; pip install 'splatdream[viewer]'") from error
    return viser
