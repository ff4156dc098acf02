"""Times every splat format, written and read, against the raw rate of the disk.

The raw rate is that of the same bytes, written in one piece until the disk has them, or read in one piece; before a
file is read the system is asked to forget it (where it cannot be asked, both are read from memory). Each figure is the
best of the repeats, since whatever else the machine does can only slow it down, and the two sides of a ratio are taken
in turns. A format that packs is bound by its packing, not by the disk; its size is what it is for.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import _report as report
import torch

from splatdream.catalog import CATALOG
from splatdream.export import read, write
from splatdream.splats import Splats, logit

COUNT = 1_000_000
AIM = 0.6
"""Of the raw rate, for .ply."""


def scene(count: int, degree: int, seed: int = 0) -> Splats:
    """An object-like cloud: points in the unit ball, small scales, coefficients that fall off with their degree."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    K = (degree + 1) ** 2 - 1
    return Splats(
        means=directions * torch.rand(count, 1, generator=generator) ** (1 / 3),
        quats=torch.randn(count, 4, generator=generator),
        log_scales=-5 + 0.5 * torch.randn(count, 3, generator=generator),
        logit_opacities=logit(torch.rand(count, generator=generator)),
        sh0=0.8 * torch.randn(count, 1, 3, generator=generator),
        shN=0.1 * torch.randn(count, K, 3, generator=generator),
    )


def seconds(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def write_raw(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def forget(path: Path) -> None:
    """Takes a file out of the system's memory, where the system can be asked."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(splats: Splats, suffix: str, folder: Path, repeats: int) -> dict[str, float]:
    """Seconds of writing and reading, formatted and raw, and the size."""
    path, raw = folder / f"a{suffix}", folder / "raw"
    write(splats, path)
    content = path.read_bytes()
    figures: dict[str, list[float]] = {"write": [], "raw_write": [], "read": [], "raw_read": []}
    for _ in range(repeats):
        figures["write"].append(seconds(lambda: write(splats, path)))
        figures["raw_write"].append(seconds(lambda: write_raw(raw, content)))
        forget(path)
        figures["read"].append(seconds(lambda: read(path)))
        forget(raw)
        figures["raw_read"].append(seconds(raw.read_bytes))
    return {name: min(values) for name, values in figures.items()} | {"bytes": len(content)}


def table(rows: list[dict]) -> str:
    lines = [f"{'format':14} {'degree':>6} {'MB':>7} {'write s':>8} {'of raw':>7} {'read s':>8} {'of raw':>7}"]
    for row in rows:
        shares = row["raw_write"] / row["write"], row["raw_read"] / row["read"]
        lines.append(
            f"{row['format']:14} {row['degree']:6} {row['bytes'] / 1e6:7.1f} {row['write']:8.3f} {shares[0]:7.2f} "
            f"{row['read']:8.3f} {shares[1]:7.2f}"
        )
    plain = [row for row in rows if row["format"] == ".ply"]
    rates = [row["bytes"] / row[f"raw_{way}"] / 1e6 for row in plain for way in ("write", "read")]
    return "\n".join(
        [
            f"{rows[0]['count']:,} Gaussians; raw rates of .ply in MB/s: {', '.join(f'{rate:.0f}' for rate in rates)}",
            "",
            *lines,
            "",
            f"The aim: .ply at {AIM} of the raw rate or better.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=report.HERE / "results", help="folder of the kept results")
    parser.add_argument("--count", type=int, default=COUNT, help=f"Gaussians (default: {COUNT:,})")
    parser.add_argument("--repeats", type=int, default=3, help="runs per figure (default: 3)")
    parser.add_argument("--work", type=Path, help="a folder on the disk in question (default: the system's)")
    parser.add_argument(
        "formats", nargs="*", metavar="SUFFIX", help="formats (default: all that can be read and written)"
    )
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        for degree in (0, 3):
            splats = scene(arguments.count, degree)
            for suffix in arguments.formats or CATALOG["reader"]:
                figures = measure(splats, suffix, Path(folder), arguments.repeats)
                rows.append({"format": suffix, "degree": degree, "count": arguments.count, **figures})
    path = report.save("export", table(rows), {"rows": rows}, arguments.out)
    print(path.read_text())


if __name__ == "__main__":
    main()
