"""gsplat's kernels: whether they are there, what a build would take, and that it happens once.

Nothing here imports gsplat: where there is a compiler, touching its kernels begins a build of many minutes, and
processes that do so at once take away each other's locks (nerfstudio-project/gsplat issue 297).
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from math import ceil
from pathlib import Path

from torch.utils import cpp_extension

from splatdream.locks import alone
from splatdream.machine import memory
from splatdream.render._threads import available_cores

EXTENSION = "gsplat_cuda"
JOB_BYTES = 4_000_000_000
"""What a compiler at work on one file may need."""
SOURCE_SECONDS = 40.0
"""For one file on one core (14 to 68 s were measured)."""


@dataclass(frozen=True)
class Kernels:
    """`state` is "absent" (no gsplat), "shipped" (in its wheel), "built" (in `folder`), "unbuilt" or "no compiler".

    It is "no folder" where none can be made for them: then `folder` is what stands in the way.
    """

    state: str
    folder: Path
    sources: int = 0
    compiler: str = ""

    @property
    def minutes(self) -> float:
        """What a build would take with `job_count()`."""
        return ceil(self.sources / job_count()) * SOURCE_SECONDS / 60


def kernels() -> Kernels:
    """What there is on this machine, told from files alone."""
    package = find_spec("gsplat")
    if package is None or package.origin is None:
        return Kernels("absent", Path())
    home = Path(package.origin).parent
    if [*home.glob("csrc*.so"), *home.glob("csrc*.pyd")]:
        return Kernels("shipped", home)
    try:
        folder = build_folder()
    except OSError as error:
        return Kernels("no folder", Path(error.filename))
    sources = len([*home.glob("cuda/csrc/*.cu")])
    if any((folder / f"{EXTENSION}{suffix}").is_file() for suffix in (".so", ".pyd")):
        return Kernels("built", folder, sources)
    compiler = find_compiler()
    return Kernels("unbuilt" if compiler else "no compiler", folder, sources, compiler)


def find_compiler() -> str:
    """The path of nvcc, or nothing."""
    home = cpp_extension.CUDA_HOME
    paths = [Path(home, "bin", name) for name in ("nvcc", "nvcc.exe")] if home else []
    return next((str(path) for path in paths if path.is_file()), "")


def build_folder() -> Path:
    """Where torch keeps the build; gsplat asks it in the same way."""
    return Path(cpp_extension._get_build_directory(EXTENSION, verbose=False))


def job_count() -> int:
    """As many compilers as there are cores and memory for; gsplat itself would start ten."""
    return max(1, min(available_cores(), memory().free // JOB_BYTES))


@contextmanager
def one_at_a_time(waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """The block in which gsplat's kernels may be touched: a build in it has the machine's builds to itself.

    The number of compilers is MAX_JOBS where that is set, else `job_count()`.
    """
    with alone(build_folder().parent / f"{EXTENSION}.lock", waiting):
        unset = "MAX_JOBS" not in os.environ
        os.environ.setdefault("MAX_JOBS", str(job_count()))  # gsplat and torch read it there
        try:
            yield
        finally:
            if unset:
                os.environ.pop("MAX_JOBS", None)
