"""A headless Chromium with software WebGL, driven through its DevTools, and a folder served to it."""

import base64
import io
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.request import Request, urlopen

import numpy as np
import pytest
from PIL import Image
from websockets.sync.client import connect

FLAGS = ("--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
QUIET = ("--disable-background-networking", "--no-first-run", "--disable-dev-shm-usage", "--hide-scrollbars")


def chromium() -> str:
    """Its path; without one the test is skipped."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("Chromium is not installed")
    return found


def packages(folder: Path, *names: str) -> Path:
    """The folder with these npm packages installed in it; without npm or its registry the test is skipped."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("Node and npm are not installed")
    command = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        pytest.skip(f"npm cannot fetch {', '.join(names)}")
    return folder / "node_modules"


@contextmanager
def folder_served(folder: Path) -> Iterator[str]:
    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class Page:
    """One page of the browser."""

    def __init__(self, address: str) -> None:
        self.socket = connect(address, max_size=None, open_timeout=60)
        self.count = 0
        self.problems: list[str] = []

    def call(self, method: str, **parameters: object) -> dict:
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self.socket.recv(timeout=120))
            if answer.get("method") == "Runtime.exceptionThrown":
                self.problems.append(str(answer["params"]["exceptionDetails"]))
            if answer.get("id") == self.count:
                return answer.get("result", {})

    def evaluate(self, code: str) -> object:
        return self.call("Runtime.evaluate", expression=code, returnByValue=True).get("result", {}).get("value")

    def wait_for(self, code: str, seconds: float = 240.0) -> None:
        end = time.monotonic() + seconds
        while not self.evaluate(code):
            assert time.monotonic() < end, f"{code} did not come true; {self.problems[:1]}"
            time.sleep(0.5)

    def picture(self) -> np.ndarray:
        """What it shows: height x width x 3 in [0, 1]."""
        while not (found := self.call("Page.captureScreenshot", format="png")):  # an error while a page is loading
            time.sleep(0.5)
        data = base64.b64decode(found["data"])
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float32) / 255

    def settled(self, seconds: float = 240.0) -> np.ndarray:
        """What it shows once two looks in a row are the same and not plain."""
        end, before = time.monotonic() + seconds, self.picture()
        while True:
            time.sleep(2.0)
            now = self.picture()
            if now.std() > 0.02 and np.abs(now - before).max() < 0.02:
                return now
            assert time.monotonic() < end, f"it never comes to rest (spread {now.std():.3f}); {self.problems[:1]}"
            before = now


@contextmanager
def opened(address: str, folder: Path, size: int) -> Iterator[Page]:
    """A page of `size` x `size` pixels at an address; the profile lies in `folder`."""
    command = [chromium(), *FLAGS, *QUIET, "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        note, end = folder / "DevToolsActivePort", time.monotonic() + 60
        while not (note.is_file() and note.read_text().count("\n")):
            assert time.monotonic() < end, "Chromium did not start"
            time.sleep(0.2)
        port = note.read_text().splitlines()[0]
        target = json.load(urlopen(Request(f"http://127.0.0.1:{port}/json/new?about:blank", method="PUT"), timeout=60))
        page = Page(target["webSocketDebuggerUrl"])
        page.call("Page.enable")
        page.call("Runtime.enable")
        page.call("Emulation.setDeviceMetricsOverride", width=size, height=size, deviceScaleFactor=1, mobile=False)
        page.call("Page.navigate", url=address)
        yield page
    finally:
        process.terminate()
        process.wait(30)
