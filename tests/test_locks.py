"""Locks: one at a time, those who wait go on, and nothing is left by the dead."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from splatdream.locks import alone

HOLD = """
import sys, time
from pathlib import Path
from splatdream.locks import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def holder(path: Path, seconds: float) -> subprocess.Popen:
    words = [sys.executable, "-c", HOLD, str(path), str(seconds)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_waits_for_the_first_and_says_so_once(tmp_path) -> None:
    process = holder(tmp_path / "deep" / "a.lock", 0.5)
    said = []
    with alone(tmp_path / "deep" / "a.lock", waiting=lambda: said.append("waits")):
        assert process.wait(timeout=10) == 0
    assert said == ["waits"]


def test_a_lock_dies_with_its_process(tmp_path) -> None:
    process = holder(tmp_path / "a.lock", 60)
    process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    process.communicate()
    begun = time.monotonic()
    with alone(tmp_path / "a.lock"):
        assert time.monotonic() - begun < 10


def test_an_error_inside_frees_the_lock(tmp_path) -> None:
    for _ in range(2):
        try:
            with alone(tmp_path / "a.lock", waiting=lambda: (_ for _ in ()).throw(AssertionError("still held"))):
                raise ValueError("inside")
        except ValueError:
            pass
