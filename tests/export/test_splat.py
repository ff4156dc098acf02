""".splat: 32 bytes a Gaussian, in the order and the encoding of the viewer that it comes from."""

import struct

import pytest
import torch

from export.clouds import cloud
from splatdream.export.axes import turn
from splatdream.export.splat import load_splat, write_splat
from splatdream.splats import SH_C0, sh0_from_colours


def test_the_bytes_are_those_of_the_original_viewer(tmp_path):
    splats = cloud(5)
    write_splat(splats, tmp_path / "a.splat")
    content = (tmp_path / "a.splat").read_bytes()
    assert len(content) == 5 * 32
    down = turn(splats, target="y-down")
    covered = [(down.scales[row].prod() * down.opacities[row]).item() for row in range(5)]
    for place, row in enumerate(sorted(range(5), key=lambda row: -covered[row])):
        *numbers, red, green, blue, alpha, w, x, y, z = struct.unpack_from("<6f8B", content, 32 * place)
        assert numbers[:3] == down.means[row].tolist()
        torch.testing.assert_close(torch.tensor(numbers[3:]), down.scales[row])
        colours = (255 * (0.5 + SH_C0 * down.sh0[row, 0])).round().tolist()
        assert [red, green, blue] == colours
        assert alpha == round(255 * down.opacities[row].item())
        quat = torch.nn.functional.normalize(torch.tensor([w - 128.0, x - 128, y - 128, z - 128]), dim=0)
        # Either sign is the same rotation.
        assert abs((quat * down.quats[row]).sum().item()) >= 1 - 4 / 256**2


def test_an_unturned_quaternion_is_exact_though_one_has_no_byte(tmp_path):
    splats = cloud(1).replace(quats=torch.tensor([[1.0, 0, 0, 0]]))
    write_splat(splats, tmp_path / "a.splat", up="z-up")
    assert (tmp_path / "a.splat").read_bytes()[-4:] == bytes([0, 128, 128, 128])


def test_colours_outside_are_cut_off(tmp_path):
    splats = cloud(1).replace(sh0=sh0_from_colours(torch.tensor([[-0.4, 0.5, 1.7]])))
    write_splat(splats, tmp_path / "a.splat")
    assert list((tmp_path / "a.splat").read_bytes()[24:27]) == [0, 128, 255]


def test_a_scale_of_zero_is_flat_and_a_negative_one_is_refused(tmp_path):
    write_splat(cloud(2), tmp_path / "a.splat")
    content = bytearray((tmp_path / "a.splat").read_bytes())
    struct.pack_into("<f", content, 12, 0.0)
    (tmp_path / "a.splat").write_bytes(content)
    assert load_splat(tmp_path / "a.splat").splats.scales.min() < 1e-37
    struct.pack_into("<f", content, 32 + 16, -1.0)
    (tmp_path / "a.splat").write_bytes(content)
    with pytest.raises(ValueError, match="1 of 2 rows are not finite"):
        load_splat(tmp_path / "a.splat")
    assert len(load_splat(tmp_path / "a.splat", drop_invalid=True).splats) == 1


def test_a_length_between_two_rows_is_refused(tmp_path):
    (tmp_path / "a.splat").write_bytes(bytes(33))
    with pytest.raises(ValueError, match=r"33 bytes are no multiple of 32"):
        load_splat(tmp_path / "a.splat")
