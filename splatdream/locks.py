"""Locks on files that the system frees when the process that holds them ends, so that nothing stale can be left."""

import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

POLL_SECONDS = 0.05


@contextmanager
def alone(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """The block to one process at a time, of all that name this file; `waiting` is called once if another has it.

    The file is made, with its folder, and stays, empty.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while not try_lock(descriptor):
            if waiting is not None:
                waiting()
                waiting = None
            time.sleep(POLL_SECONDS)
        yield
    finally:
        with suppress(OSError):
            os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Whether the open file could be locked; True also where the file system has no locks."""
    try:
        if sys.platform == "win32":
            import msvcrt

            # Far behind any text: Windows lets nobody read a locked byte.
            os.lseek(descriptor, 2**30, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            return False
        if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
            raise
    return True
