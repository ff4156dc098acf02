"""`splatdream generate --seeds N`: as many results as seeds, each what its own run would have made."""

from pathlib import Path

import pytest

from splatdream import runs
from splatdream_cli import several


def test_each_seed_gives_the_bytes_of_its_own_run(call, small) -> None:
    result = call("generate", "a red mug", "-o", "mug.ply", "--seed", "3", "--seeds", "2", *small)
    assert result.exit_code == 0, result.output
    assert "2 seeds at once" in result.stdout
    for seed in (3, 4):
        assert call("generate", "a red mug", "-o", f"alone{seed}.ply", "--seed", str(seed), *small).exit_code == 0
        assert Path(f"mug-{seed}.ply").read_bytes() == Path(f"alone{seed}.ply").read_bytes()
        assert runs.read(f"mug-{seed}.run").recipe.seed == seed
    assert not Path("mug.ply").exists()


def test_the_results_are_listed_with_the_best_score_first(call, small) -> None:
    lines = call("generate", "a red mug", "-o", "mug.ply", "--seeds", "3", *small).stdout.splitlines()
    listed = [line for line in lines if line.endswith("30 Gaussians") and "mug-" in line and "step" not in line]
    scores = [float(line.split()[0]) for line in listed]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert listed[0].split()[1] in lines[-1]


def test_what_is_in_the_way_of_one_seed_is_refused_before_any_begins(call, small) -> None:
    Path("mug-1.ply").write_bytes(b"mine")
    result = call("generate", "a red mug", "-o", "mug.ply", "--seeds", "2", *small)
    assert result.exit_code == 2
    assert "mug-1.ply exists" in result.output
    assert not Path("mug-0.run").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-o", "mug.doc"], "unknown output suffix"),
        (["-o", "mug.ply", "--seed", str(2**63 - 1)], "seed must be a number of 64 bits"),
        (["-o", "mug.ply", "--seeds", "0"], "--seeds"),
    ],
)
def test_what_no_seed_could_be_made_with_is_wrong_use(words, told, call, small) -> None:
    result = call("generate", "a red mug", "--seeds", "2", *words, *small)
    assert result.exit_code == 2
    assert told in result.output
    assert not list(Path().glob("*.run"))


@pytest.mark.parametrize("option", [["--preview-every", "1"], ["--live"], ["--dry-run"]])
def test_what_shows_one_run_is_refused(option, call, small) -> None:
    result = call("generate", "a red mug", "-o", "mug.ply", "--seeds", "2", *option, *small)
    assert result.exit_code == 2
    assert option[0] in result.output


def test_ctrl_c_leaves_every_seed_to_be_resumed(call, small, monkeypatch) -> None:
    whole = call("generate", "a red mug", "-o", "whole.ply", "--seeds", "2", *small)
    assert whole.exit_code == 0, whole.output
    show = several.display

    class Breaking:
        """A display in which somebody presses Ctrl-C after the second turn."""

        def __init__(self, *words) -> None:
            self.inner = show(*words)

        def __enter__(self):
            return self

        def __exit__(self, *what) -> None:
            return None

        def say(self, text: str) -> None:
            self.inner.say(text)

        def step(self, step, seconds: float) -> None:
            if step.index == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(several, "display", Breaking)
    stopped = call("generate", "a red mug", "-o", "mug.ply", "--seeds", "2", *small)
    assert stopped.exit_code == 130, stopped.output
    for seed in (0, 1):
        assert call("resume", f"mug-{seed}.run").exit_code == 0
        assert Path(f"mug-{seed}.ply").read_bytes() == Path(f"whole-{seed}.ply").read_bytes()
