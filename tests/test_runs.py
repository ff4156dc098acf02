"""Run folders: one process at a time, and nothing stale."""

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from splatdream import runs
from splatdream.recipe import Recipe

RECIPE = Recipe("a red mug", steps=3, device="cpu", renderer="dense", seed=5)
ORIGIN = {"versions": {"torch": "1"}, "machine": {"threads": 2}, "prior": {"folder": "/prior", "sha256": {}}}

HOLD = """
import sys, time
from pathlib import Path
from splatdream import runs
with runs.locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that works in the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "a.run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_run_folder_lies_beside_the_result() -> None:
    assert runs.run_folder("out/mug.ply") == Path("out/mug.run")
    assert runs.run_folder("mug.v2.ply") == Path("mug.v2.run")


def test_a_folder_in_use_is_refused_and_its_user_named(other, tmp_path) -> None:
    with (
        pytest.raises(runs.Busy, match=f"a.run is in use by process {other.pid} on {platform.node()}"),
        runs.locked(tmp_path / "a.run"),
    ):
        pass
    assert f"process {other.pid}" in str(runs.holder(tmp_path / "a.run"))


def test_a_lock_dies_with_its_process_however_that_dies(other, tmp_path) -> None:
    other.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    other.wait()
    assert (tmp_path / "a.run" / runs.LOCK).exists()
    assert runs.holder(tmp_path / "a.run") is None
    with runs.locked(tmp_path / "a.run"):
        assert f'"pid": {os.getpid()}' in (tmp_path / "a.run" / runs.LOCK).read_text()


def test_a_lock_leaves_nothing_behind_even_after_an_error(tmp_path) -> None:
    with pytest.raises(KeyError), runs.locked(tmp_path / "a.run"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    assert runs.holder(tmp_path / "a.run") is None


def test_one_process_cannot_hold_a_folder_twice(tmp_path) -> None:
    with runs.locked(tmp_path / "a.run"):
        with pytest.raises(runs.Busy), runs.locked(tmp_path / "a.run"):
            pass
        assert runs.holder(tmp_path / "a.run") is not None
    assert runs.holder(tmp_path / "a.run") is None


def test_a_lock_file_without_words_is_still_a_lock(other, tmp_path) -> None:
    (tmp_path / "a.run" / runs.LOCK).write_text("")
    assert runs.holder(tmp_path / "a.run") == "another process"


def test_beginning_writes_the_recipe_and_forgets_an_earlier_run(tmp_path) -> None:
    for name in ("state-000002.safetensors", runs.MANIFEST, runs.LOG):
        (tmp_path / name).write_text("from before")
    (tmp_path / "notes.txt").write_text("mine")
    runs.begin(tmp_path, RECIPE, "mug.ply", 10, ORIGIN)
    assert Recipe.from_toml(tmp_path / runs.RECIPE) == RECIPE
    assert sorted(path.name for path in tmp_path.iterdir()) == [runs.LOG, "notes.txt", runs.RECIPE]


def test_a_run_that_was_begun_is_read_back_from_its_folder_or_its_output(tmp_path) -> None:
    folder = tmp_path / "mug.run"
    folder.mkdir()
    runs.begin(folder, RECIPE, "mug.ply", 10, ORIGIN)
    for path in (folder, tmp_path / "mug.ply"):
        assert runs.read(path) == runs.Run(folder, RECIPE, tmp_path / "mug.ply", 10, ORIGIN)


@pytest.mark.parametrize("missing", [runs.LOG, runs.RECIPE])
def test_a_run_that_died_before_it_had_begun_is_called_so(missing, tmp_path) -> None:
    runs.begin(tmp_path, RECIPE, "mug.ply", 10, ORIGIN)
    (tmp_path / missing).unlink()
    with pytest.raises(ValueError, match="broken off before it began, so generate anew"):
        runs.read(tmp_path)


@pytest.mark.parametrize("name", ["../mug.ply", "/etc/mug.ply", "..", "", "a/b.ply"])
def test_a_log_cannot_send_the_result_out_of_its_folder(name, tmp_path) -> None:
    runs.begin(tmp_path, RECIPE, "mug.ply", 10, ORIGIN)
    runs.log(tmp_path, "begin", output=name, checkpoint_every=10, origin=ORIGIN)
    with pytest.raises(ValueError, match="outside its folder"):
        runs.read(tmp_path)


def test_states_are_found_by_their_number_the_last_first(tmp_path) -> None:
    for name in ("state-000009", "state-1000000", "state-000010", "state-x", "state-"):
        (tmp_path / f"{name}.safetensors").touch()
    assert list(runs.states(tmp_path)) == [1000000, 10, 9]
    assert runs.states(tmp_path)[9] == runs.state_path(tmp_path, 9)


def test_sweeping_takes_only_what_writing_left(tmp_path) -> None:
    folder = tmp_path / "a[1].run"
    folder.mkdir()
    runs.begin(folder, RECIPE, "a[1].ply", 10, ORIGIN)
    for path in (folder / ".state-000001.safetensors.abcd.tmp", tmp_path / ".a[1].ply.abcd.tmp"):
        path.touch()
    others = [tmp_path / ".b.ply.abcd.tmp", tmp_path / ".a1.ply.abcd.tmp", tmp_path / "a[1].ply"]
    for path in others:
        path.touch()
    runs.sweep(runs.read(folder))
    assert sorted(path.name for path in folder.iterdir()) == [runs.LOG, runs.RECIPE]
    assert all(path.exists() for path in others)


def test_the_log_is_one_object_a_line_and_bears_a_line_cut_short(tmp_path) -> None:
    runs.log(tmp_path, "begin", output="mug.ply")
    runs.log(tmp_path, "step", step=1, note="two\nlines")
    with (tmp_path / runs.LOG).open("a") as file:
        file.write('{"time": "2026-')
    assert runs.events(tmp_path, "begin")[0]["output"] == "mug.ply"
    assert [entry["note"] for entry in runs.events(tmp_path, "step")] == ["two\nlines"]
    runs.log(tmp_path, "resume", step=1)
    assert [entry["step"] for entry in runs.events(tmp_path, "resume")] == [1]
    assert runs.events(tmp_path / "nowhere", "step") == []


def test_a_log_whose_first_line_is_damaged_is_called_so(tmp_path) -> None:
    runs.begin(tmp_path, RECIPE, "mug.ply", 10, ORIGIN)
    runs.state_path(tmp_path, 10).touch()
    (tmp_path / runs.LOG).write_text("{" + (tmp_path / runs.LOG).read_text())
    with pytest.raises(ValueError, match="is damaged: its line that says what the run began with"):
        runs.read(tmp_path)


@pytest.mark.parametrize(
    ("found", "missing"),
    [
        ({}, "a"),
        ({"a": "3"}, "a"),
        ({"a": True}, "a"),
        ({"a": 3, "b": []}, "b"),
        ({"a": 3, "b": {"c": 1}}, "b c"),
        ([], "values"),
        ({"a": 3, "b": {"c": "x"}, "d": 0}, None),
    ],
)
def test_the_first_leaf_that_does_not_fit_is_named(found, missing) -> None:
    assert runs.misfit(found, {"a": int, "b": {"c": str}}) == missing


def test_the_folder_one_stands_in_is_a_run_folder_too(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "mug.run"
    folder.mkdir()
    runs.begin(folder, RECIPE, "mug.ply", 10, ORIGIN)
    monkeypatch.chdir(folder)
    assert runs.read(".").output.resolve() == (tmp_path / "mug.ply").resolve()


def test_a_lock_on_a_folder_that_held_nothing_takes_it_away(tmp_path) -> None:
    with runs.locked(tmp_path / "mug.run"):
        pass
    assert not (tmp_path / "mug.run").exists()
