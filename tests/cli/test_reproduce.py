"""`splatdream reproduce`: the same bytes again, and what is said where they are others."""

import json
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from splatdream import Recipe, runs

MANIFEST = Path("mug.run/manifest.json")


@pytest.fixture
def made(call, small, tiny):
    """A finished run whose prior lies beside it, and its manifest to be edited."""
    shutil.copytree(tiny, "prior")
    assert call("generate", "a red mug", "-o", "mug.ply", *small, "--prior", "prior").exit_code == 0
    return json.loads(MANIFEST.read_text())


@pytest.mark.parametrize("name", [MANIFEST, "mug.run", "mug.ply"])
def test_the_same_bytes_come_out_with_whatever_threads_torch_was_set_to(name, call, made) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        result = call("reproduce", str(name))
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
    assert result.exit_code == 0, result.output
    assert f"the same bytes: {made['result']['sha256']}" in result.stdout
    assert "not as it was" not in result.stdout
    assert Path("mug.again.ply").read_bytes() == Path("mug.ply").read_bytes()


def test_what_differs_here_is_told_though_the_bytes_be_the_same(call, made) -> None:
    made["versions"]["torch"] = "1.0.0"
    made["machine"]["cpu"] = "an abacus"
    MANIFEST.write_text(json.dumps(made))
    result = call("reproduce", "mug.run", "-o", "other.ply")
    assert result.exit_code == 0, result.output
    assert "not as it was: machine cpu: an abacus, now " in result.stdout
    assert f"not as it was: versions torch: 1.0.0, now {version('torch')}" in result.stdout


def test_other_bytes_are_told_with_how_far_apart_the_results_are(call, made) -> None:
    made["recipe"]["seed"] = 1
    MANIFEST.write_text(json.dumps(made))
    result = call("reproduce", "mug.run")
    assert result.exit_code == 1
    assert "other bytes: " in result.stdout
    assert "30 Gaussians, then 30; " in result.stdout
    Path("mug.ply").unlink()
    assert "mug.ply is not there to be compared with" in call("reproduce", "mug.run", "--force").stdout


def test_weights_that_moved_are_taken_from_where_they_lie_and_other_weights_are_noticed(call, made) -> None:
    Path("prior").rename("elsewhere")
    missing = call("reproduce", "mug.run")
    assert missing.exit_code == 2
    assert "the folder does not exist" in missing.stderr
    moved = call("reproduce", "mug.run", "--prior", "elsewhere")
    assert moved.exit_code == 0, moved.output
    assert "not as it was" not in moved.stdout
    made["prior"]["sha256"]["unet/diffusion_pytorch_model.safetensors"] = "0"
    MANIFEST.write_text(json.dumps(made))
    other = call("reproduce", "mug.run", "--prior", "elsewhere", "--force")
    assert "not as it was: prior sha256 unet/diffusion_pytorch_model.safetensors: 0, now" in other.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no manifest nothing.json"),
        ("[1, 2", "nothing.json is no manifest"),
        ("3", "nothing.json is no manifest"),
        ("{}", "no manifest of this version: it does not say the run's recipe"),
    ],
)
def test_what_is_no_manifest_is_refused(text, message, call) -> None:
    if text is not None:
        Path("nothing.json").write_text(text)
    result = call("reproduce", "nothing.json")
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_manifest_cannot_name_a_file_outside_its_folder(call, made, tmp_path) -> None:
    made["result"]["file"] = "../../mug.ply"
    MANIFEST.write_text(json.dumps(made))
    assert call("reproduce", "mug.run").exit_code == 0
    assert Path("mug.again.ply").is_file()


def test_a_manifest_that_was_taken_out_of_its_folder_writes_beside_itself(call, made) -> None:
    Path("kept").mkdir()
    Path("kept/manifest.json").write_text(json.dumps(made))
    result = call("reproduce", "kept/manifest.json")
    assert result.exit_code == 0, result.output
    assert Path("kept/mug.again.ply").is_file()


@pytest.mark.parametrize(("key", "value"), [("machine", 3), ("machine", {"threads": "two"}), ("result", {})])
def test_a_manifest_with_values_of_other_kinds_is_refused(key, value, call, made) -> None:
    MANIFEST.write_text(json.dumps(made | {key: value}))
    result = call("reproduce", "mug.run")
    assert result.exit_code == 2
    assert f"it does not say the run's {key}" in result.stderr


def test_what_was_interrupted_goes_on_by_the_same_command_and_is_compared(call, made, monkeypatch) -> None:
    from splatdream.priors.diffusion import DiffusionPrior

    condition, calls = DiffusionPrior.condition, []

    def interrupted(self, *arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return condition(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(DiffusionPrior, "condition", interrupted)
        stopped = call("reproduce", "mug.run", "-o", "other.ply")
    assert stopped.exit_code == 130
    assert "to go on: splatdream reproduce mug.run -o other.ply" in stopped.stdout
    again = call("reproduce", "mug.run", "-o", "other.ply")
    assert again.exit_code == 0, again.output
    assert "steps 2 to 3" in again.stdout
    assert f"the same bytes: {made['result']['sha256']}" in again.stdout


def test_another_run_that_was_broken_off_is_not_gone_on_with(call, made) -> None:
    Path("other.run").mkdir()
    runs.begin(runs.run_folder("other.ply"), Recipe("a blue ball"), "other.ply", 25, made)
    result = call("reproduce", "mug.run", "-o", "other.ply")
    assert result.exit_code == 2
    assert "other.run holds another run, that was broken off; --force begins anew" in result.stderr
    assert call("reproduce", "mug.run", "-o", "other.ply", "--force").exit_code == 0
