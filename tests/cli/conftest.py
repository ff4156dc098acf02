"""One tiny prior for all tests of the command line, and a way to call it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import tiny_prior_folder
from typer.testing import CliRunner, Result

from splatdream_cli.main import app

PLAIN: dict[str, str | None] = {"FORCE_COLOR": None, "TTY_COMPATIBLE": None, "SPLATDREAM_DEBUG": None, "NO_COLOR": "1"}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_prior_folder(tmp_path_factory.mktemp("prior") / "tiny")


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `splatdream` with these words and variables in an empty folder, its output as a pipe would see it."""
    monkeypatch.chdir(tmp_path)
    return lambda *words, **variables: CliRunner(env=PLAIN | variables).invoke(app, words)


@pytest.fixture
def small(tiny: Path) -> list[str]:
    """Flags for a run of a fraction of a second."""
    flags = ["--prior", str(tiny), "--renderer", "dense", "--device", "cpu", "--steps", "3"]
    return [*flags, "--set", "views=2", "--set", "count=30"]
