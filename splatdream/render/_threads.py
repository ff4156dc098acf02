"""A loop over independent tasks, shared out among threads.

Numba's own parallel loops are not used. Its portable layer (workqueue) ends the process when two Python threads use
it at once, its OpenMP layer cannot be used after a fork and spins beside torch's OpenMP pool, and compiling for either
takes several times longer. A kernel here is an ordinary `nogil` function of a range of tasks, so plain Python threads
run it at full speed, sleep when idle, and any number of callers may share them.

Every task writes its own part of the output and every sum has a fixed order, so results do not depend on who ran what.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

_pools: list[ThreadPoolExecutor] = []

if hasattr(os, "register_at_fork"):
    # The child of a fork inherits the pool but not its threads.
    os.register_at_fork(after_in_child=_pools.clear)


def available_cores() -> int:
    """Cores this process may use, where the system tells; else those of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_count() -> int:
    """As many threads as torch may use (`torch.set_num_threads`), never more than there are cores for them."""
    return min(torch.get_num_threads(), available_cores())


def run(kernel: Callable[..., None], count: int, grain: int, *arguments) -> None:
    """Calls `kernel(start, stop, *arguments)` until all of `count` tasks are done, `grain` of them at a time."""
    threads = min(thread_count(), -(-count // grain))
    if threads <= 1:
        kernel(0, count, *arguments)
        return
    # One iterator for all threads (`next` is one step under the interpreter's lock): who is free takes the next piece,
    # so unequal tasks even out.
    starts = iter(range(0, count, grain))

    def work() -> None:
        for start in starts:
            kernel(start, min(start + grain, count), *arguments)

    helpers = [_pool().submit(work) for _ in range(threads - 1)]
    try:
        work()
    finally:
        for helper in helpers:
            if not helper.cancel():
                helper.result()


def _pool() -> ThreadPoolExecutor:
    if not _pools:
        _pools.append(ThreadPoolExecutor(available_cores(), thread_name_prefix="splatdream-render"))
    return _pools[0]
