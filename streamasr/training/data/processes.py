"""A map over many files in worker processes, in order, with progress. Knows nothing of sound."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int, int], None]
"""Called with how many items are done, and how many there are."""

FEW_ITEMS = 64
"""Up to so many items are worked off in this process: starting others takes longer. Override with ``few``."""
_CHUNKS_A_WORKER = 16
_LARGEST_CHUNK = 64


def map_in_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int | None = None,
    few: int = FEW_ITEMS,
    progress: Progress | None = None,
) -> Iterator[Result]:
    """``function`` of every item, in the items' order.

    Args:
        function: a function of a module, so that a fresh process can import it.
        items: what it is called with; items and results must pickle.
        workers: processes; one for every CPU by default. One means this process.
        few: how many items are too few to start processes for.
        progress: told of every result.
    """
    total = len(items)
    workers = min(workers or os.cpu_count() or 1, total)
    if workers <= 1 or total <= few:
        for done, item in enumerate(items, start=1):
            yield function(item)
            if progress:
                progress(done, total)
        return
    chunk = max(1, min(_LARGEST_CHUNK, total // (workers * _CHUNKS_A_WORKER)))
    # Spawned, not forked: the progress bar's thread and torch's do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        for done, result in enumerate(pool.map(function, items, chunksize=chunk), start=1):
            yield result
            if progress:
                progress(done, total)
