"""Sheets and films hold the pictures they are given; the turntable sees the object from where it says."""

import sys
from math import pi

import imageio_ffmpeg
import pytest
import torch
from PIL import Image, ImageSequence

from splatdream.cameras import orbit
from splatdream.render.dense import render
from splatdream.splats import Splats, logit, sh0_from_colours
from splatdream.turntable import PASSES, contact_sheet, turntable, write_gif, write_mp4, write_sheet

COLOURS = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [1.0, 1, 0], [0, 1, 1.0]])


def flat_pictures(count: int = 5, height: int = 8, width: int = 12) -> torch.Tensor:
    return COLOURS[:count, None, None].expand(count, height, width, 3)


def four_sided() -> Splats:
    """Solid blobs, each hiding the one opposite: red in front, green at the left (+x), blue behind, yellow at -x."""
    places = torch.tensor([[0.0, -0.5, 0], [0.5, 0, 0], [0, 0.5, 0], [-0.5, 0, 0]])
    return Splats(
        means=places,
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(4, 1),
        log_scales=torch.full((4, 3), 0.25).log(),
        logit_opacities=logit(torch.full((4,), 0.999)),
        sh0=sh0_from_colours(COLOURS[:4]),
        shN=torch.zeros(4, 0, 3),
    )


def test_a_sheet_shows_every_picture_once_in_reading_order():
    sheet = contact_sheet(flat_pictures(), columns=3, gap=2)
    assert sheet.size == (3 * 12 + 2 * 2, 2 * 8 + 2)
    centres = [sheet.getpixel((14 * (i % 3) + 6, 10 * (i // 3) + 4)) for i in range(6)]
    expected = [tuple(int(255 * value) for value in colour) for colour in COLOURS.tolist()]
    assert centres == [*expected, (255, 255, 255)]
    assert sheet.getpixel((12, 0)) == (255, 255, 255)


def test_values_are_rounded_and_cut_at_the_ends():
    picture = torch.tensor([0.2, 0.5019, 1.7])[None, None, None].expand(1, 1, 1, 3)
    assert contact_sheet(picture).getpixel((0, 0)) == (51, 128, 255)
    assert contact_sheet(-picture).getpixel((0, 0)) == (0, 0, 0)


def test_a_list_and_a_tensor_make_the_same_nearly_square_sheet():
    pictures = flat_pictures()
    assert contact_sheet(pictures).tobytes() == contact_sheet(list(pictures)).tobytes()
    assert contact_sheet(pictures, gap=0).size == (3 * 12, 2 * 8)


def test_a_written_sheet_is_the_sheet(tmp_path):
    write_sheet(flat_pictures(), tmp_path / "sheet.png", columns=2)
    with Image.open(tmp_path / "sheet.png") as read:
        assert read.format == "PNG"
        assert read.convert("RGB").tobytes() == contact_sheet(flat_pictures(), columns=2).tobytes()
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_a_film_has_a_frame_per_picture_in_order_and_lasts_as_long_as_asked(tmp_path):
    write_gif(flat_pictures(), tmp_path / "film.gif", seconds=2.0)
    with Image.open(tmp_path / "film.gif") as film:
        frames = [
            (frame.convert("RGB").getpixel((5, 5)), frame.info["duration"]) for frame in ImageSequence.Iterator(film)
        ]
        assert film.info["loop"] == 0
    assert len(frames) == 5
    assert sum(duration for _, duration in frames) == 2000
    for (seen, _), colour in zip(frames, COLOURS.tolist(), strict=True):
        # A palette of 256 shared by all frames holds these five colours nearly exactly.
        assert seen == pytest.approx([255 * value for value in colour], abs=3)


def test_no_pictures_and_unequal_pictures_are_refused():
    with pytest.raises(ValueError, match="no pictures"):
        contact_sheet([])
    with pytest.raises(ValueError, match="one size"):
        contact_sheet([torch.zeros(2, 2, 3), torch.zeros(2, 3, 3)])


def test_the_first_view_is_the_front_and_the_next_ones_go_round_on_white():
    images = turntable(four_sided(), render, views=4, size=32, elevation=0.0)
    assert images.shape == (4, 32, 32, 3)
    assert orbit(4, 32).azimuths.tolist() == pytest.approx([0, pi / 2, pi, 3 * pi / 2])
    for image, colour in zip(images, COLOURS, strict=False):
        assert (image[16, 16] - colour).abs().max() < 0.1
        assert torch.allclose(image[0, 0], torch.ones(3))


def test_rendering_in_chunks_changes_nothing():
    whole = turntable(four_sided(), render, views=5, size=16, chunk=5)
    assert torch.equal(turntable(four_sided(), render, views=5, size=16, chunk=2), whole)


def test_an_mp4_has_a_frame_per_picture_in_order_and_lasts_as_long_as_asked(tmp_path):
    write_mp4(flat_pictures(height=33, width=48), tmp_path / "film.mp4", seconds=2.0)
    frames = imageio_ffmpeg.read_frames(tmp_path / "film.mp4")
    told = next(frames)
    assert told["source_size"] == (48, 32)
    assert told["duration"] == pytest.approx(2.0, abs=0.1)
    seen = [list(frame[3 * (16 * 48 + 24) :][:3]) for frame in frames]
    assert len(seen) == 5
    for found, colour in zip(seen, COLOURS.tolist(), strict=True):
        # Colours are kept at half the resolution and in fewer levels.
        assert found == pytest.approx([255 * value for value in colour], abs=12)


def test_an_mp4_without_ffmpeg_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ValueError, match=r"pip install 'splatdream\[film\]'"):
        write_mp4(flat_pictures(), tmp_path / "film.mp4")
    assert not list(tmp_path.iterdir())


def one_ball(x: float, y: float) -> Splats:
    return four_sided().take(torch.tensor([0])).replace(means=torch.tensor([[x, y, 0.0]]))


def test_the_alpha_pass_is_white_where_the_object_is_and_black_elsewhere():
    picture = turntable(one_ball(0, 0), render, views=1, size=33, elevation=0.0, shows="alpha")[0]
    assert picture[16, 16].tolist() == pytest.approx([1, 1, 1], abs=0.01)
    assert picture[0, 0].tolist() == [0, 0, 0]


def test_the_depth_pass_is_brighter_by_half_a_unit_for_every_unit_nearer():
    near, far = (
        turntable(one_ball(0, y), render, views=1, size=33, elevation=0.0, shows="depth")[0, 16, 16, 0]
        for y in (-0.5, 0.3)
    )
    assert near.item() == pytest.approx(0.75, abs=0.01)
    assert far.item() == pytest.approx(0.35, abs=0.01)


def test_the_normal_pass_tells_left_from_right_and_up_from_down():
    """A wall that recedes to the right faces right, more red; one that recedes upwards faces up, more green.

    At 45 degrees the normals are (1, 0, 1) / sqrt 2 and (0, 1, 1) / sqrt 2: right, up, near.
    """
    steps = torch.linspace(-0.6, 0.6, 25)
    across, along = (each.flatten() for each in torch.meshgrid(steps, steps, indexing="ij"))
    walls = {"right": torch.stack([across, across, along], 1), "up": torch.stack([along, across, across], 1)}
    seen = {}
    for name, means in walls.items():
        wall = one_ball(0, 0).take(torch.zeros(len(means), dtype=torch.long)).replace(means=means)
        wall = wall.replace(log_scales=torch.full((len(means), 3), 0.03).log())
        seen[name] = turntable(wall, render, views=1, size=64, elevation=0.0, shows="normal")[0, 24:40, 24:40]
    slope = 0.5 * 0.5**0.5
    # The expected depth of blobs wobbles about the plane's; its mean does not.
    assert seen["right"].mean((0, 1)).tolist() == pytest.approx([0.5 + slope, 0.5, 0.5 + slope], abs=0.05)
    assert seen["up"].mean((0, 1)).tolist() == pytest.approx([0.5, 0.5 + slope, 0.5 + slope], abs=0.05)


def test_a_pass_that_is_none_names_those_that_are():
    assert list(PASSES) == ["colour", "depth", "normal", "alpha"]
    with pytest.raises(ValueError, match="did you mean 'normal'"):
        turntable(four_sided(), render, views=1, size=8, shows="normals")
