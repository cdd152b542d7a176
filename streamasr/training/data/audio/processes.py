"""A map over many files in worker processes, in order, with progress. Knows nothing of sound."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int, int], None]
"""Called with how many items are done, and how many there are."""

FEW_ITEMS = 64
"""Up to so many items are worked off in this process: starting others takes longer. Override with ``few``."""
_CHUNKS_A_WORKER = 16
_LARGEST_CHUNK = 64
_CHUNKS_AHEAD = 2
"""Chunks for each worker whose results may wait to be fetched."""


def map_in_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int | None = None,
    few: int = FEW_ITEMS,
    progress: Progress | None = None,
) -> Iterator[Result]:
    """``function`` of every item, in the items' order; results wait in a buffer of bounded size.

    Processes are started afresh (``spawn``): a script that comes here needs ``if __name__ == "__main__":``.

    Args:
        function: a function of a module, so that a fresh process can import it.
        items: what it is called with; items and results must pickle.
        workers: processes; one for every CPU that this process may use by default. One means this process.
        few: how many items are too few to start processes for.
        progress: told of every result.

    An interrupt (Ctrl-C) is this process's alone; the others end their chunk, begin no other, and are gone.
    """
    total = len(items)
    workers = min(workers or usable_cpus(), total)
    if workers <= 1 or total <= few:
        for done, item in enumerate(items, start=1):
            yield function(item)
            if progress:
                progress(done, total)
        return
    size = max(1, min(_LARGEST_CHUNK, total // (workers * _CHUNKS_A_WORKER)))
    chunks = (items[first : first + size] for first in range(0, total, size))
    # Spawned, not forked: the progress bar's thread and torch's do not survive a fork.
    context = multiprocessing.get_context("spawn")
    done = 0
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_interrupts_to_the_parent)
    try:
        # Executor.map would compute everything at once and keep what nobody has fetched yet.
        waiting = deque(
            pool.submit(_map, function, chunk) for chunk in islice(chunks, workers * _CHUNKS_AHEAD)
        )
        while waiting:
            results = waiting.popleft().result()
            waiting.extend(pool.submit(_map, function, chunk) for chunk in islice(chunks, 1))
            for result in results:
                yield result
                done += 1
                if progress:
                    progress(done, total)
    finally:
        pool.shutdown(cancel_futures=True)


def usable_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _leave_interrupts_to_the_parent() -> None:
    """A terminal's Ctrl-C goes to every process at once."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _map(function: Callable[[Item], Result], chunk: Sequence[Item]) -> list[Result]:
    return [function(item) for item in chunk]
