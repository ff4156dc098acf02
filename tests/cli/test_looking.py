"""`splatdream render` and `splatdream info`: files that exist, files of others, and files that are none."""

from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from splatdream import read_ply, write_ply
from splatdream.init.sphere import Sphere
from splatdream.splats import sh0_from_colours

SMALL = ["--size", "24", "--views", "4", "--renderer", "dense", "--device", "cpu"]


@pytest.fixture
def ball(tmp_path) -> Path:
    """A red ball."""
    cloud = Sphere(opacity=0.9)(60, torch.Generator().manual_seed(0))
    red = sh0_from_colours(torch.tensor([[0.9, 0.1, 0.1]])).repeat(len(cloud), 1, 1)
    write_ply(cloud.replace(sh0=red), tmp_path / "ball.ply")
    return tmp_path / "ball.ply"


def test_a_sheet_shows_the_ball_from_all_sides(call, ball) -> None:
    result = call("render", "ball.ply", *SMALL)
    assert result.exit_code == 0, result.output
    with Image.open("ball.png") as sheet:
        assert sheet.size == (50, 50)
        centres = [sheet.getpixel((x, y)) for x in (12, 38) for y in (12, 38)]
    assert all(red > 150 and green < 100 for red, green, _ in centres)


def test_one_call_writes_a_sheet_and_a_film(call, ball) -> None:
    result = call("render", "ball.ply", "-o", "a.png", "-o", "a.GIF", *SMALL)
    assert result.exit_code == 0, result.output
    with Image.open("a.GIF") as film:
        assert film.n_frames == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.ply"], "there is no file missing.ply"),
        (["."], ". is a folder; give a file"),
        (["ball.ply", "-o", "a.jpg"], "choose one of .png, .gif, .mp4"),
        (["ball.ply", "-o", "no/a.png"], "the folder no does not exist"),
        (["ball.ply", "--renderer", "dnse"], "did you mean 'dense'"),
        (["ball.ply", "--views", "0"], "Invalid value"),
        (["ball.ply", "--pass", "depths"], "did you mean 'depth'"),
    ],
)
def test_wrong_use_of_render_is_refused(words, message, call, ball) -> None:
    result = call("render", *words)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_picture_is_overwritten_by_force_only(call, ball) -> None:
    Path("ball.png").write_text("mine")
    assert call("render", "ball.ply", *SMALL).exit_code == 2
    assert Path("ball.png").read_text() == "mine"
    assert call("render", "ball.ply", *SMALL, "--force").exit_code == 0


def test_info_tells_what_is_in_a_file(call, ball) -> None:
    output = call("info", "ball.ply").stdout
    assert "60, spherical harmonics of degree 0" in output
    assert "0.9  0.9  0.9" in output
    assert "red 0.90  green 0.10  blue 0.10" in output


def test_info_tells_the_prompt_of_a_file_with_its_run_and_no_other(call, small, ball) -> None:
    call("generate", "a red mug", "-o", "mug.ply", *small)
    assert "prompt     a red mug" in call("info", "mug.ply").stdout
    ball.replace("mug.ply")
    assert "a red mug" not in call("info", "mug.ply").stdout


@pytest.mark.parametrize("command", ["info", "render"])
def test_a_file_that_is_no_splat_fails_in_a_sentence(command, call, tmp_path) -> None:
    Path("not.ply").write_bytes(b"ply\nnot really")
    result = call(command, "not.ply")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: not.ply is no complete PLY file")
    assert result.stderr.count("\n") == 1


def test_what_is_not_finite_is_told_and_the_rest_is_seen_on_request(call, ball) -> None:
    Path("ball.ply").write_bytes(ball.read_bytes()[:-4] + b"\xff\xff\xff\xff")
    output = call("info", "ball.ply").stdout
    assert "59, spherical" in output
    assert "1 more, which are not finite" in output
    assert "--drop-invalid" in call("render", "ball.ply", *SMALL).stderr
    drawn = call("render", "ball.ply", *SMALL, "--drop-invalid")
    assert drawn.exit_code == 0, drawn.output
    assert "left out 1 of 60" in drawn.stdout


def test_a_splat_of_another_size_and_place_is_drawn_as_if_it_were_of_ours(call, ball) -> None:
    splats = read_ply(ball)
    write_ply(splats.replace(means=100 * splats.means + 500, log_scales=splats.log_scales + log(100)), "far.ply")
    assert "as if it did" in call("render", "far.ply", *SMALL).stdout
    assert "as if it did" not in call("render", "ball.ply", *SMALL).stdout
    with Image.open("far.png") as far, Image.open("ball.png") as near:
        one, other = (np.asarray(each, float) for each in (far, near))
    # The ball's own radius is a little less than 1.
    assert 0.5 < (one < 200).mean() / (other < 200).mean() < 2


def test_passes_and_films_are_written_by_their_names(call, ball) -> None:
    result = call("render", "ball.ply", "-o", "a.png", "-o", "a.mp4", "--pass", "alpha", *SMALL)
    assert result.exit_code == 0, result.output
    with Image.open("a.png") as sheet:
        assert sheet.getpixel((12, 12)) == (255, 255, 255)
        assert sheet.getpixel((0, 0)) == (0, 0, 0)
    assert Path("a.mp4").read_bytes()[4:8] == b"ftyp"
