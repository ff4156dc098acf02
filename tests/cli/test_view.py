"""`splatdream view` and pages from `splatdream export`: what is served, and what is refused."""

from pathlib import Path
from urllib.request import urlopen

import pytest
import torch

from splatdream import write_ply
from splatdream.init.sphere import Sphere


@pytest.fixture
def visited(monkeypatch) -> list[bytes]:
    """What was at the address while it was shown; the first look ends the show."""
    seen = []

    def look(address: str) -> None:
        assert address.startswith("http://127.0.0.1:")
        seen.append(urlopen(address).read())
        raise KeyboardInterrupt

    monkeypatch.setattr("splatdream_cli.view.webbrowser.open", look)
    return seen


def test_a_splat_is_shown_by_a_page_of_its_own(call, visited) -> None:
    write_ply(Sphere()(40, torch.Generator().manual_seed(0)), "ball.ply")
    result = call("view", "ball.ply")
    assert result.exit_code == 0, result.output
    assert "ball.ply is shown at http://127.0.0.1:" in result.stdout
    assert visited[0].lstrip().lower().startswith(b"<!doctype html>")


def test_an_exported_page_is_shown_as_it_is(call, visited) -> None:
    write_ply(Sphere()(40, torch.Generator().manual_seed(0)), "ball.ply")
    assert call("export", "ball.ply", "ball.html").exit_code == 0
    assert call("view", "ball.html").exit_code == 0
    assert visited == [Path("ball.html").read_bytes()]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.ply"], "there is no file none.ply"),
        (["none.html"], "there is no file none.html"),
        (["none.ply", "--viewer", "vizer"], "did you mean 'viser'"),
        (["ball.ply", "--viewer", "supersplat"], "needs Node"),
    ],
)
def test_wrong_use_is_refused(words, message, call, monkeypatch) -> None:
    monkeypatch.setattr("splatdream_cli.view.shutil.which", lambda name: None)
    write_ply(Sphere()(40, torch.Generator().manual_seed(0)), "ball.ply")
    result = call("view", *words)
    assert result.exit_code == 2
    assert message in result.stderr


def test_live_tells_its_address_and_the_page_can_stop_the_run(call, small, monkeypatch) -> None:
    from splatdream.viewer.live import Live

    show = Live.show

    def stopped_at_the_second(self, step) -> None:
        show(self, step)
        if step.index == 1:
            self.stop()

    monkeypatch.setattr(Live, "show", stopped_at_the_second)
    result = call("generate", "a red mug", "-o", "mug.ply", *small, "--live")
    assert result.exit_code == 130, result.output
    assert "watch it at http://127.0.0.1:" in result.stdout
    assert "stopped by the page after step 2 of 3" in result.stdout
    assert Path("mug.ply").is_file()
    monkeypatch.setattr(Live, "show", show)
    assert call("resume", "mug.run", "--live").exit_code == 0


def test_live_without_viser_is_refused_before_the_run(call, small, monkeypatch) -> None:
    monkeypatch.setattr("splatdream_cli.follow.find_spec", lambda name: None)
    result = call("generate", "a red mug", "-o", "mug.ply", *small, "--live")
    assert result.exit_code == 2
    assert "pip install 'splatdream[viewer]'" in result.stderr
    assert not Path("mug.run").exists()
