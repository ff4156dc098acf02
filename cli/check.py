"""`splatdream check`: whether an asset is in order."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from splatdream_cli.console import FAILED, Refused, refusing, stdout, teaching

if TYPE_CHECKING:
    from splatdream.check.criteria import Finding, Report

VERDICTS = {True: "ok", False: "FAILS", None: "not measured"}


@teaching
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A splat or a mesh, from any tool.")],
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail on every criterion, not on the required only.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    criteria: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Criteria of your own in TOML.", show_default="the shipped ones")
    ] = None,
) -> None:
    """Check a splat or a mesh; exit code 1 where a required criterion fails."""
    if not file.is_file():
        raise Refused(f"{file} is a folder; give a file" if file.is_dir() else f"there is no file {file}")
    report = examined(file, strict, criteria)
    out = stdout()
    if as_json:
        out.print(json.dumps({"file": str(file), **report.table()}, indent=2, ensure_ascii=False))
    else:
        for line in lines(report):
            out.print(line)
    if not report.passed:
        raise typer.Exit(FAILED)


def examined(file: Path, strict: bool, criteria: Path | None) -> "Report":
    from splatdream.check import check_mesh, check_splats
    from splatdream.check.criteria import read_criteria
    from splatdream.check.mesh import is_mesh

    mesh = is_mesh(file)
    with refusing():
        read_criteria("meshes" if mesh else "splats", criteria)
    if mesh:
        return check_mesh(file, strict=strict, criteria=criteria)
    from splatdream.export import input_suffix, read

    with refusing():
        input_suffix(file)
    asset = read(file, drop_invalid=True)
    return check_splats(asset.splats, dropped=asset.dropped, strict=strict, criteria=criteria)


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
