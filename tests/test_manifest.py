"""Manifests: they tell the truth about what a run was made with."""

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch

import splatdream
from splatdream import runs
from splatdream.manifest import differences, finish, origin_of, peak_memory, read_manifest
from splatdream.recipe import Recipe

RECIPE = Recipe("a red mug", steps=3, device="cpu", renderer="dense", seed=5)


def test_origins_are_compared_leaf_by_leaf() -> None:
    then = {"versions": {"torch": "1", "numba": "2"}, "prior": {"folder": "/a", "sha256": {"unet": "x"}}}
    now = {"versions": {"torch": "3", "numba": "2"}, "prior": {"folder": "/b", "sha256": {"unet": "y"}}}
    assert differences(then, then) == []
    assert differences(then, now) == ["prior sha256 unet: x, now y", "versions torch: 1, now 3"]


@pytest.fixture
def finished(tmp_path) -> Path:
    """A run of two sessions, as its files tell it."""
    folder, prior = tmp_path / "mug.run", tmp_path / "prior"
    folder.mkdir()
    (prior / "unet").mkdir(parents=True)
    (prior / "unet" / "weights.safetensors").write_bytes(b"weights")
    (prior / "unet" / "config.json").write_text("{}")
    (tmp_path / "mug.ply").write_bytes(b"splat")
    runs.begin(folder, RECIPE, "mug.ply", 10, origin_of(RECIPE, prior))
    runs.log(folder, "step", step=1, seconds=5.0)
    runs.log(folder, "resume", changes=["versions torch: 1, now 2"])
    for step in (2, 3):
        runs.log(folder, "step", step=step, seconds=1.0)
    (folder / "state-000003.safetensors").write_text("state")
    finish(runs.read(folder), 1234)
    return folder


def test_the_manifest_names_the_result_by_its_bytes(finished) -> None:
    result = read_manifest(finished)["result"]  # type: ignore[index]
    sha256 = hashlib.sha256(b"splat").hexdigest()
    assert result == {"file": "mug.ply", "sha256": sha256, "bytes": 5, "gaussians": 1234}


def test_the_manifest_sums_the_time_of_all_sessions(finished) -> None:
    timing = read_manifest(finished)["timing"]  # type: ignore[index]
    assert (timing["sessions"], timing["seconds"], timing["seconds_per_step"]) == (2, 7.0, 1.0)
    assert timing["started"] <= timing["finished"]


def test_the_manifest_names_weights_versions_and_machine(finished) -> None:
    manifest = json.loads((finished / runs.MANIFEST).read_text())
    assert manifest["prior"]["sha256"] == {
        "unet/config.json": hashlib.sha256(b"{}").hexdigest(),
        "unet/weights.safetensors": hashlib.sha256(b"weights").hexdigest(),
    }
    assert manifest["versions"]["splatdream"] == splatdream.__version__
    assert all(manifest["versions"][name] for name in ("torch", "diffusers", "numba", "gsplat", "python"))
    assert manifest["machine"]["cores"] == os.cpu_count()
    assert manifest["machine"]["renderer"] == "dense"
    assert manifest["machine"]["threads"] == torch.get_num_threads()
    assert manifest["seed"] == 5
    assert Recipe.from_table(manifest["recipe"], "manifest") == RECIPE
    assert manifest["checkpoint_every"] == 10
    assert manifest["changes"] == ["versions torch: 1, now 2"]


def test_a_finished_run_keeps_no_state(finished) -> None:
    assert not runs.states(finished)
    assert runs.finished(finished)
    assert read_manifest(finished.parent) is None


@pytest.mark.skipif(os.name == "nt", reason="Windows does not tell")
def test_peak_memory_is_in_bytes() -> None:
    # Python with torch holds some hundred megabytes, and no test machine holds a terabyte.
    assert 5e7 < (peak_memory() or 0) < 1e12
