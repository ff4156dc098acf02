"""`splatdream check`: exit codes, the report for people and for programs, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from splatdream import write_ply
from splatdream.init.sphere import Sphere
from splatdream.splats import Splats


def ball(**changes) -> Splats:
    cloud = Sphere(opacity=0.9)(400, torch.Generator().manual_seed(0))
    return cloud.replace(log_scales=torch.full((400, 3), 0.1).log(), **changes)


def far_off() -> Splats:
    return ball(means=ball().means + 3.0)


def foggy() -> Splats:
    log_scales = torch.full((400, 3), 0.1).log()
    log_scales[0] = 2.0
    return ball().replace(log_scales=log_scales)


def test_a_sound_splat_passes_with_a_line_for_each_criterion(call) -> None:
    write_ply(ball(), "ball.ply")
    result = call("check", "ball.ply", "--strict")
    assert result.exit_code == 0, result.output
    *lines, verdict = result.stdout.splitlines()
    assert len(lines) == 12
    assert all(line.startswith("ok ") for line in lines)
    assert verdict.startswith("passes  (score 0.9")


def test_fog_exits_with_1_and_is_named(call) -> None:
    write_ply(foggy(), "fog.ply")
    result = call("check", "fog.ply")
    assert result.exit_code == 1
    assert "FAILS         largest" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("fails largest  (score 0.")


def test_custom_is_unusual_and_fails_under_strict(call) -> None:
    write_ply(far_off(), "far.ply")
    assert call("check", "far.ply").exit_code == 0
    assert "unusual       radius" in call("check", "far.ply").stdout
    assert call("check", "far.ply", "--strict").exit_code == 1


def test_json_says_the_same_to_programs(call) -> None:
    write_ply(foggy(), "fog.ply")
    result = call("check", "fog.ply", "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["file"] == "fog.ply"
    assert report["passed"] is False
    assert 0 < report["score"] < 0.5
    assert [name for name, each in report["criteria"].items() if not each["passed"]] == ["largest"]


def test_rows_that_are_not_finite_are_a_finding_and_no_error(call) -> None:
    write_ply(ball(), "broken.ply")
    content = bytearray(Path("broken.ply").read_bytes())
    content[-4:] = np.float32(np.nan).tobytes()
    Path("broken.ply").write_bytes(content)
    result = call("check", "broken.ply")
    assert result.exit_code == 1
    assert "fails finite" in result.stdout


def test_a_mesh_is_checked_as_one(call) -> None:
    box = trimesh.creation.box()
    box.export("box.glb")
    trimesh.Trimesh(box.vertices, box.faces[1:], process=False).export("open.ply")
    assert call("check", "box.glb").exit_code == 0
    result = call("check", "open.ply")
    assert result.exit_code == 1
    assert "fails open" in result.stdout


def test_criteria_of_ones_own(call) -> None:
    write_ply(ball(), "ball.ply")
    Path("own.toml").write_text("[splats]\ngaussians = { says = 'Gaussians', high = 300, required = true }\n")
    result = call("check", "ball.ply", "--criteria", "own.toml")
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.ply"], "there is no file missing.ply"),
        (["."], ". is a folder; give a file"),
        (["box.stl", "--full"], "--full draws splats only"),
        (["box.stl", "--in-up", "y-up"], "leave --in-up out"),
        (["ball.ply", "--prompt", "a red ball"], "give --full"),
        (["ball.ply", "--criteria", "own.toml"], "did you mean 'needles'"),
        (["note.txt"], "choose one of .ply"),
        (["ball.ply", "--criteria", "note.txt"], "note.txt holds no criteria"),
        (["ball.ply", "--criteria", "none.toml"], "none.toml: no such file"),
    ],
)
def test_wrong_use_is_refused(words, message, call) -> None:
    write_ply(ball(), "ball.ply")
    Path("note.txt").write_text("[[")
    Path("own.toml").write_text("[splats]\nneedle = { says = 'needles', high = 0 }\n")
    trimesh.creation.box().export("box.stl")
    result = call("check", *words)
    assert result.exit_code == 2, result.output
    assert message in result.stderr


def test_generate_puts_the_verdict_into_the_manifest_and_says_so(call, small) -> None:
    result = call("generate", "a red mug", "-o", "mug.ply", *small)
    assert result.exit_code == 0, result.output
    verdict = json.loads(Path("mug.run/manifest.json").read_text())["check"]
    assert verdict["passed"] is False
    assert verdict["criteria"]["gaussians"] == {
        "passed": False,
        "value": 30.0,
        "low": 100,
        "high": 5_000_000,
        "required": True,
        "says": "Gaussians",
    }
    assert "it is not in order: its check fails gaussians" in result.stdout
    again = json.loads(call("check", "mug.ply", "--json").stdout)
    assert again["criteria"]["largest"]["value"] == pytest.approx(verdict["criteria"]["largest"]["value"], rel=1e-4)


def test_full_draws_and_judges_by_the_prompt(call) -> None:
    write_ply(ball(), "ball.ply")
    names = [line.split()[1] for line in call("check", "ball.ply", "--full").stdout.splitlines()[:-1]]
    assert names[-7:] == [
        *("empty_views", "saturation", "sharpness", "inconsistency"),
        *("measured", "measured", "measured"),
    ]
    told = json.loads(call("check", "ball.ply", "--full", "--prompt", "a grey ball", "--json").stdout)["criteria"]
    assert told["right_way_up"]["passed"]
    assert told["janus"]["note"] == "what the prompt names has no front"
