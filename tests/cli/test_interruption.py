"""Ctrl-C and its relatives: what they leave, and that going on is as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from splatdream import read_ply, runs, write_ply
from splatdream.checkpoint import load_state
from splatdream.init.sphere import Sphere

MCMC = ["--set", "densify=mcmc:start=0.0,every=0.2", "--steps", "6"]


@pytest.fixture(autouse=True)
def heard():
    """A shell that starts tests in the background makes them deaf to Ctrl-C, and their children too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def saved_step() -> int:
    """Finished steps of the last state of mug.run, which is whole."""
    return load_state(next(iter(runs.states(Path("mug.run")).values()))).step


def in_the_middle_of_step(number: int, signum: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal comes when this step has drawn its cameras, noise and timesteps, but has not moved anything."""
    from splatdream.priors.diffusion import DiffusionPrior

    condition, calls = DiffusionPrior.condition, []

    def interrupted(self, *arguments):
        calls.append(number)
        if len(calls) == number:
            signal.raise_signal(signum)
        return condition(self, *arguments)

    monkeypatch.setattr(DiffusionPrior, "condition", interrupted)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(signum, code, call, small, monkeypatch) -> None:
    assert call("generate", "a red mug", "-o", "whole.ply", *small, *MCMC).exit_code == 0
    with monkeypatch.context() as patch:
        in_the_middle_of_step(4, signum, patch)
        broken = call("generate", "a red mug", "-o", "mug.ply", *small, *MCMC)
    assert broken.exit_code == code
    assert "after step 3 of 6" in broken.stdout
    assert "to go on: splatdream resume mug.run" in broken.stdout
    assert saved_step() == 3
    assert len(read_ply("mug.ply")) > 0
    resumed = call("resume", "mug.run")
    assert resumed.exit_code == 0, resumed.output
    assert Path("mug.ply").read_bytes() == Path("whole.ply").read_bytes()
    assert not runs.states(Path("mug.run"))
    assert json.loads(Path("mug.run/manifest.json").read_text())["timing"]["sessions"] == 2


def test_a_resumed_run_may_be_interrupted_again_even_in_its_first_step(call, small, monkeypatch) -> None:
    assert call("generate", "a red mug", "-o", "whole.ply", *small, *MCMC).exit_code == 0
    for words in (["generate", "a red mug", "-o", "mug.ply", *small, *MCMC], ["resume", "mug.run"]):
        with monkeypatch.context() as patch:
            in_the_middle_of_step(2 if words[0] == "generate" else 1, signal.SIGINT, patch)
            assert call(*words).exit_code == 130
    assert saved_step() == 1
    assert call("resume", "mug.run").exit_code == 0
    assert Path("mug.ply").read_bytes() == Path("whole.ply").read_bytes()


def test_a_signal_before_the_first_step_leaves_no_result(call, small, monkeypatch) -> None:
    in_the_middle_of_step(1, signal.SIGINT, monkeypatch)
    result = call("generate", "a red mug", "-o", "mug.ply", *small)
    assert result.exit_code == 130
    assert "before the first step" in result.stdout
    assert not Path("mug.ply").exists()
    assert call("resume", "mug.run").exit_code == 0
    assert call("generate", "a red mug", "-o", "whole.ply", *small).exit_code == 0
    assert Path("mug.ply").read_bytes() == Path("whole.ply").read_bytes()


def test_impatience_does_not_hurt_what_is_being_saved(call, small, monkeypatch) -> None:
    from splatdream import session

    save = session.save_state

    def pressed_again(state, *arguments):
        if state.step:
            signal.raise_signal(signal.SIGINT)
        save(state, *arguments)

    monkeypatch.setattr(session, "save_state", pressed_again)
    in_the_middle_of_step(2, signal.SIGINT, monkeypatch)
    assert call("generate", "a red mug", "-o", "mug.ply", *small).exit_code == 130
    assert saved_step() == 1
    assert len(read_ply("mug.ply")) == 30


def test_a_signal_that_python_swallows_stops_the_run_after_the_step(call, small, monkeypatch) -> None:
    class Dying:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    from splatdream.priors.diffusion import DiffusionPrior

    condition = DiffusionPrior.condition

    def collecting(self, *arguments):
        Dying()
        return condition(self, *arguments)

    monkeypatch.setattr(DiffusionPrior, "condition", collecting)
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)
    assert call("generate", "a red mug", "-o", "mug.ply", *small).exit_code == 130
    assert saved_step() == 1


@pytest.mark.parametrize(
    ("folder", "message"),
    [("nowhere.run", "there is no run folder nowhere.run"), ("mug.run", "mug.run is finished")],
)
def test_what_cannot_be_resumed_is_refused(folder, message, call, small) -> None:
    call("generate", "a red mug", "-o", "mug.ply", *small)
    result = call("resume", folder)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send Ctrl-C to one process alone")
def test_a_real_process_hears_a_real_signal(small, tmp_path) -> None:
    words = ["generate", "a red mug", "-o", "mug.ply", *small, "--steps", "5000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "splatdream_cli.main", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    log = tmp_path / "mug.run" / "log.jsonl"
    deadline = time.monotonic() + 120
    while not (log.is_file() and '"step"' in log.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == ""
    assert "to go on: splatdream resume mug.run" in out
    assert f"after step {next(iter(runs.states(tmp_path / 'mug.run')))} of 5000" in out
    assert len(read_ply(tmp_path / "mug.ply")) == 30
    assert not (tmp_path / "mug.run" / "lock").exists()


def test_a_run_folder_that_was_renamed_is_resumed_where_it_is(call, small, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        in_the_middle_of_step(2, signal.SIGINT, patch)
        call("generate", "a red mug", "-o", "mug.ply", *small)
    Path("mug.run").rename("kept.run")
    result = call("resume", "kept.run")
    assert result.exit_code == 0, result.output
    assert "mug.ply: " in result.stdout
    assert Path("kept.run/manifest.json").is_file()


TERMINATED = """
import os, signal, sys
from splatdream_cli.main import main
os.fsync = lambda file: os.kill(os.getpid(), signal.SIGTERM)
sys.argv = ["splatdream", "export", "ball.ply", "there.splat"]
main()
"""
"""An export that is told to end when all is written but the name."""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without asking it")
def test_an_export_that_is_told_to_end_leaves_nothing_half_written(tmp_path) -> None:
    write_ply(Sphere()(60, torch.Generator().manual_seed(0)), tmp_path / "ball.ply")
    done = subprocess.run([sys.executable, "-c", TERMINATED], cwd=tmp_path, check=False)
    assert done.returncode == 128 + signal.SIGTERM
    assert [path.name for path in tmp_path.iterdir()] == ["ball.ply"]
