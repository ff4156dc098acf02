"""Faults in real processes, as `benchmarks/faults.py` causes them: a few kills here, the rest by hand."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no signals that kill")


@pytest.fixture(scope="module")
def faults() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(Path(__file__).parents[1] / "benchmarks"), *sys.path])
        for name in ("PYTHONPATH", "OMP_NUM_THREADS"):  # it sets them for its processes
            patch.setenv(name, os.environ.get(name, ""))
        import faults  # pyright: ignore[reportMissingImports]

        yield faults


def test_runs_that_are_killed_five_times_end_with_the_same_bytes(faults, tmp_path) -> None:
    outcome = faults.killed(tmp_path, 5, variants=[faults.VARIANTS[1]])
    assert (outcome.survived, outcome.lost, outcome.wrong) == (outcome.tried, 0, [])
    assert outcome.tried >= 5


def test_the_trial_notices_bytes_that_differ_or_are_missing(faults, tmp_path) -> None:
    for name, content in (("whole", b"12345"), ("same", b"12345"), ("other", b"12x4"), ("empty", b"")):
        (tmp_path / f"{name}.ply").write_bytes(content)
    lost = [faults.differing(tmp_path / f"{name}.ply", tmp_path / "whole.ply") for name in ("same", "other", "none")]
    assert lost == [0, 2, 5]
    outcome = faults.Outcome()
    outcome.add(tmp_path, "other", [], times=3)
    assert (outcome.tried, outcome.survived, outcome.lost) == (3, 0, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("Ctrl-C", "SIGTERM", "disk full", "checkpoint cut short", "bit flipped in a checkpoint"),
        *("NaN from the prior", "NaN for good", "out of memory", "folder in use", "folder made read-only"),
        "weights gone or others",
    ],
)
def test_every_fault_is_survived_without_a_byte_lost(name, faults, tmp_path) -> None:
    try:
        outcome = faults.FAULTS[name](tmp_path, 1)
    except PermissionError as error:
        pytest.skip(str(error))
    assert (outcome.tried, outcome.survived, outcome.lost, outcome.wrong) == (1, 1, 0, [])


@pytest.mark.slow
def test_fifty_kills_over_the_lives_of_several_runs_change_no_byte(faults, tmp_path) -> None:
    outcome = faults.killed(tmp_path, 50, seed=1)
    assert (outcome.survived, outcome.lost, outcome.wrong) == (outcome.tried, 0, [])
