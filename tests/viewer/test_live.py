"""A run shown as it goes: what the page is given, pause and stop, and that it never takes much of the loop's time."""

import time
from math import degrees
from threading import Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from export.clouds import cloud

from splatdream.cameras import orbit
from splatdream.export.html import served
from splatdream.viewer.live import SHARE, Live, show_cameras


def step(index: int = 0, count: int = 50, total: int = 400) -> Any:
    return SimpleNamespace(
        index=index,
        total=total,
        grad_norm=1.25,
        count=count,
        timesteps=[700, 320],
        cameras=orbit(2, 32),
        state=SimpleNamespace(splats=cloud(count)),
    )


@pytest.fixture
def server():
    with served() as server:
        yield server


def test_a_server_is_this_machines_alone(server) -> None:
    assert server.get_host() == "127.0.0.1"


def test_the_page_shows_the_splat_the_cameras_and_the_numbers(server) -> None:
    live = Live(server, "a red mug")
    live.show(step(9))
    shown = server.scene.get_handle_by_name("/splat")
    assert shown.centers == pytest.approx(cloud(50).means.numpy())
    for word in ("step 10 of 400", "t 700, 320", "gradient norm 1.25", "50 Gaussians"):
        assert word in live._numbers.content


def test_frusta_stand_where_the_cameras_stand_and_look_where_they_look(server) -> None:
    cameras = orbit(3, 32)
    show_cameras(server.scene, cameras)
    for index in range(3):
        frustum = server.scene.get_handle_by_name(f"/cameras/{index}")
        assert frustum.position == pytest.approx(cameras.positions[index].numpy(), abs=1e-6)
        w, x, y, z = frustum.wxyz
        forward = np.array([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)])
        assert forward == pytest.approx(cameras.viewmats[index, 2, :3].numpy(), abs=1e-5)
        assert degrees(frustum.fov) == pytest.approx(40)


def test_a_cloud_that_grows_is_shown_whole(server) -> None:
    live = Live(server, "a red mug")
    live.show(step(0, 50))
    live.show(step(399, 80))
    assert len(server.scene.get_handle_by_name("/splat").centers) == 80


def test_pause_holds_the_loop_until_it_may_go_on(server) -> None:
    live = Live(server, "a red mug")
    live.toggle()
    assert live._pause.label == "Go on"
    loop = Thread(target=live.show, args=(step(),))
    loop.start()
    loop.join(0.5)
    assert loop.is_alive()
    live.toggle()
    loop.join(5)
    assert not loop.is_alive()
    assert live._pause.label == "Pause"


def test_stop_ends_a_pause(server) -> None:
    live = Live(server, "a red mug")
    live.toggle()
    live.stop()
    live.show(step())
    assert live.stopped


def test_drawing_takes_a_small_part_of_the_loop_however_short_its_steps(server) -> None:
    live, spent = Live(server, "a red mug"), 0.0
    live.show(step(count=20_000))  # the first one is drawn whenever it comes
    begun, shown = time.perf_counter(), step(1, count=20_000)
    while time.perf_counter() - begun < 2.0:
        before = time.perf_counter()
        live.show(shown)
        spent += time.perf_counter() - before
        time.sleep(0.005)
    # One drawing more may fall into the end of so short a time.
    assert spent / 2.0 < SHARE + 0.05
