"""`splatdream check`: whether an asset is in order."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from splatdream.manifest import manifest_beside
from splatdream_cli.console import FAILED, Refused, refusing, stdout, teaching
from splatdream_cli.look import InUp, check_axes

if TYPE_CHECKING:
    from splatdream.check.criteria import Finding, Report

VERDICTS = {True: "ok", False: "FAILS", None: "not measured"}


@teaching
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A splat or a mesh, from any tool.")],
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail on every criterion, not on the required only.")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Draw a splat from all around as well, and have it judged by its prompt.")
    ] = False,
    prompt: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What it shows, for --full.", show_default="what its run's manifest says"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    criteria: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Criteria of your own in TOML.", show_default="the shipped ones")
    ] = None,
    in_up: InUp = None,
) -> None:
    """Check a splat or a mesh; exit code 1 where a required criterion fails."""
    if not file.is_file():
        raise Refused(f"{file} is a folder; give a file" if file.is_dir() else f"there is no file {file}")
    if prompt is not None and not full:
        raise Refused("--prompt is what pictures are judged by; give --full with it")
    report = examined(file, strict, criteria, full, prompt, in_up)
    out = stdout()
    if as_json:
        out.print(json.dumps({"file": str(file), **report.table()}, indent=2, ensure_ascii=False))
    else:
        for line in lines(report):
            out.print(line)
    if not report.passed:
        raise typer.Exit(FAILED)


def examined(
    file: Path, strict: bool, criteria: Path | None, full: bool, prompt: str | None, in_up: str | None
) -> "Report":
    from splatdream.check import check_mesh, check_pictures, check_splats
    from splatdream.check.criteria import read_criteria
    from splatdream.check.mesh import is_mesh

    mesh = is_mesh(file)
    if mesh and full:
        raise Refused(f"{file} is a mesh, and --full draws splats only; leave it out")
    if mesh and in_up:
        raise Refused(f"{file} is a mesh, which is checked as it stands; leave --in-up out")
    with refusing():
        check_axes(in_up)
        for kind in ("meshes",) if mesh else ("splats", "pictures")[: 1 + full]:
            read_criteria(kind, criteria)
    if mesh:
        return check_mesh(file, strict=strict, criteria=criteria)
    from splatdream.export import input_suffix, read

    with refusing():
        input_suffix(file)
    asset = read(file, up=in_up, drop_invalid=True)  # pyright: ignore[reportArgumentType]
    report = check_splats(asset.splats, dropped=asset.dropped, strict=strict, criteria=criteria)
    if not full:
        return report
    from splatdream.inspect.judge import Judge
    from splatdream.priors import builtin_folder
    from splatdream.render.cpu import render

    judge = Judge.load(builtin_folder().parent / "judge")
    told = {"antialiased": asset.antialiased, "strict": strict, "criteria": criteria}
    return report + check_pictures(asset.splats, render, judge, prompt or prompt_of(file), **told)


def prompt_of(file: Path) -> str | None:
    """What the manifest of the run beside the file says, where it speaks of this file."""
    manifest = manifest_beside(file)
    return manifest["prompt"] if manifest else None


def lines(report: "Report") -> list[str]:
    """A line for each criterion, and the verdict."""
    failures = report.failures
    verdict = f"fails {', '.join(each.name for each in failures)}" if failures else "passes"
    return [*map(line, report.findings), f"{verdict}  (score {report.score:.3f})"]


def line(finding: "Finding") -> str:
    custom = finding.passed is False and not finding.criterion.required
    verdict = "unusual" if custom else VERDICTS[finding.passed]
    value = "" if finding.value is None else f"{finding.value:.4g}"
    said = finding.note or f"{finding.criterion.says} ({finding.criterion.limits})"
    return f"{verdict:<13} {finding.name:<14} {value:>9}  {said}"
