"""What a user waits: `splatdream generate` from the command to the file, with warm kernels, and its peak memory.

    python benchmarks/wall_clock.py

Each run is a process of its own, so that start-up counts. One short run goes before and is not timed: it compiles the
renderer's kernels where no earlier run has. Asked: `normal` within 120 seconds on two cores, `draft` within 30, both
below 2.5 GB.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import _report as report

ASKED = {"draft": 30, "normal": 120, "high": None}
PROMPT = "a snowman with a red hat"
PROGRAM = [sys.executable, "-c", "from splatdream_cli.main import main; main()"]
WATCH = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done)
"""


def waited(quality: str, out: Path, *options: str) -> tuple[float, float]:
    """Seconds and peak gigabytes of one run. CalledProcessError where it fails."""
    command = [*PROGRAM, "generate", PROMPT, "--force", "--output", str(out), "--quality", quality, *options]
    began = time.monotonic()
    printed = subprocess.run([sys.executable, "-c", WATCH, *command], check=True, stdout=subprocess.PIPE).stdout
    return time.monotonic() - began, int(printed) / (1e9 if sys.platform == "darwin" else 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quality", nargs="+", default=["draft", "normal"], choices=list(ASKED))
    parser.add_argument("--repeats", type=report.positive, default=3, help="runs of each (default: 3)")
    parser.add_argument("--out", type=Path, default=report.HERE / "results", help="folder of the kept results")
    options = parser.parse_args()
    lines = [f"{'quality':8} {'median s':>8} {'asked s':>8} {'GB':>5}   each run"]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "snowman.ply"
        waited("draft", out, "--steps", "2")
        for quality in options.quality:
            runs = [waited(quality, out) for _ in range(options.repeats)]
            seconds, memory = [run[0] for run in runs], max(run[1] for run in runs)
            rows.append({"quality": quality, "seconds": seconds, "asked": ASKED[quality], "gigabytes": memory})
            each = " ".join(f"{value:.1f}" for value in seconds)
            lines.append(
                f"{quality:8} {statistics.median(seconds):8.1f} {ASKED[quality] or '-':>8} {memory:5.2f}   {each}"
            )
            print(lines[-1], flush=True)
    print(report.save("wall_clock", "\n".join(lines), {"rows": rows}, options.out).read_text())


if __name__ == "__main__":
    main()
