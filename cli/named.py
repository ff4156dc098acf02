"""What users name in short: a recipe that ships or a file of one, an initialiser or a file to begin with."""

from pathlib import Path

from splatdream.catalog import CATALOG, choose
from splatdream.export import holds_splats
from splatdream.recipe import shipped_file


def recipe_file(named: Path) -> Path:
    """The file itself, or that of the shipped recipe whose name this is. ValueError that lists the names."""
    if named.is_file() or named.suffix or len(named.parts) != 1:
        return named
    return shipped_file(str(named))


def beginning(text: str) -> str:
    """The initialiser that --init names: by its name, or by a file that holds a splat, a mesh or a point cloud.

    FileNotFoundError where a file is meant that does not exist, ValueError for what is neither.
    """
    if text.partition(":")[0] in CATALOG["init"]:
        return text
    path = Path(text).expanduser()
    if path.is_file():
        if "," in text:
            raise ValueError(f"{text}: a path with a comma cannot stand in a recipe; rename it")
        return f"{'splat' if holds_splats(path) else 'points'}:file={text}"
    if path.suffix or len(path.parts) > 1:
        raise FileNotFoundError(f"there is no file {text} to begin with")
    return choose("init", text.partition(":")[0], list(CATALOG["init"]))
