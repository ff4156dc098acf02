"""Whether gsplat's kernels are there is told from files alone, and they are touched by one process at a time."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from splatdream.machine import Memory
from splatdream.render import gsplat_build
from splatdream.render.gsplat_build import JOB_BYTES, job_count, kernels, one_at_a_time

BUILDER = """
import time
from pathlib import Path
from splatdream.render import gsplat_build
gsplat_build.build_folder = lambda: Path({folder!r}) / "gsplat_cuda"
with gsplat_build.one_at_a_time():
    print("builds", flush=True)
    time.sleep(0.5)
    (Path({folder!r}) / "built").touch()
"""


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """A gsplat of three sources, with a compiler and nothing built."""
    home = tmp_path / "gsplat"
    (home / "cuda" / "csrc").mkdir(parents=True)
    for name in ("a.cu", "b.cu", "c.cu"):
        (home / "cuda" / "csrc" / name).touch()
    (tmp_path / "cuda" / "bin").mkdir(parents=True)
    (tmp_path / "cuda" / "bin" / "nvcc").touch()
    (tmp_path / "build").mkdir()
    monkeypatch.setattr(gsplat_build, "find_spec", lambda name: SimpleNamespace(origin=str(home / "__init__.py")))
    monkeypatch.setattr(gsplat_build.cpp_extension, "CUDA_HOME", str(tmp_path / "cuda"))
    monkeypatch.setattr(gsplat_build, "build_folder", lambda: tmp_path / "build")
    return tmp_path


def test_with_a_compiler_a_build_is_foreseen_by_sources_and_jobs(package, monkeypatch) -> None:
    monkeypatch.setattr(gsplat_build, "job_count", lambda: 2)
    found = kernels()
    assert (found.state, found.sources) == ("unbuilt", 3)
    assert found.minutes == pytest.approx(2 * gsplat_build.SOURCE_SECONDS / 60)  # two jobs take two turns for three


def test_without_a_compiler_there_is_no_build(package) -> None:
    (package / "cuda" / "bin" / "nvcc").unlink()
    assert kernels().state == "no compiler"


def test_a_folder_that_cannot_be_made_is_told_and_needed_by_none_that_ships_kernels(package, monkeypatch) -> None:
    def forbidden() -> Path:
        raise PermissionError(13, "Permission denied", "/closed")

    monkeypatch.setattr(gsplat_build, "build_folder", forbidden)
    assert kernels() == gsplat_build.Kernels("no folder", Path("/closed"))
    (package / "gsplat" / "csrc.cpython-311-x86_64-linux-gnu.so").touch()
    assert kernels().state == "shipped"


def test_what_was_built_or_shipped_is_found(package) -> None:
    (package / "build" / "gsplat_cuda.so").touch()
    assert kernels().state == "built"
    (package / "gsplat" / "csrc.cpython-311-x86_64-linux-gnu.so").touch()
    assert kernels().state == "shipped"


def test_a_machine_without_gsplat_is_told(package, monkeypatch) -> None:
    monkeypatch.setattr(gsplat_build, "find_spec", lambda name: None)
    assert kernels().state == "absent"


@pytest.mark.parametrize(("free", "cores", "jobs"), [(9 * JOB_BYTES, 4, 4), (2 * JOB_BYTES, 64, 2), (1, 64, 1)])
def test_jobs_are_bounded_by_memory_and_cores(free, cores, jobs, monkeypatch) -> None:
    monkeypatch.setattr(gsplat_build, "memory", lambda: Memory(free, free))
    monkeypatch.setattr(gsplat_build, "available_cores", lambda: cores)
    assert job_count() == jobs


def test_jobs_that_were_asked_for_stay_and_nothing_is_left_in_the_environment(package, monkeypatch) -> None:
    monkeypatch.delenv("MAX_JOBS", raising=False)
    with one_at_a_time():
        assert os.environ["MAX_JOBS"] == str(job_count())
    assert "MAX_JOBS" not in os.environ
    monkeypatch.setenv("MAX_JOBS", "3")
    with one_at_a_time():
        assert os.environ["MAX_JOBS"] == "3"
    assert os.environ["MAX_JOBS"] == "3"


def test_who_comes_during_a_build_waits_for_its_end(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(gsplat_build, "build_folder", lambda: tmp_path / "gsplat_cuda")
    words = [sys.executable, "-c", BUILDER.format(folder=str(tmp_path))]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "builds\n"
        said = []
        with one_at_a_time(lambda: said.append("waits")):
            assert (tmp_path / "built").exists()
        assert said == ["waits"]
