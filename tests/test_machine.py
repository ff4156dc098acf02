"""What a process may use, in a container too."""

from splatdream.machine import memory


def test_memory_is_what_a_container_is_given(tmp_path) -> None:
    whole = memory(tmp_path)
    assert 0 < whole.free <= whole.total
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    assert (memory(tmp_path).total, memory(tmp_path).free) == (1_000_000, 600_000)


def test_a_container_without_a_limit_has_the_machines_memory(tmp_path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("400000\n")
    assert memory(tmp_path).total == memory(tmp_path / "no container").total
