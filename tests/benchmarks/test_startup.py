"""What Python says of its imports is read aright, and a command that fails is no quick one."""

import subprocess
import sys

import pytest
import startup

PRINTED = """import time: self [us] | cumulative | imported package
import time:       100 |        100 |   splatdream.catalog
import time:        50 |        150 | splatdream
something else
import time:      2000 |       2000 |     torch._C
import time:      3000 |       5000 | torch
"""


def test_imports_are_summed_by_package_the_costliest_first() -> None:
    packages = startup.by_package(startup.parsed(PRINTED))
    assert list(packages) == ["torch", "splatdream"]
    assert packages == pytest.approx({"torch": 0.005, "splatdream": 0.00015})


def test_the_library_itself_loads_neither_torch_nor_numpy() -> None:
    assert not {"torch", "numpy"} & startup.by_package(startup.imports("import splatdream")).keys()


def test_a_command_that_fails_is_not_timed(tmp_path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        startup.seconds((sys.executable, "-c", "raise SystemExit(1)"), tmp_path)


def test_the_first_run_of_a_command_is_the_cold_one(tmp_path) -> None:
    """It leaves something in the cache that the later ones find."""
    script = "import os, pathlib, time; p = pathlib.Path(os.environ['SPLATDREAM_CACHE']) / 'x'; "
    script += "p.exists() or time.sleep(0.5); p.touch()"
    asked = []
    found = startup.cold_and_warm((sys.executable, "-c", script), 3, lambda: asked.append(1) or True)
    assert len(asked) == 1
    assert found["cold"] >= 0.5
