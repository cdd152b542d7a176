"""Map a function over many items in worker processes, in order, with progress."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from typing import TypeVar

from streamasr.processor import usable_cores

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int, int], None]
"""Called with the number of finished items and the number of all items."""

FEW_ITEMS = 64
"""Up to this number of items, no processes are started, because starting them takes longer."""
_CHUNKS_PER_WORKER = 16
_LARGEST_CHUNK = 64
_CHUNKS_AHEAD = 2
"""Number of chunks per worker that may be computed ahead of the caller."""


def map_in_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int | None = None,
    few: int = FEW_ITEMS,
    progress: Progress | None = None,
) -> Iterator[Result]:
    """Yield ``function(item)`` for each item, in the items' order; the number of waiting results is bounded.

    Processes are started with ``spawn``, so a script that calls this function needs ``if __name__ == "__main__":``.
    An interrupt (Ctrl-C) is handled by this process only; the workers finish their chunks and exit.

    Args:
        function: a function at module level, which a new process can import.
        items: the arguments; items and results must be picklable.
        workers: number of processes; by default one for each CPU that this process may use. With one, the items are
            computed in this process.
        few: largest number of items for which no processes are started.
        progress: called after each result.
    """
    total = len(items)
    workers = min(workers or usable_cores(), total)
    if workers <= 1 or total <= few:
        for done, item in enumerate(items, start=1):
            yield function(item)
            if progress:
                progress(done, total)
        return
    size = max(1, min(_LARGEST_CHUNK, total // (workers * _CHUNKS_PER_WORKER)))
    chunks = (items[first : first + size] for first in range(0, total, size))
    # Processes are spawned, not forked: the threads of the progress bar and of torch do not survive a fork.
    context = multiprocessing.get_context("spawn")
    done = 0
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_ignore_interrupts)
    try:
        # Executor.map would compute all items at once and keep all results.
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


def _ignore_interrupts() -> None:
    """Ignore Ctrl-C, which a terminal sends to all processes; the parent process handles it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _map(function: Callable[[Item], Result], chunk: Sequence[Item]) -> list[Result]:
    return [function(item) for item in chunk]
