"""The README's example runs as it stands, only shorter."""

from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_python_example_runs_and_writes_its_file(tmp_path, monkeypatch, capsys) -> None:
    code = README.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    assert "steps=100" in code
    monkeypatch.chdir(tmp_path)
    exec(compile(code.replace("steps=100", "steps=2, count=100, views=1"), "README.md", "exec"), {})
    assert "0/2  residual" in capsys.readouterr().out
    assert (tmp_path / "mushroom.ply").stat().st_size > 100 * 62 * 4


def test_the_two_lines_stand_at_the_top() -> None:
    top = README.read_text(encoding="utf-8")[:700]
    assert 'pip install . && splatdream generate "a snowman with a red hat" -o snowman.ply' in top
    assert "pip install '.[dev]' && pytest" in top
