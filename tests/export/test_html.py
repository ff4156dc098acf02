"""Pages: what is inside, that nothing outside is asked for, and what is said without viser."""

import re
import sys

import pytest

from export.clouds import cloud
from splatdream.export import write
from splatdream.export.html import arrays
from splatdream.splats import colours_from_sh0


def test_a_page_is_one_file_that_loads_nothing(tmp_path) -> None:
    write(cloud(50), tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text()
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=[\"']?(?!data:)[^\"'> ]+", page)
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]


def test_a_larger_cloud_makes_a_larger_page(tmp_path) -> None:
    for count in (10, 20_000):
        write(cloud(count), tmp_path / f"{count}.html")
    # 32 bytes a Gaussian; random ones hardly pack.
    assert (tmp_path / "20000.html").stat().st_size - (tmp_path / "10.html").stat().st_size > 16 * 20_000


def test_the_viewer_is_given_the_gaussians_as_they_are() -> None:
    splats = cloud(20)
    given = arrays(splats)
    for n in range(20):
        axes = splats.rotations[n].numpy()
        expected = axes @ (splats.scales[n].diag().numpy() ** 2) @ axes.T
        assert given["covariances"][n] == pytest.approx(expected, abs=1e-5)
    assert given["rgbs"] == pytest.approx(colours_from_sh0(splats.sh0).clamp(0, 1).numpy())
    assert given["opacities"][:, 0] == pytest.approx(splats.opacities.numpy())


def test_without_viser_the_error_says_what_to_install(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(ValueError, match=r"pip install 'splatdream\[viewer\]'"):
        write(cloud(5), tmp_path / "a.html")
    assert not list(tmp_path.iterdir())
