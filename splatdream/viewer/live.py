"""A running optimisation in the browser: the splat, the cameras of the step, its numbers, pause and stop."""

import time
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np

from splatdream.cameras import Cameras
from splatdream.export.axes import quaternion
from splatdream.export.html import arrays

if TYPE_CHECKING:
    from splatdream.loop import Step

SHARE = 0.03
"""The part of the loop's time that drawing may take: the next drawing waits until this one is so small a part."""
FRUSTUM = 0.15


class Live:
    """Shows steps on a viser server (`export.html.served`); `address` is where.

    `stopped` is set by the page's button, and heeded by who draws the steps.
    """

    def __init__(self, server: Any, prompt: str) -> None:
        self._server = server
        self.address = f"http://{server.get_host()}:{server.get_port()}"
        self.stopped = False
        self._going = Event()
        self._going.set()
        self._next = 0.0
        self._cloud: Any = None
        server.gui.add_markdown(f"**{prompt}**")
        self._numbers = server.gui.add_markdown("before the first step")
        self._pause = server.gui.add_button("Pause")
        stop = server.gui.add_button("Stop and save")
        self._pause.on_click(lambda event: self.toggle())
        stop.on_click(lambda event: self.stop())

    def toggle(self) -> None:
        """Pauses, or goes on."""
        if self._going.is_set():
            self._going.clear()
            self._pause.label = "Go on"
        else:
            self._going.set()
            self._pause.label = "Pause"

    def stop(self) -> None:
        self.stopped = True
        self._going.set()

    def show(self, step: "Step") -> None:
        """Draws the step when it is time for it, and waits here while the page says pause."""
        begun = time.perf_counter()
        if begun >= self._next or step.index + 1 == step.total:
            self._draw(step)
            now = time.perf_counter()
            self._next = now + (now - begun) / SHARE
        while not self._going.wait(0.1):
            pass

    def _draw(self, step: "Step") -> None:
        timesteps = ", ".join(map(str, step.timesteps))
        with self._server.atomic():
            cloud = arrays(step.state.splats)
            if self._cloud is None:
                self._cloud = self._server.scene.add_gaussian_splats("/splat", **cloud)
            else:
                self._cloud.set_gaussians(**cloud)
            show_cameras(self._server.scene, step.cameras)
            self._numbers.content = (
                f"step {step.index + 1} of {step.total}\n\nt {timesteps}\n\ngradient norm {step.grad_norm:.3g}\n\n"
                f"{step.count:,} Gaussians"
            )


def show_cameras(scene: Any, cameras: Cameras) -> None:
    """A frustum for each camera, in place of those of the step before."""
    for index, position in enumerate(cameras.positions.tolist()):
        to_world = cameras.viewmats[index, :3, :3].T
        focal = float(cameras.Ks[index, 1, 1])
        scene.add_camera_frustum(
            f"/cameras/{index}",
            fov=2 * float(np.arctan(0.5 * cameras.height / focal)),
            aspect=cameras.width / cameras.height,
            scale=FRUSTUM,
            wxyz=quaternion(to_world).numpy(),
            position=np.array(position),
        )
