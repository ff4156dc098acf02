"""`splatdream list`, `words`, `cite` and --help: complete, quick, and without torch."""

import subprocess
import sys
import time

import pytest

from splatdream.catalog import CATALOG

WITHOUT_TORCH = """
import sys
from splatdream_cli.main import app
try:
    app(sys.argv[1:])
finally:
    heavy = {"torch", "numpy", "diffusers", "transformers", "numba", "gsplat"} & set(sys.modules)
    assert not heavy, heavy
"""


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *words], capture_output=True, text=True)


@pytest.mark.parametrize("words", [["--help"], ["generate", "--help"], ["list"], ["cite"], ["--version"]])
def test_what_needs_no_torch_loads_none(words) -> None:
    result = run(*words)
    assert result.returncode == 0, result.stderr
    assert result.stdout


def test_help_answers_at_once() -> None:
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-m", "splatdream_cli.main", "--help"], check=True, capture_output=True)
        times.append(time.perf_counter() - begun)
    # Half a second is the aim; test machines are busy.
    assert min(times) < 1.0, times


def test_list_names_every_part_and_its_paper(call) -> None:
    output = call("list").stdout
    for kind, parts in CATALOG.items():
        assert f"{kind}\n" in output
        for name, part in parts.items():
            assert f"  {name} " in output
            assert part.summary in output
            assert part.paper in output


def test_list_of_one_kind_names_no_other(call) -> None:
    output = call("list", "densifier").stdout
    assert "mcmc" in output
    assert "sds" not in output
    wrong = call("list", "densifer")
    assert wrong.exit_code == 2
    assert "did you mean 'densifier'" in wrong.stderr


def test_cite_gives_each_paper_once(call) -> None:
    lines = call("cite").stdout.splitlines()
    papers = {part.paper for parts in CATALOG.values() for part in parts.values() if part.paper}
    assert sorted(line for line in lines if not line.startswith("  ")) == sorted(papers)


def test_cite_gives_the_papers_of_parts(call) -> None:
    output = call("cite", "mcmc").stdout
    assert output.startswith(CATALOG["densifier"]["mcmc"].paper)
    assert len(output.splitlines()) == 2
    wrong = call("cite", "mcmcm")
    assert wrong.exit_code == 2
    assert "did you mean 'mcmc'" in wrong.stderr


def test_cite_gives_the_papers_behind_a_run(call, small) -> None:
    call("generate", "a red mug", "-o", "mug.ply", *small)
    output = call("cite", "mug.run").stdout
    assert "distiller sdedit" in output
    assert "renderer dense, exporter .ply" in output
    assert "gsplat" not in output


def test_words_come_one_a_line_into_a_pipe(call, tiny, monkeypatch) -> None:
    monkeypatch.setattr("splatdream.priors.words.builtin_folder", lambda: tiny)
    words = call("words").stdout.splitlines()
    assert words == sorted(words)
    assert {"snowman", "red", "mug"} <= set(words)
    assert not any("<" in word for word in words)


def test_a_missing_builtin_prior_is_told_in_a_sentence(call, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("splatdream.priors.words.builtin_folder", lambda: tmp_path / "nothing")
    result = call("words")
    assert result.exit_code == 1
    assert result.stderr == f"error: there is no prior in {tmp_path / 'nothing'}: it has no tokenizer\n"
