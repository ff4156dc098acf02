"""Laws that every format of the catalogue keeps."""

from contextlib import suppress

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export.clouds import assert_near, cloud, differences, in_order_of, perturbed, tolerances
from splatdream.cameras import orbit
from splatdream.catalog import CATALOG
from splatdream.export import input_suffix, output_suffix, read, write
from splatdream.export.axes import turn
from splatdream.render.cpu import render

FORMATS = list(CATALOG["reader"])
TURNING = [".ply", ".compressed.ply", ".splat", ".spz", ".sog"]
"""Those whose files may have any axes."""
HIGHEST = {**dict.fromkeys(FORMATS, 3), ".splat": 0}
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_what_can_be_written_can_be_read():
    assert list(CATALOG["reader"]) == FORMATS


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("a.ply", ".ply"), ("a.b.PLY", ".ply"), ("a.compressed.ply", ".compressed.ply"), ("compressed.ply", ".ply")],
)
def test_the_longest_suffix_decides(name, suffix):
    assert output_suffix(name) == input_suffix(name) == suffix


@pytest.mark.parametrize("name", ["a.pyl", "ply", ".ply", "a.ply.txt"])
def test_an_unknown_suffix_is_refused_with_the_choices(name):
    with pytest.raises(ValueError, match=r"unknown input suffix .*: choose one of \.ply, "):
        input_suffix(name)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_random_cloud_comes_back_within_the_stated_precision(tmp_path, suffix, degree):
    # Several chunks, the last one short.
    splats = cloud(700, degree)
    write(splats, tmp_path / f"a{suffix}")
    back = read(tmp_path / f"a{suffix}").splats
    expected = held(splats, suffix)
    assert_near(in_order_of(back, expected), expected, tolerances(suffix, expected))


def held(splats, suffix):
    """What of a cloud a format has a place for."""
    return splats if splats.sh_degree <= HIGHEST[suffix] else splats.replace(shN=splats.shN[:, :0])


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_picture_of_what_comes_back_is_off_by_what_the_precision_explains(tmp_path, suffix):
    splats = held(cloud(60, 3), suffix)
    write(splats, tmp_path / f"a{suffix}")
    back = in_order_of(read(tmp_path / f"a{suffix}").splats, splats)
    cameras, white = orbit(3, 64), torch.ones(3, 3)
    before, after, noisy = (
        render(each, cameras, white).images for each in (splats, back, perturbed(splats, tolerances(suffix, splats)))
    )
    error, explained = (before - after).square().mean(), (before - noisy).square().mean()
    print(f"{suffix}: PSNR {-10 * error.log10():.1f} dB")
    # Two draws of the same size; a mistaken axis or coefficient is off by a hundred times as much.
    assert error <= 4 * explained + 1e-10


@pytest.mark.parametrize("up", ["y-down", "y-up", "z-up"])
@pytest.mark.parametrize("suffix", TURNING)
def test_a_file_in_other_axes_reads_the_same_when_it_is_told(tmp_path, suffix, up):
    splats = held(cloud(degree=2), suffix)
    write(splats, tmp_path / f"a{suffix}", up=up)
    told, raw = (in_order_of(read(tmp_path / f"a{suffix}", up=axes).splats, like) for axes, like in cases(splats, up))
    allowed = {name: 2 * value for name, value in tolerances(suffix, splats).items()}
    assert_near(told, splats, allowed)
    assert_near(raw, turn(splats, target=up), allowed)


def cases(splats, up):
    """The axes to read in, and the cloud that then comes: read as ours, it is the one that was turned."""
    return [(up, splats), ("z-up", turn(splats, target=up))]


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_empty_cloud_reads_back_empty_or_is_refused(tmp_path, suffix):
    if suffix in (".glb", ".gltf"):
        with pytest.raises(ValueError, match="no place for a cloud of no Gaussians"):
            write(cloud(0, 1), tmp_path / f"a{suffix}")
        return
    write(cloud(0, 1), tmp_path / f"a{suffix}")
    assert len(read(tmp_path / f"a{suffix}").splats) == 0


@pytest.mark.parametrize("suffix", FORMATS)
def test_one_gaussian_comes_back(tmp_path, suffix):
    splats = held(cloud(1, 1), suffix)
    write(splats, tmp_path / f"a{suffix}")
    assert_near(read(tmp_path / f"a{suffix}").splats, splats, tolerances(suffix, splats))


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_cloud_that_is_not_finite_is_not_written(tmp_path, suffix):
    splats = cloud(5, 1)
    splats.shN[2, 1, 1] = float("nan")
    splats.means[4, 0] = float("inf")
    with pytest.raises(ValueError, match="2 of 5 Gaussians are not finite; nothing was written"):
        write(splats, tmp_path / f"a{suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_no_float32_can_say_is_refused_or_comes_back_finite(tmp_path, suffix):
    splats = cloud(300, 1)
    splats.log_scales[0, 1], splats.log_scales[1, 1] = 100.0, -200.0
    path = tmp_path / f"a{suffix}"
    if suffix in (".splat", ".glb", ".gltf"):
        with pytest.raises(ValueError, match="1 of 300 Gaussians are larger than float32 can say; nothing was written"):
            write(splats, path)
        assert not path.exists()
        return
    write(splats, path)
    assert len(read(path).splats) == 300


@pytest.mark.parametrize("suffix", [".ply", ".compressed.ply", ".splat", ".sog", ".glb"])
def test_places_at_the_ends_of_float32_come_back(tmp_path, suffix):
    splats = cloud(300)
    splats.means[0], splats.means[1] = 3e38, -3e38
    write(splats, tmp_path / f"a{suffix}")
    back = read(tmp_path / f"a{suffix}").splats.means
    # The coarsest has 10 bits in y and 3 of 300 are enough to tell.
    assert back.amax(0).tolist() == pytest.approx([3e38] * 3, rel=1e-2)
    assert back.amin(0).tolist() == pytest.approx([-3e38] * 3, rel=1e-2)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_folder_that_is_missing_is_named(tmp_path, suffix):
    with pytest.raises(OSError, match="nowhere does not exist"):
        write(cloud(2), tmp_path / "nowhere" / f"a{suffix}")


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_cloud_is_not_changed_by_writing_it(tmp_path, suffix):
    splats = cloud(300, 2)
    splats = splats.replace(quats=3 * splats.quats).requires_grad()
    copy = splats.map(lambda value: value.detach().clone())
    write(splats, tmp_path / f"a{suffix}")
    assert all(off.max() == 0 for off in differences(splats.detach(), copy).values())


@pytest.mark.parametrize("suffix", FORMATS)
def test_opaque_invisible_flat_and_unrotated_gaussians_come_back_so(tmp_path, suffix):
    splats = cloud(6, 0)
    splats.logit_opacities[:2] = torch.tensor([60.0, -60.0])
    splats.quats[2:4] = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 1.0]])
    splats.log_scales[4, 1] = -6.0
    write(splats, tmp_path / f"a{suffix}")
    back = in_order_of(read(tmp_path / f"a{suffix}").splats, splats)
    assert_near(back, splats, tolerances(suffix, splats))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    """A small file of every format."""
    folder = tmp_path_factory.mktemp("whole")
    for suffix in FORMATS:
        write(cloud(3, 1), folder / f"a{suffix}")
    return {suffix: (folder / f"a{suffix}").read_bytes() for suffix in FORMATS}


@pytest.mark.parametrize("suffix", FORMATS)
@FUZZ
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_refused(tmp_path, whole, suffix, share):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(whole[suffix][: int(share * len(whole[suffix]))])
    if suffix == ".splat" and path.stat().st_size % 32 == 0:
        # Without a header nobody can tell.
        assert len(read(path).splats) == path.stat().st_size / 32
        return
    with pytest.raises(ValueError, match=f"a{suffix}"):
        read(path)


@pytest.mark.parametrize("suffix", FORMATS)
@FUZZ
@given(
    place=st.floats(0, 1, exclude_max=True),
    new=st.one_of(st.binary(min_size=1, max_size=1), st.binary(min_size=4, max_size=8)),
)
def test_wrong_bytes_give_a_cloud_or_a_clear_error_and_nothing_else(tmp_path, whole, suffix, place, new):
    path = tmp_path / f"a{suffix}"
    content = bytearray(whole[suffix])
    start = int(place * len(content))
    content[start : start + len(new)] = new
    path.write_bytes(content)
    check_reading(path)


@pytest.mark.parametrize("suffix", FORMATS)
@FUZZ
@given(content=st.binary(max_size=200), kept=st.integers(0, 40))
def test_a_right_beginning_and_then_noise_gives_a_clear_error_too(tmp_path, whole, suffix, content, kept):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(whole[suffix][:kept] + content)
    check_reading(path)


def check_reading(path):
    """Either a finite cloud, or a ValueError that names the file, and no other exception."""
    with suppress(ValueError):
        splats = read(path).splats
        assert all(value.isfinite().all() for value in splats.parameters().values())
        return
    with pytest.raises(ValueError, match=path.name):
        read(path)
