"""What the machine has: memory that this process may use. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Memory:
    """In bytes: what there is for this process at most, and what of it is free now."""

    total: int
    free: int


def memory(cgroup: Path = CGROUP) -> Memory:
    """Main memory, less where a container is given less."""
    import psutil

    found = psutil.virtual_memory()
    limit, used = _number(cgroup / "memory.max"), _number(cgroup / "memory.current")
    if limit is None or used is None or limit >= found.total:
        return Memory(found.total, found.available)
    return Memory(limit, min(found.available, max(0, limit - used)))


def _number(path: Path) -> int | None:
    text = path.read_text().strip() if path.is_file() else ""
    return int(text) if text.isdigit() else None
