"""splatdream: text to 3D Gaussian splats by score distillation.

`from splatdream import Recipe, dream`. Importing this package loads no torch: names are looked up when first used.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from splatdream.cameras import Cameras
    from splatdream.export.ply import read_ply, write_ply
    from splatdream.loop import State, Step, dream
    from splatdream.recipe import Recipe
    from splatdream.splats import Splats

try:
    __version__ = version("splatdream")
except PackageNotFoundError:
    __version__ = "0+unknown"

_PUBLIC = {
    "Recipe": "splatdream.recipe",
    "dream": "splatdream.loop",
    "State": "splatdream.loop",
    "Step": "splatdream.loop",
    "Splats": "splatdream.splats",
    "Cameras": "splatdream.cameras",
    "read_ply": "splatdream.export.ply",
    "write_ply": "splatdream.export.ply",
}

__all__ = ["Cameras", "Recipe", "Splats", "State", "Step", "__version__", "dream", "read_ply", "write_ply"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"splatdream has no attribute {name!r}; public names: {', '.join(__all__)}")
    return getattr(import_module(_PUBLIC[name]), name)
