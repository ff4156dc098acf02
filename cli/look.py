"""`splatdream render` and `splatdream info`: what is in a file."""

from importlib.util import find_spec
from math import radians
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from splatdream import runs
from splatdream.catalog import choose
from splatdream.export import input_suffix
from splatdream.manifest import manifest_beside, speaks_of
from splatdream_cli.console import Refused, refusing, size, stdout, teaching
from splatdream_cli.plan import check_parts, check_target

if TYPE_CHECKING:
    from splatdream.export.asset import Asset
    from splatdream.splats import Splats

PICTURES = (".png", ".gif", ".mp4")
AXES = "y-down|y-up|z-up"
SplatFile = Annotated[Path, typer.Argument(metavar="FILE", help="A splat file, from any tool.")]
InUp = Annotated[
    str | None, typer.Option(metavar=AXES, help="The axes of the file.", show_default="what it or its format says")
]
DropInvalid = Annotated[bool, typer.Option("--drop-invalid", help="Leave out Gaussians that are not finite.")]


@teaching
def render(
    file: SplatFile,
    outputs: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="A sheet (.png) or a film (.gif, .mp4); repeatable.",
            show_default="NAME.png",
        ),
    ] = None,
    views: Annotated[int, typer.Option(min=1, help="Views evenly around, the front first.")] = 12,
    pixels: Annotated[int, typer.Option("--size", min=8, help="Height and width of a view, in pixels.")] = 256,
    elevation: Annotated[float, typer.Option(min=-89.0, max=89.0, help="Degrees above the horizon.")] = 15.0,
    distance: Annotated[float, typer.Option(min=0.1, help="From the centre, in radii of the object.")] = 3.4,
    shows: Annotated[
        str, typer.Option("--pass", metavar="colour|depth|normal|alpha", help="What the pictures show.")
    ] = "colour",
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of one turn of a film.")] = 3.0,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where it is drawn.")] = "auto",
    renderer: Annotated[str, typer.Option(metavar="auto|cpu|gsplat|dense", help="What draws it.")] = "auto",
    in_up: InUp = None,
    drop_invalid: DropInvalid = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what exists.")] = False,
) -> None:
    """Draw a splat from all around, as one sheet or as a film."""
    from splatdream.recipe import Recipe

    check_source(file)
    outputs = outputs or [file.with_suffix(".png")]
    with refusing():
        check_axes(in_up)
        for output in outputs:
            choose("picture suffix", output.suffix.lower(), list(PICTURES))
            check_target(output, force)
            if output.suffix.lower() == ".mp4" and find_spec("imageio_ffmpeg") is None:
                raise Refused(f"{output} needs the package imageio-ffmpeg; pip install 'splatdream[film]'")
        choose("pass", shows, ["colour", "depth", "normal", "alpha"])
        if renderer != "auto":
            from splatdream.catalog import CATALOG

            choose("renderer", renderer, list(CATALOG["renderer"]))
        # Only its device and renderer are read.
        recipe = check_parts(Recipe("a turntable", device=device, renderer=renderer))
    from splatdream.catalog import find
    from splatdream.framing import in_view
    from splatdream.turntable import turntable, write_gif, write_mp4, write_sheet

    asset = asset_in(file, in_up, drop_invalid)
    splats = in_view(asset.splats)
    if splats is not asset.splats:
        stdout().print(f"{file} does not fill the unit ball; it is drawn as if it did")
    images = turntable(
        splats.to(recipe.device),
        find("renderer", recipe.renderer),
        views=views,
        size=pixels,
        elevation=radians(elevation),
        distance=distance,
        antialiased=asset.antialiased,
        shows=shows,
    )
    for output in outputs:
        if output.suffix.lower() == ".gif":
            write_gif(images, output, seconds=seconds)
        elif output.suffix.lower() == ".mp4":
            write_mp4(images, output, seconds=seconds)
        else:
            write_sheet(images, output)
        stdout().print(f"{output}: {views} views of {pixels}x{pixels}, {size(output.stat().st_size)}")


@teaching
def info(file: SplatFile, in_up: InUp = None) -> None:
    """Tell what is in a splat: Gaussians, extent, opacities, scales, and the run that made it."""
    check_source(file)
    with refusing():
        check_axes(in_up)
    from splatdream.export import read

    asset = read(file, up=in_up, drop_invalid=True)  # pyright: ignore[reportArgumentType]
    out = stdout()
    made = [("broken", f"{asset.dropped:,} more, which are not finite")] if asset.dropped else []
    made += [("rendering", "antialiased (Mip-Splatting)")] if asset.antialiased else []
    for name, text in [*contents(asset.splats, file), *made, *origin(file)]:
        out.print(f"{name:<10} {text}")


def asset_in(file: Path, in_up: str | None, drop_invalid: bool) -> "Asset":
    """The asset in a file; what was left out of it is said."""
    from splatdream.export import read

    asset = read(file, up=in_up, drop_invalid=drop_invalid)  # pyright: ignore[reportArgumentType]
    if asset.dropped:
        stdout().print(f"{file}: left out {asset.dropped:,} of {asset.dropped + len(asset.splats):,}, not finite")
    return asset


def check_axes(*names: str | None) -> None:
    from splatdream.export.axes import known

    for name in names:
        if name is not None:
            known(name)


def check_source(file: Path) -> None:
    if not file.is_file():
        raise Refused(f"{file} is a folder; give a file" if file.is_dir() else f"there is no file {file}")
    with refusing():
        input_suffix(file)


def contents(splats: "Splats", file: Path) -> list[tuple[str, str]]:
    """Rows of a name and a text; quantiles are the 5th, 50th and 95th percent."""
    from splatdream.splats import colours_from_sh0

    rows = [
        ("file", f"{file}, {size(file.stat().st_size)}"),
        ("Gaussians", f"{len(splats):,}, spherical harmonics of degree {splats.sh_degree}"),
    ]
    if len(splats) == 0:
        return rows
    low, high = splats.means.amin(0).tolist(), splats.means.amax(0).tolist()
    extent = "  ".join(f"{axis} {a:.3g}..{b:.3g}" for axis, a, b in zip("xyz", low, high, strict=True))
    colour = colours_from_sh0(splats.sh0).clamp(0, 1).mul(splats.opacities[:, None]).sum(0)
    mean = (colour / splats.opacities.sum().clamp_min(1e-12)).tolist()
    return [
        *rows,
        ("extent", f"{extent}  (z up, front -y)"),
        ("opacity", quantiles(splats.opacities)),
        ("scale", quantiles(splats.scales.flatten())),
        ("colour", f"red {mean[0]:.2f}  green {mean[1]:.2f}  blue {mean[2]:.2f}  (mean, weighted by opacity)"),
    ]


def quantiles(values) -> str:
    low, middle, high = (values.kthvalue(1 + round(q * (len(values) - 1))).values.item() for q in (0.05, 0.5, 0.95))
    return f"{low:.3g}  {middle:.3g}  {high:.3g}  (5, 50 and 95 percent of them are lower)"


def origin(file: Path) -> list[tuple[str, str]]:
    """What the manifest beside the file says, where there is one and it speaks of these bytes."""
    manifest = manifest_beside(file)
    if manifest is None:
        return []
    if not speaks_of(manifest, file):
        return [("made by", f"unknown: the file is not the one that {runs.run_folder(file)} describes")]
    version, timing = manifest["versions"]["splatdream"], manifest["timing"]
    return [
        ("prompt", manifest["prompt"]),
        ("made by", f"splatdream {version}, seed {manifest['seed']}, {timing['steps']} steps, {timing['finished']}"),
    ]
