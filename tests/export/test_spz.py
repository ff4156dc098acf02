""".spz: the bytes of the specification, its older versions, its axes, and files that lie."""

import gzip
import struct
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export.clouds import assert_near, cloud, tolerances
from splatdream.export.axes import turn
from splatdream.export.spz import load_spz, write_spz

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
VERSIONS = pytest.mark.parametrize("version", [3, 4])


def unzipped(path) -> bytes:
    return gzip.decompress(path.read_bytes())


def test_the_bytes_of_version_3_are_those_of_the_specification(tmp_path):
    splats = cloud(2, 1)
    write_spz(splats, tmp_path / "a.spz", sh_bits=(8, 8), antialiased=True)
    content = unzipped(tmp_path / "a.spz")
    up = turn(splats, target="y-up")
    assert struct.unpack_from("<4sIIBBBB", content) == (b"NGSP", 3, 2, 1, 12, 1, 0)
    assert len(content) == 16 + 2 * (9 + 1 + 3 + 3 + 4 + 9)
    places = [int.from_bytes(content[16 + 3 * i : 19 + 3 * i], "little", signed=True) for i in range(6)]
    assert places == (4096 * up.means).round().flatten().tolist()
    assert list(content[34:36]) == (255 * up.opacities).round().tolist()
    assert list(content[36:42]) == (255 * (0.15 * up.sh0 + 0.5)).round().flatten().tolist()
    assert list(content[42:48]) == (16 * (up.log_scales + 10)).round().flatten().tolist()
    # Channels last.
    assert list(content[56:]) == (128 * up.shN + 128).round().flatten().tolist()


@VERSIONS
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_both_versions_hold_the_same(tmp_path, degree, version):
    splats = cloud(300, degree)
    write_spz(splats, tmp_path / "a.spz", version=version, antialiased=version == 4)
    asset = load_spz(tmp_path / "a.spz")
    assert_near(asset.splats, splats, tolerances(".spz", splats))
    assert asset.antialiased == (version == 4)
    write_spz(splats, tmp_path / "b.spz", version=7 - version)
    assert torch.equal(load_spz(tmp_path / "b.spz").splats.shN, asset.splats.shN)


def test_more_bits_make_coefficients_more_exact(tmp_path):
    splats = cloud(50, 3)
    for bits in range(1, 9):
        write_spz(splats, tmp_path / "a.spz", sh_bits=(bits, bits), up="z-up")
        off = (load_spz(tmp_path / "a.spz", up="z-up").splats.shN - splats.shN).abs().max()
        assert off <= 2.0**-bits + 0.5 / 128


def test_a_large_scene_gives_up_bits_behind_the_point(tmp_path):
    splats = cloud(3)
    for factor, bits in ((1000.0, 12), (3000.0, 11), (500_000.0, 4)):
        wide = splats.replace(means=factor * torch.eye(3))
        write_spz(wide, tmp_path / "a.spz")
        assert unzipped(tmp_path / "a.spz")[13] == bits
        torch.testing.assert_close(load_spz(tmp_path / "a.spz").splats.means, wide.means, rtol=0, atol=0.5 / 2**bits)
    with pytest.raises(ValueError, match="lies beyond what"):
        write_spz(splats.replace(means=1e7 * torch.eye(3)), tmp_path / "b.spz")
    assert not (tmp_path / "b.spz").exists()


def older(version: int, splats) -> bytes:
    """A file of version 1 or 2, by the slow and obvious way."""
    head = struct.pack("<4sIIBBBB", b"NGSP", version, len(splats), 0, 12, 0, 0)
    fixed = (4096 * splats.means).round().int().flatten().tolist()
    places = b"".join(number.to_bytes(3, "little", signed=True) for number in fixed)
    if version == 1:
        places = splats.means.numpy().astype("<f2").tobytes()
    quats = splats.quats * splats.quats[:, :1].sign()
    parts = [
        255 * splats.opacities,
        255 * (0.15 * splats.sh0 + 0.5),
        16 * (splats.log_scales + 10),
        127.5 * quats[:, 1:] + 127.5,
    ]
    return gzip.compress(head + places + b"".join(part.round().byte().numpy().tobytes() for part in parts))


@pytest.mark.parametrize("version", [1, 2])
def test_older_versions_are_read(tmp_path, version):
    splats = cloud(50)
    (tmp_path / "a.spz").write_bytes(older(version, turn(splats, target="y-up")))
    # Half a level of 127.5 in three components, more in the fourth where it is small; float16 has eleven bits.
    allowed = tolerances(".spz", splats) | {"quats": 0.12, "means": 2 * 2.0**-11}
    assert_near(load_spz(tmp_path / "a.spz").splats, splats, allowed)


@VERSIONS
@pytest.mark.parametrize(("number", "axes"), [(0, "y-up"), (4, "y-up"), (6, "y-down"), (12, "z-up")])
def test_an_extension_may_tell_other_axes(tmp_path, version, number, axes):
    splats = cloud(20, 2)
    write_spz(splats, tmp_path / "a.spz", version=version, up=axes)
    other = struct.pack("<II5s", 0xADBE0002, 5, b"orbit")
    extend(tmp_path / "a.spz", version, other + struct.pack("<III", 0xADBE0003, 4, number))
    assert_near(load_spz(tmp_path / "a.spz").splats, splats, tolerances(".spz", splats))


def extend(path, version: int, extensions: bytes) -> None:
    """Puts extensions where the version has them."""
    content = bytearray(unzipped(path) if version == 3 else path.read_bytes())
    content[14] |= 2
    if version == 3:
        path.write_bytes(gzip.compress(content + extensions))
    else:
        struct.pack_into("<I", content, 16, 32 + len(extensions))
        path.write_bytes(content[:32] + extensions + content[32:])


@VERSIONS
def test_axes_that_are_not_read_are_told(tmp_path, version):
    write_spz(cloud(2), tmp_path / "a.spz", version=version)
    extend(tmp_path / "a.spz", version, struct.pack("<III", 0xADBE0003, 4, 3))
    with pytest.raises(ValueError, match=r"a\.spz has axes number 3"):
        load_spz(tmp_path / "a.spz")
    assert len(load_spz(tmp_path / "a.spz", up="y-up").splats) == 2


def test_version_4_without_zstandard_names_the_extra(tmp_path, monkeypatch):
    write_spz(cloud(2), tmp_path / "a.spz", version=4)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(ValueError, match=r"pip install 'splatdream\[formats\]'"):
        load_spz(tmp_path / "a.spz")
    with pytest.raises(ValueError, match=r"pip install 'splatdream\[formats\]'"):
        write_spz(cloud(2), tmp_path / "b.spz", version=4)
    assert not (tmp_path / "b.spz").exists()
    write_spz(cloud(2), tmp_path / "b.spz")


@pytest.mark.parametrize(
    ("options", "message"), [({"version": 2}, "choose 3 or 4"), ({"sh_bits": (0, 4)}, "1 to 8 bits")]
)
def test_unknown_options_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        write_spz(cloud(2, 1), tmp_path / "a.spz", **options)
    assert list(tmp_path.iterdir()) == []


@VERSIONS
@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, b"XXXX", "does not begin as one|incorrect header"),
        (4, struct.pack("<I", 9), "of version 9"),
        (8, struct.pack("<I", 2**32 - 1), r"claims to hold|does not fit"),
        (8, struct.pack("<I", 4), r"is no complete \.spz"),
        (12, b"\x04", "of degree 4; 0 to 3 are read"),
        (12, b"\x00", r"is no complete \.spz|longer"),
        (13, b"\xff", "255 of them behind the point"),
        (15, b"\x09", "streams"),
        (16, struct.pack("<I", 2**32 - 1), "streams"),
        (32, struct.pack("<Q", 2**63), "a stream has not the size"),
        (40, struct.pack("<Q", 2**63), "a stream has not the size"),
    ],
)
def test_a_lying_head_is_refused_before_anything_is_allocated(tmp_path, place, value, message, version):
    if version == 3 and (place > 14 or value == b"\x00"):
        pytest.skip("version 3 has no streams, and what is left over may be extensions")
    write_spz(cloud(3, 1), tmp_path / "a.spz", version=version)
    content = bytearray(unzipped(tmp_path / "a.spz") if version == 3 else (tmp_path / "a.spz").read_bytes())
    content[place : place + len(value)] = value
    (tmp_path / "a.spz").write_bytes(gzip.compress(content) if version == 3 else content)
    tracemalloc.start()
    with pytest.raises(ValueError, match=message):
        load_spz(tmp_path / "a.spz")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


def test_a_bomb_is_not_unpacked(tmp_path):
    head = struct.pack("<4sIIBBBB", b"NGSP", 3, 5, 0, 12, 0, 0)
    (tmp_path / "a.spz").write_bytes(gzip.compress(head + bytes(200_000_000), 1))
    tracemalloc.start()
    with pytest.raises(ValueError, match="longer than its header says"):
        load_spz(tmp_path / "a.spz")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[int, bytes]:
    """Version 3 without its gzip, version 4 as it is."""
    path = tmp_path_factory.mktemp("whole") / "a.spz"
    write_spz(cloud(3, 1), path)
    third = unzipped(path)
    write_spz(cloud(3, 1), path, version=4)
    return {3: third, 4: path.read_bytes()}


@VERSIONS
@FUZZ
@given(data=st.data())
def test_wrong_bytes_under_the_checksum_give_a_cloud_or_a_clear_error(tmp_path, whole, version, data):
    content = bytearray(whole[version])
    place = data.draw(st.integers(0, len(content) - 1))
    new = data.draw(st.binary(min_size=1, max_size=8))
    content[place : place + len(new)] = new
    path = tmp_path / "a.spz"
    path.write_bytes(gzip.compress(content, 1) if version == 3 else content)
    try:
        splats = load_spz(path).splats
    except ValueError as error:
        assert "a.spz" in str(error)  # noqa: PT017
    else:
        assert all(value.isfinite().all() for value in splats.parameters().values())


@FUZZ
@given(share=st.floats(0, 1, exclude_max=True))
def test_version_4_cut_anywhere_is_refused(tmp_path, whole, share):
    (tmp_path / "a.spz").write_bytes(whole[4][: int(share * len(whole[4]))])
    with pytest.raises(ValueError, match=r"a\.spz"):
        load_spz(tmp_path / "a.spz")


def test_positions_keep_their_sign_through_24_bits(tmp_path):
    splats = cloud(4).replace(
        means=torch.tensor([[-1, -2, -0.5], [1, 2, 0.5], [0, 0, 0], [-1 / 4096, 1 / 4096, -2047]])
    )
    write_spz(splats, tmp_path / "a.spz", up="z-up")
    np.testing.assert_array_equal(load_spz(tmp_path / "a.spz", up="z-up").splats.means, splats.means)
