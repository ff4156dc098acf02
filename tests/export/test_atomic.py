"""A file appears whole or not at all."""

import os
import stat

import pytest

from splatdream.export.atomic import atomic_write, sweep


def test_the_file_appears_only_when_the_block_has_ended(tmp_path):
    target = tmp_path / "asset.ply"
    with atomic_write(target) as file:
        file.write(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("interruption", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, interruption):
    target = tmp_path / "asset.ply"
    target.write_bytes(b"old")

    def write_half():
        with atomic_write(target) as file:
            file.write(b"half of the n")
            raise interruption

    with pytest.raises(interruption):
        write_half()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_target_that_cannot_be_replaced_leaves_no_litter(tmp_path):
    (tmp_path / "folder").mkdir()
    # The system's own error: a folder on Linux, denied access on Windows.
    with pytest.raises((IsADirectoryError, PermissionError)), atomic_write(tmp_path / "folder") as file:
        file.write(b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.skipif(os.name == "nt", reason="Windows does not give links to everybody")
def test_what_the_killed_have_left_is_swept_away_where_a_link_leads(tmp_path):
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "a[1].ply", tmp_path / "link.ply"
    target.touch()
    link.symlink_to(target)
    half = target.with_name(".a[1].ply.0a1b.tmp")
    others = [target.with_name(".a1.ply.0a1b.tmp"), tmp_path / ".link.ply.0a1b.tmp"]
    for path in (half, *others):
        path.touch()
    sweep(link)
    assert not half.exists()
    assert target.exists()
    assert all(path.exists() for path in others)


def test_a_missing_folder_is_named(tmp_path):
    missing = pytest.raises(FileNotFoundError, match=r"the folder .*nowhere does not exist")
    with missing, atomic_write(tmp_path / "nowhere" / "asset.ply"):
        pass


@pytest.mark.skipif(os.name == "nt", reason="Windows has neither these permissions nor links for everybody")
def test_permissions_are_those_of_any_new_file_and_a_link_stays_a_link(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with atomic_write(tmp_path / "link") as file:
        file.write(b"new")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "target")]
    assert modes[0] == modes[1]
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"
