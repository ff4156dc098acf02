"""`splatdream export`, and every format behind `generate -o`, `render` and `info`."""

from pathlib import Path

import pytest
import torch

from splatdream import read_ply, write_ply
from splatdream.catalog import CATALOG
from splatdream.export import read
from splatdream.export.ply import load_ply
from splatdream.init.sphere import Sphere

FORMATS = list(CATALOG["reader"])


@pytest.fixture
def ball(tmp_path) -> Path:
    write_ply(Sphere(opacity=0.9)(60, torch.Generator().manual_seed(0)), tmp_path / "ball.ply")
    return tmp_path / "ball.ply"


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_splat_goes_to_every_format_and_back(suffix, call, ball) -> None:
    there = call("export", "ball.ply", f"there{suffix}")
    assert there.exit_code == 0, there.output
    assert f"there{suffix}: 60 Gaussians of degree 0, " in there.stdout
    assert CATALOG["exporter"][suffix].summary in there.stdout
    assert call("export", f"there{suffix}", "back.ply").exit_code == 0
    # The coarsest format has 1/512 of the ball's two radii.
    places, original = read_ply("back.ply").means, read_ply("ball.ply").means
    assert torch.cdist(original, places).amin(1).max() < 0.01


@pytest.mark.parametrize("suffix", FORMATS)
def test_generate_writes_and_info_and_render_read_every_format(suffix, call, small) -> None:
    result = call("generate", "a red mug", "-o", f"mug{suffix}", *small)
    assert result.exit_code == 0, result.output
    output = call("info", f"mug{suffix}").stdout
    assert "30, spherical harmonics of degree 0" in output
    assert "prompt     a red mug" in output
    drawn = call("render", f"mug{suffix}", "-o", "mug.png", "--size", "8", "--views", "1", "--renderer", "dense")
    assert drawn.exit_code == 0, drawn.output
    cited = call("cite", str(next(Path().glob("*.run"))))
    assert cited.exit_code == 0, cited.output


def test_axes_are_written_and_read_as_told(call, ball) -> None:
    assert call("export", "ball.ply", "up.ply", "--up", "y-up").exit_code == 0
    assert b"comment Vertical axis: 0 1 0" in Path("up.ply").read_bytes()
    torch.testing.assert_close(read_ply("up.ply").means, read_ply("ball.ply").means)
    assert call("export", "up.ply", "raw.ply", "--in-up", "z-up", "--up", "z-up").exit_code == 0
    torch.testing.assert_close(read_ply("raw.ply", up="y-up").means, read_ply("ball.ply").means)


def test_options_of_a_format_are_set_by_name(call, ball) -> None:
    assert call("export", "ball.ply", "short.ply", "--set", "rest=no").exit_code == 0
    assert b"f_rest" not in Path("short.ply").read_bytes()


def test_that_a_cloud_is_antialiased_goes_along_and_is_told(call, ball) -> None:
    write_ply(read_ply("ball.ply"), "mip.ply", antialiased=True)
    assert "rendering  antialiased" in call("info", "mip.ply").stdout
    assert call("export", "mip.ply", "b.compressed.ply").exit_code == 0
    assert read("b.compressed.ply").antialiased
    assert call("export", "mip.ply", "c.ply", "--set", "antialiased=no").exit_code == 0
    assert not load_ply("c.ply").antialiased
    assert "antialiasing, which .splat cannot tell" in call("export", "mip.ply", "d.splat").stdout


def test_broken_rows_are_left_out_on_request_only(call, ball) -> None:
    content = Path("ball.ply").read_bytes()
    Path("ball.ply").write_bytes(content[:-4] + b"\xff\xff\xff\xff")
    refused = call("export", "ball.ply", "b.ply")
    assert refused.exit_code == 1
    assert "1 of 60 rows are not finite" in refused.stderr
    assert "--drop-invalid" in refused.stderr
    assert call("export", "ball.ply", "b.ply", "--drop-invalid").exit_code == 0
    assert len(read_ply("b.ply")) == 59
    assert "ball.ply: left out 1 of 60, not finite" in call("export", "ball.ply", "c.ply", "--drop-invalid").stdout


def test_what_a_format_has_no_place_for_is_told(call, ball) -> None:
    splats = read_ply("ball.ply")
    write_ply(splats.replace(shN=torch.ones(len(splats), 8, 3)), "shiny.ply")
    said = call("export", "shiny.ply", "a.splat").stdout
    assert "60 Gaussians of degree 0" in said
    assert "colours of degree 2, which .splat has no place for" in said
    assert "no place" not in call("export", "shiny.ply", "a.spz").stdout


@pytest.mark.parametrize(
    "command", [["info"], ["check"], ["render", "-o", "a.png", "--size", "8", "--renderer", "dense"]]
)
def test_axes_that_a_file_tells_and_nobody_knows_are_told_by_hand(command, call, ball) -> None:
    Path("ball.ply").write_bytes(ball.read_bytes().replace(b"axis: y", b"axis: x"))
    refused = call(*command, "ball.ply")
    assert refused.exit_code == 1
    assert "--in-up" in refused.stderr
    assert call(*command, "ball.ply", "--in-up", "z-up").stderr == ""
    assert "did you mean 'z-up'" in call(*command, "ball.ply", "--in-up", "zup").stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ball.ply", "b.pyl"], "unknown output suffix '.pyl'"),
        (["ball.ply", "no/b.ply"], "the folder no does not exist"),
        (["ball.ply", "ball.ply"], "--force overwrites it"),
        (["none.ply", "b.ply"], "there is no file none.ply"),
        (["notes.txt", "b.ply"], "unknown input suffix '.txt'"),
        (["ball.ply", "b.ply", "--up", "ydown"], "did you mean 'y-down'"),
        (["ball.ply", "b.ply", "--in-up", "x"], "unknown axes 'x'"),
        (["ball.ply", "b.glb", "--up", "z-up"], ".glb is written in one way only, without the option 'up'"),
        (["ball.ply", "b.ply", "--set", "rset=no"], "did you mean 'rest'"),
        (["ball.ply", "b.ply", "--set", "rest"], "--set rest=VALUE"),
        (["ball.ply", "b.ply", "--set", "rest=maybe"], "rest is a bool"),
    ],
)
def test_wrong_use_of_export_is_refused(words, message, call, ball) -> None:
    Path("notes.txt").write_text("mine")
    before = ball.read_bytes()
    result = call("export", *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert ball.read_bytes() == before
    assert not Path("b.ply").exists()
