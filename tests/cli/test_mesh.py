"""`splatdream mesh`: files come out, the splat stays, and wrong use is told in a sentence."""

from pathlib import Path

import pytest
import trimesh
from mesh.bodies import cloud_ball

from splatdream import write_ply
from splatdream_cli import mesh as command

SMALL = ["--faces", "600", "--texture", "128", "--resolution", "32"]


@pytest.fixture
def ball(tmp_path) -> Path:
    write_ply(cloud_ball(800, size=0.07), tmp_path / "ball.ply")
    return tmp_path / "ball.ply"


def test_a_splat_becomes_a_mesh_and_stays_as_it_was(call, ball) -> None:
    before = ball.read_bytes()
    result = call("mesh", "ball.ply", "ball.glb", *SMALL, "--albedo", "auto")
    assert result.exit_code == 0, result.output
    assert "faces, closed, 1 body" in result.stdout
    assert "colours without light: as estimated" in result.stdout
    assert 300 < len(trimesh.load("ball.glb", force="mesh").faces) <= 600
    assert ball.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing.ply", "a.glb"], "there is no file nothing.ply"),
        (["ball.ply", "a.fbx"], "unknown mesh suffix '.fbx': choose one of .glb, .obj, .ply, .stl"),
        (["ball.ply", "ball.ply", "--force"], "ball.ply is the splat itself"),
        (["ball.ply", "link.ply", "--force"], "link.ply is the splat itself"),
        (["ball.ply", "a.obj"], "a.png exists; --force overwrites it"),
        (["ball.ply", "a.glb", "--albedo", "estimate"], "did you mean 'estimated'?"),
        (["ball.ply", "a.glb", "--refine", "3"], "give --prompt"),
        (["ball.ply", "a.glb", "--refine", "3", "--prompt", "a flying pig"], "flying"),
        (["ball.ply", "a.glb", "--up", "x-up"], "unknown axes 'x-up'"),
        (["ball.ply", "a.glb", "--shape"], "give --refine 8"),
        (["ball.ply", "a.glb", "--prompt", "a red mug"], "give --refine 8"),
    ],
)
def test_wrong_use_is_told_before_anything_is_done(words, message, call, ball) -> None:
    Path("a.png").touch()
    Path("link.ply").symlink_to(ball)
    before = ball.read_bytes()
    result = call("mesh", *words)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert ball.read_bytes() == before
    assert sorted(path.name for path in Path().iterdir()) == ["a.png", "ball.ply", "link.ply"]


def test_a_missing_package_is_named_with_what_to_install(call, ball, monkeypatch) -> None:
    monkeypatch.setattr(command, "EXTRA", (*command.EXTRA, "no_such_package"))
    result = call("mesh", "ball.ply", "a.glb")
    assert result.exit_code == 2
    assert "meshes need no_such_package; pip install 'splatdream[mesh]'" in result.stderr


def test_what_is_too_faint_fails_and_leaves_nothing(call, ball) -> None:
    faint = cloud_ball(100)
    write_ply(faint.replace(logit_opacities=faint.logit_opacities - 20), "faint.ply")
    result = call("mesh", "faint.ply", "a.glb")
    assert result.exit_code == 1
    assert "there is nothing to see" in result.stderr
    assert not Path("a.glb").exists()


def test_refinement_asks_the_prior_of_the_run(call, small, tiny) -> None:
    flags = [*small, "--set", "count=300", "--set", "lr_opacities=2.0"]
    assert call("generate", "a red mug", "-o", "mug.ply", *flags).exit_code == 0
    result = call("mesh", "mug.ply", "mug.stl", *SMALL, "--refine", "2")
    assert result.exit_code == 0, result.output
    assert "refining 2/2" in result.stdout
