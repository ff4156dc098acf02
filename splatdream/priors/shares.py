"""One batch on several threads of the processor, each with a share of its rows.

An operation on two threads waits at its end for the slower of them, and a small network is hundreds of operations. Two
shares on a thread each wait for one another once. Shares are equal, and which rows are in which depends on nothing but
their number and that of the threads, so that the same bytes come again.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

Part = TypeVar("Part")
Value = TypeVar("Value")

_pools: list[ThreadPoolExecutor] = []

if hasattr(os, "register_at_fork"):
    # The child of a fork inherits the pool but not its threads.
    os.register_at_fork(after_in_child=_pools.clear)


def shares(rows: slice, group: int, threads: int) -> list[slice]:
    """Equal parts of the rows, whole groups in each, no more of them than threads."""
    count = rows.stop - rows.start
    parts = max(number for number in range(1, threads + 1) if number == 1 or count % (number * group) == 0)
    step = count // parts
    return [slice(rows.start + k * step, rows.start + (k + 1) * step) for k in range(parts)]


def at_once(function: Callable[[Part], Value], parts: list[Part]) -> list[Value]:
    """What `function` says of each part, all at the same time; torch's threads are shared out among them."""
    if len(parts) == 1:
        return [function(parts[0])]
    threads, enabled = torch.get_num_threads(), torch.is_grad_enabled()

    def work(part: Part) -> Value:
        take_threads(threads // len(parts))
        with torch.set_grad_enabled(enabled):
            return function(part)

    tasks = [_pool().submit(work, part) for part in parts]
    wait(tasks)  # all of them, before an error of one is told: what the others hold must be free by then
    torch.set_num_threads(threads)  # the number that new threads begin with
    return [task.result() for task in tasks]


def take_threads(count: int) -> None:
    """Lets torch use so many from this thread on, whatever other threads set."""
    # Asked first: the first question a thread asks takes the number that was last set in any thread.
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


def _pool() -> ThreadPoolExecutor:
    if not _pools:
        _pools.append(ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="splatdream-prior"))
    return _pools[0]
