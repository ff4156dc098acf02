"""Sheets and films hold the pictures they are given; the turntable sees the object from where it says."""

from math import pi

import pytest
import torch
from PIL import Image, ImageSequence

from splatdream.cameras import orbit
from splatdream.render.dense import render
from splatdream.splats import Splats, logit, sh0_from_colours
from splatdream.turntable import contact_sheet, turntable, write_gif, write_sheet

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
