"""`splatdream export`: a splat file of one format and tool becomes one of another."""

from collections.abc import Callable
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from splatdream.catalog import CATALOG, choose, find, parse
from splatdream.export import FLAT, output_suffix
from splatdream_cli.console import Refused, refusing, size, stdout, teaching
from splatdream_cli.look import AXES, DropInvalid, InUp, asset_in, check_axes, check_source
from splatdream_cli.plan import check_target

Source = Annotated[Path, typer.Argument(metavar="IN", help=f"A splat of any tool: {', '.join(CATALOG['reader'])}.")]
Up = Annotated[
    str | None, typer.Option(metavar=AXES, help="The axes to write.", show_default="what the format's readers expect")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what exists.")]


@teaching
def export(
    source: Source,
    target: Annotated[Path, typer.Argument(metavar="OUT", help=f"One of {', '.join(CATALOG['exporter'])}.")],
    up: Up = None,
    in_up: InUp = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An option of the format's writer; repeatable."),
    ] = None,
    drop_invalid: DropInvalid = False,
    force: Force = False,
) -> None:
    """Convert a splat to another format; the suffixes decide."""
    check_source(source)
    with refusing():
        suffix = output_suffix(target)
        check_target(target, force)
        writer = find("exporter", suffix)
        options = options_of(writer, suffix, [*(assignments or []), *([f"up={up}"] if up else [])])
        check_axes(in_up, options.get("up"))
    asset = asset_in(source, in_up, drop_invalid)
    can_tell = "antialiased" in signature(writer).parameters
    if asset.antialiased and can_tell:
        options.setdefault("antialiased", True)
    writer(asset.splats, target, **options)
    degree = 0 if suffix in FLAT else asset.splats.sh_degree
    written = f"{len(asset.splats):,} Gaussians of degree {degree}"
    out = stdout()
    out.print(f"{target}: {written}, {size(target.stat().st_size)} ({CATALOG['exporter'][suffix].summary})")
    if degree < asset.splats.sh_degree:
        out.print(f"{source} has colours of degree {asset.splats.sh_degree}, which {suffix} has no place for")
    if asset.antialiased and not can_tell:
        out.print(f"{source} was made with antialiasing, which {suffix} cannot tell its readers")


def options_of(writer: Callable[..., None], suffix: str, assignments: list[str]) -> dict[str, Any]:
    """The writer's keyword options that were given as "key=value"."""
    parameters = signature(writer).parameters.values()
    defaults = {each.name: each.default for each in parameters if each.kind is Parameter.KEYWORD_ONLY}
    options = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not defaults:
            raise Refused(f"{suffix} is written in one way only, without the option {key.strip()!r}")
        choose(f"option of {suffix}", key.strip(), list(defaults))
        if not equals:
            raise Refused(f"option {key!r} needs a value: --set {key}=VALUE")
        options[key.strip()] = parse(text.strip(), defaults[key.strip()], key.strip())
    return options
