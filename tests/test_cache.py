"""The cache: what it keeps comes back bit for bit, damage is noticed, and clearing hurts nobody."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from splatdream import cache

ANSWER = torch.randn(1, 7, 5, generator=torch.Generator().manual_seed(0))

OTHER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_cache import writes_reads_and_clears
print(writes_reads_and_clears(Path(sys.argv[1])))
"""


def writes_reads_and_clears(folder: Path) -> bool:
    """Whether every answer was right."""
    right = True
    for turn in range(30):
        for key in range(5):
            answer = torch.full((1, 500, 4), float(key))
            right &= torch.equal(kept(folder, ["question", str(key)], answer), answer)
        if turn % 7 == 3:
            cache.clear(folder, ["embeddings"])
    return right


def kept(folder: Path, question: list[str], answer: torch.Tensor) -> torch.Tensor:
    return cache.embedding(folder, question, lambda: {"tokens": answer})["tokens"]


def never() -> dict[str, torch.Tensor]:
    raise AssertionError("computed although it was kept")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_answer_is_computed_once_and_comes_back_bit_for_bit(dtype, tmp_path) -> None:
    said = {"tokens": ANSWER.to(dtype), "pooled": ANSWER[0, 0].to(dtype)}
    first = cache.embedding(tmp_path, ["a question"], lambda: said)
    again = cache.embedding(tmp_path, ["a question"], never)
    assert again.keys() == first.keys() == said.keys()
    for name, value in said.items():
        assert again[name].dtype == dtype
        assert torch.equal(again[name], value)


def test_another_question_has_another_answer(tmp_path) -> None:
    assert torch.equal(kept(tmp_path, ["a", "bc"], ANSWER), ANSWER)
    assert torch.equal(kept(tmp_path, ["ab", "c"], ANSWER + 1), ANSWER + 1)


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied"])
def test_a_damaged_answer_is_computed_anew(damage, tmp_path) -> None:
    kept(tmp_path, ["a question"], ANSWER)
    (path,) = (tmp_path / "embeddings").rglob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes({"cut": bytes(content[:-9]), "flipped": bytes(content), "emptied": b""}[damage])
    assert torch.equal(kept(tmp_path, ["a question"], ANSWER), ANSWER)
    assert torch.equal(cache.embedding(tmp_path, ["a question"], never)["tokens"], ANSWER)


def test_where_nothing_can_be_written_the_answer_is_still_given(tmp_path) -> None:
    (tmp_path / "embeddings").write_text("a file where the folder should be")
    assert torch.equal(kept(tmp_path, ["a question"], ANSWER), ANSWER)


def test_processes_that_write_read_and_clear_at_once_see_only_whole_answers(tmp_path) -> None:
    words = [sys.executable, "-c", OTHER, str(tmp_path), str(Path(__file__).parent)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as other:
        while other.poll() is None:
            assert writes_reads_and_clears(tmp_path)
        assert other.communicate()[0] == "True\n"


def test_clearing_one_kind_leaves_the_others_and_all_locks(tmp_path) -> None:
    for name in ("kernels/numba/ab/k.nbc", "kernels/build.lock", "embeddings/ab/x.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"1234")
    assert cache.held(tmp_path, "kernels") == (1, 4)
    assert cache.clear(tmp_path, ["kernels"]) == 4
    assert cache.held(tmp_path, "kernels") == (0, 0)
    assert (tmp_path / "kernels/build.lock").exists()
    assert cache.held(tmp_path, "embeddings") == (1, 4)


def test_the_key_of_kernels_depends_on_versions_and_machine(monkeypatch) -> None:
    key = cache.kernel_key("numba")
    assert cache.kernel_key("numba") == key
    assert cache.kernel_key("numba", "torch") != key
    monkeypatch.setattr(cache, "_gpus", lambda: ["Model: another"])
    assert cache.kernel_key("numba") != key


def test_a_file_of_the_hub_is_known_by_its_blob(tmp_path) -> None:
    plain = tmp_path / "model.safetensors"
    plain.write_bytes(b"weights")
    digest = cache.content_hash(plain)
    blob = tmp_path / digest
    blob.write_bytes(b"")
    assert cache.content_hash(blob) == digest
