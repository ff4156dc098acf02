"""Checks: whether an asset is in order, by numbers that are measured and the limits in `assets/check.toml`."""

from pathlib import Path

from splatdream.check import cloud, mesh, pictures
from splatdream.check.criteria import Report, read_criteria, report
from splatdream.contracts import Renderer
from splatdream.inspect.judge import Judge
from splatdream.splats import Splats


def check_splats(
    splats: Splats, *, dropped: int = 0, strict: bool = False, criteria: str | Path | None = None
) -> Report:
    """How a cloud fares by the criteria for splats, none of which needs a picture.

    `dropped` rows of its file were not finite; `criteria` is a file to read instead of the shipped one.
    """
    return report(cloud.measure(splats, dropped), read_criteria("splats", criteria), strict=strict)


def check_mesh(path: str | Path, *, strict: bool = False, criteria: str | Path | None = None) -> Report:
    """How a mesh file fares by the criteria for meshes. ValueError for a file that is none."""
    return report(mesh.measure(path), read_criteria("meshes", criteria), strict=strict)


def check_pictures(
    splats: Splats,
    renderer: Renderer,
    judge: Judge | None,
    prompt: str | None,
    *,
    antialiased: bool = False,
    strict: bool = False,
    criteria: str | Path | None = None,
) -> Report:
    """How a cloud fares by the criteria for pictures; without a judge or a prompt some of them are not measured."""
    found = pictures.measure(splats, renderer, judge, prompt, antialiased=antialiased)
    return report(found, read_criteria("pictures", criteria), strict=strict)
