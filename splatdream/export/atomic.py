"""Atomic writing: a file appears complete under its name or not at all."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file that takes the name `path` when the block ends well, and vanishes when it does not.

    It lies in the same folder until then, since a rename is atomic only within one file system; a link is followed.
    FileNotFoundError when the folder does not exist.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: the folder {target.parent} does not exist")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    # Opened by name and not by `tempfile`, whose files only their owner may read.
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # Windows renames closed files only, and only over a file that nobody holds open.
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sweep(path: str | Path) -> None:
    """Takes away what processes that were killed while they wrote this file have left; only for its sole writer."""
    target = Path(os.path.realpath(path))
    for temporary in target.parent.glob(f".{escape(target.name)}.*.tmp"):
        temporary.unlink(missing_ok=True)


def disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, is the want of room on a disk."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False
