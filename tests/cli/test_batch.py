"""`splatdream batch`: what it writes and says, its exit codes, and what it refuses before it begins."""

import json
import shutil
from pathlib import Path

import pytest

from splatdream_cli.batch import environments

SMALL = ["renderer=dense", "device=cpu", "steps=3", "views=2", "count=30"]


@pytest.fixture
def settings(tiny) -> list[str]:
    return [word for each in (f"prior={tiny}", *SMALL) for word in ("--set", each)]


def test_prompts_become_a_folder_and_failures_a_table(call, settings, tmp_path) -> None:
    Path("p.txt").write_text("a red mug\na red dragn\n")
    Path("numba.py").write_text("raise SystemExit('run from the current folder')")  # nothing there is ever run
    words = ["batch", "p.txt", "--out", "b", "--seeds", "2", "--workers", "1", *settings]
    first = call(*words)
    assert first.exit_code == 1, first.output
    assert "2 of 4 done, 2 failed" in first.stdout
    assert first.stdout.count("does not know 'dragn'") == 2
    lines = [json.loads(line) for line in Path("b/results.jsonl").read_text().splitlines()]
    assert [line["state"] for line in lines] == ["done", "done", "failed", "failed"]
    (best,) = [line for line in lines if line["best"]]
    assert (Path("b") / best["file"]).is_file()
    assert "archive" not in best["file"]
    assert "a red mug" in Path("b/index.html").read_text()
    again = call(*words)
    assert again.exit_code == 1
    assert "4 jobs in b: 2 are done, 2 failed before; --retry-failed tries them again" in again.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["p.yaml"], "unknown prompt file '.yaml'"),
        (["none.txt"], "none.txt: no such file"),
        (["p.csv"], "p.csv line 2: unknown recipe key 'stepz'"),
        (["p.txt", "--engine", "rya"], "did you mean 'ray'"),
        (["p.txt", "--set", "distill=sdss"], "did you mean 'sds'"),
        (["p.txt", "--set", "stepz=3"], "did you mean 'steps'"),
        (["q.csv"], "'a mug': unknown renderer 'cpuu': choose one of"),
        (["p.txt", "--set", f"seed={'9' * 300}"], "seed must be a number of 64 bits; got 999"),
        (["p.txt", "--out", "p.txt"], "p.txt is a file; give a folder"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_written(words, message, call) -> None:
    Path("p.txt").write_text("a red mug\n")
    Path("p.csv").write_text("prompt,stepz\na mug,3\n")
    Path("q.csv").write_text("prompt,renderer\na red mug,cpu\na mug,cpuu\n")
    result = call("batch", "--out", "b", *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not Path("b").exists()


def test_workers_share_the_cores_and_have_a_card_each() -> None:
    given = environments(3, 8, ["4", "5"], {"HOME": "h"})
    assert [each["CUDA_VISIBLE_DEVICES"] for each in given] == ["4", "5", "4"]
    assert {each["OMP_NUM_THREADS"] for each in given} == {"2"}
    assert "CUDA_VISIBLE_DEVICES" not in environments(1, 8, [], {})[0]
    assert environments(2, 8, [], {"OMP_NUM_THREADS": "7"})[0]["OMP_NUM_THREADS"] == "7"


def test_lines_that_were_taken_out_are_not_made_and_do_not_count(call, settings) -> None:
    Path("p.txt").write_text("a red dragn\n")
    assert call("batch", "p.txt", "--out", "b", *settings).exit_code == 1
    (failed,) = Path("b/claims/failed").iterdir()
    failed.rename(f"b/claims/todo/{failed.name}.0")
    Path("p.txt").write_text("a red mug\n")
    second = call("batch", "p.txt", "--out", "b", "--workers", "1", *settings)
    assert second.exit_code == 0, second.output
    assert "1 of 1 done, 0 failed" in second.stdout
    assert "a red dragn" in Path("b/index.html").read_text()


def test_a_splat_that_was_deleted_is_made_again(call, settings) -> None:
    Path("p.txt").write_text("a red mug\n")
    words = ["batch", "p.txt", "--out", "b", "--workers", "1", *settings]
    first = call(*words)
    assert first.exit_code == 0, first.output
    (splat,) = Path("b").glob("*/seed-0.ply")
    shutil.rmtree(splat.parent)
    again = call(*words)
    assert again.exit_code == 0, again.output
    assert "1 jobs in b: the splats of 1 are gone and made again" in again.stdout
    assert splat.is_file()
