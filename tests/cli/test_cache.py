"""`splatdream cache`: where it is, what it holds, and who is told of it."""

import json
from pathlib import Path

from splatdream_cli.cache import use_cache


def test_the_cache_lies_where_the_variable_says_and_is_emptied_on_request(call, tmp_path) -> None:
    kept = tmp_path / "c" / "embeddings" / "ab" / "x.safetensors"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"12345678")
    variables = {"SPLATDREAM_CACHE": str(tmp_path / "c")}
    told = json.loads(call("cache", "info", "--json", **variables).stdout)
    assert told["folder"] == str(tmp_path / "c")
    assert told["kinds"]["embeddings"] == {"files": 1, "bytes": 8}
    assert "8 B in 1 files" in call("cache", "info", **variables).stdout
    refused = call("cache", "clear", **variables)
    assert refused.exit_code == 2
    assert "say --yes" in refused.stderr
    assert kept.exists()
    assert call("cache", "clear", "kernels", "--yes", **variables).exit_code == 0
    assert kept.exists()
    assert "8 B freed" in call("cache", "clear", "--yes", **variables).stdout
    assert not kept.exists()


def test_an_unknown_kind_is_refused_with_the_nearest(call) -> None:
    result = call("cache", "clear", "kernel", "--yes")
    assert result.exit_code == 2
    assert "did you mean 'kernels'" in result.stderr


def test_compilers_and_the_hub_are_told_unless_they_were(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("SPLATDREAM_CACHE", str(tmp_path))
    variables = {"SPLATDREAM_CACHE": str(tmp_path), "TORCH_EXTENSIONS_DIR": "elsewhere"}
    use_cache(variables)
    assert Path(variables["NUMBA_CACHE_DIR"]).parent == tmp_path / "kernels" / "numba"
    assert variables["TORCH_EXTENSIONS_DIR"] == "elsewhere"
    assert variables["HF_HUB_CACHE"] == str(tmp_path / "weights")


def test_models_that_other_programs_share_stay_where_they_are(monkeypatch) -> None:
    monkeypatch.delenv("SPLATDREAM_CACHE", raising=False)
    variables: dict[str, str] = {}
    use_cache(variables)
    assert "HF_HUB_CACHE" not in variables
