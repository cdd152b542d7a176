"""Read audio files ahead of the recogniser, on threads, with a bounded number of samples in memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from streamasr.frontend.pcm import Samples
from streamasr.media.inputs import AudioInput

AHEAD_S = 15.0
"""Seconds of each open file that are in memory at most, but for the block that passes this."""


@dataclass(frozen=True, slots=True)
class Job:
    """A row to recognise."""

    index: int
    """Of the row in the manifest, counted from 0."""
    attempt: int = 1


@dataclass(slots=True, eq=False)
class OpenFile:
    """A file whose samples are read ahead. All fields belong to :class:`ReadAhead`'s lock."""

    job: Job
    blocks: deque[Samples] = field(default_factory=deque)
    waiting_samples: int = 0
    ended: bool = False
    """Whether all blocks have been read."""
    error: Exception | None = None
    warnings: list[str] = field(default_factory=list)
    incomplete_at_s: float | None = None
    is_being_read: bool = False
    reading: Iterator[Samples] | None = None


class ReadAhead:
    """Reads the files of many rows on threads. Jobs that are given back with :meth:`retry` come last.

    Args:
        indices: the rows, in the order in which to begin them.
        source: returns the audio of a row; an error that it raises is the row's.
        sample_rate: Hz of the samples.
        channel: the channel to take, counted from 0; ``None`` mixes all of them.
        files: files whose samples are in memory at the same time.
        threads: files that are read at the same time.
    """

    def __init__(
        self,
        indices: Iterable[int],
        source: Callable[[int], AudioInput],
        sample_rate: int,
        channel: int | None,
        *,
        files: int,
        threads: int,
    ) -> None:
        self._indices = iter(indices)
        self._source = source
        self._sample_rate = sample_rate
        self._channel = channel
        self._room = files
        self._retries: deque[Job] = deque()
        self._unclaimed: deque[OpenFile] = deque()
        self._open: list[OpenFile] = []
        self._outstanding = 0
        """Jobs that were begun and are not done."""
        self._exhausted = self._stopped = False
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._read_files, name=f"streamasr-read-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def claim(self, *, wait: bool) -> OpenFile | None:
        """Return a file for the caller to recognise; ``None`` if there is none now, or with ``wait`` none ever."""
        with self._changed:
            while not self._unclaimed:
                if not wait or self._stopped or self._is_done():
                    return None
                self._changed.wait()
            return self._unclaimed.popleft()

    def take(self, files: Iterable[OpenFile], *, wait: bool) -> list[tuple[OpenFile, list[Samples], bool]]:
        """Return the samples that have been read of ``files``, and whether each has ended.

        With ``wait``, it returns when at least one of the files has samples or has ended.
        """
        with self._changed:
            while True:
                taken = [(file, list(file.blocks), file.ended) for file in files if file.blocks or file.ended]
                if taken or not wait or self._stopped:
                    break
                self._changed.wait()
            for file, _, _ in taken:
                file.blocks.clear()
                file.waiting_samples = 0
            self._changed.notify_all()
            return taken

    def finish(self, file: OpenFile) -> None:
        """Say that the job of ``file`` is done, or has been given back."""
        with self._changed:
            self._outstanding -= 1
            if file in self._open:
                self._open.remove(file)
            self._changed.notify_all()

    def retry(self, job: Job) -> None:
        """Add a job after all others. Its previous attempt must not be finished yet."""
        with self._changed:
            self._retries.append(job)
            self._changed.notify_all()

    def stop(self) -> None:
        """Let all waiting calls return; nothing more is read."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def join(self) -> None:
        """Wait for the reading threads, after :meth:`stop`; not for one that waits for a server."""
        for thread in self._threads:
            thread.join(timeout=1.0)

    def _is_done(self) -> bool:
        return self._exhausted and not self._retries and not self._outstanding

    def _next_job(self) -> Job | None:
        if not self._exhausted:
            if (index := next(self._indices, None)) is not None:
                return Job(index)
            self._exhausted = True
            self._changed.notify_all()
        return self._retries.popleft() if self._retries else None

    def _read_files(self) -> None:
        while (file := self._next_file()) is not None:
            block, ended, error = None, False, None
            try:
                if file.reading is None:
                    file.reading = self._blocks(file)
                block = next(file.reading, None)
                ended = block is None
            except Exception as found:  # noqa: BLE001 - whatever is wrong with a file, its row gets the error
                ended, error = True, found
            with self._changed:
                file.is_being_read = False
                file.ended, file.error = ended, error
                if ended and file in self._open:
                    self._open.remove(file)
                if block is not None and len(block):
                    file.blocks.append(block)
                    file.waiting_samples += len(block)
                self._changed.notify_all()

    def _next_file(self) -> OpenFile | None:
        """Return a file of which to read a block: the one with the fewest samples waiting, or a new one."""
        with self._changed:
            while not self._stopped:
                wanting = [
                    file
                    for file in self._open
                    if not file.is_being_read and file.waiting_samples < AHEAD_S * self._sample_rate
                ]
                file = min(wanting, key=lambda each: each.waiting_samples, default=None)
                if (file is None or file.waiting_samples) and self._outstanding < self._room:
                    if (job := self._next_job()) is not None:
                        file = OpenFile(job)
                        self._outstanding += 1
                        self._open.append(file)
                        self._unclaimed.append(file)
                        self._changed.notify_all()
                    elif file is None and self._is_done():
                        return None
                if file is not None:
                    file.is_being_read = True
                    return file
                self._changed.wait()
            return None

    def _blocks(self, file: OpenFile) -> Iterator[Samples]:
        with self._source(file.job.index).open() as reader:
            try:
                yield from reader.mono_blocks(self._sample_rate, self._channel)
            finally:
                file.warnings, file.incomplete_at_s = reader.warnings, reader.incomplete_at_s
