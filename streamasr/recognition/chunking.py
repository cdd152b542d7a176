"""Cut a stream's samples into the chunks that the encoder takes, at marks such as ``finalize``.

Pure NumPy, without locks: code that shares a queue between threads guards it. Shape suffix: S samples.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np

from streamasr.decoding.hypothesis import Hotword
from streamasr.frontend.pcm import Samples


@dataclass(frozen=True, slots=True)
class FinalizeMark:
    """All audio before it is to be finished; then the stream starts afresh. ``id`` goes into the answer."""

    id: str


@dataclass(frozen=True, slots=True)
class StopMark:
    """All audio before it is to be finished; nothing follows."""


@dataclass(frozen=True, slots=True)
class HotwordsMark:
    """New hotwords for the audio after it."""

    hotwords: tuple[Hotword, ...]


EndMark = FinalizeMark | StopMark

_NO_SAMPLES: Samples = np.zeros(0, dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """The next piece of work of one session."""

    samples_S: Samples
    """At most one chunk; fewer, even none, only where a stream ends."""
    end_sample: int
    """Where it ends, in samples of the session's audio."""
    starts_stream: bool
    """Whether a stream begins with it, and all states with that."""
    hotwords: tuple[Hotword, ...] | None
    """To listen for from this chunk on; ``None`` for no change."""
    end: EndMark | None
    """What to do after it."""
    lookahead_S: Samples = field(default_factory=lambda: _NO_SAMPLES)
    """Look-ahead: the samples behind it, which the next chunk holds again."""
    left_padding_samples: int = 0
    """What it lacks at its front of a whole chunk, where a stream begins."""
    right_padding_samples: int = 0
    """What the front end makes up behind it, where a stream ends."""

    @property
    def padded_samples(self) -> int:
        """Its length on the stream's time line, what is made up included."""
        return self.left_padding_samples + len(self.samples_S) + self.right_padding_samples

    def first(self, samples: int) -> Chunk:
        """The part with its first ``samples`` samples, or fewer."""
        return replace(self, samples_S=self.samples_S[:samples], lookahead_S=_NO_SAMPLES)

    def rest(self, samples: int) -> Chunk:
        """The part behind :meth:`first`, its look-ahead included."""
        rest_S = np.concatenate((self.samples_S[samples:], self.lookahead_S))
        return replace(
            self, samples_S=rest_S, lookahead_S=_NO_SAMPLES, starts_stream=False, left_padding_samples=0
        )


class ChunkQueue:
    """Samples and marks in the order in which they came, given back in chunks.

    A chunk's content depends on the samples and the marks alone, never on when it is asked for.

    Args:
        chunk_samples: samples of a whole chunk, look-ahead included.
        hop_samples: by how many a stream moves on; the rest is look-ahead. By default the whole chunk.
        left_padding_samples: how much shorter a stream's first chunk is.
        right_padding_samples: padding after a stream's end. If it does not fit into the chunk of the last
            samples, a chunk without samples follows.
    """

    def __init__(
        self,
        chunk_samples: int,
        hop_samples: int | None = None,
        *,
        left_padding_samples: int = 0,
        right_padding_samples: int = 0,
    ) -> None:
        self._chunk_samples = chunk_samples
        self._hop_samples = chunk_samples if hop_samples is None else hop_samples
        self._left_padding_samples = left_padding_samples
        self._right_padding_samples = right_padding_samples
        self._padded = 0
        self._blocks: deque[Samples] = deque()
        self._marks: deque[tuple[int, EndMark | HotwordsMark]] = deque()
        self._received = 0
        self._taken = 0
        self._starts_stream = True

    @property
    def received(self) -> int:
        """Samples that have come in, over the whole session."""
        return self._received

    @property
    def waiting(self) -> int:
        """Samples not yet taken."""
        return self._received - self._taken

    @property
    def waiting_marks(self) -> int:
        """Marks not yet taken."""
        return len(self._marks)

    @property
    def ready(self) -> bool:
        """Whether :meth:`take` has something to give."""
        return self.waiting >= self._chunk_samples - self._left_padding or self._next_end() is not None

    def append(self, samples_S: Samples) -> None:
        """More audio."""
        if samples_S.size:
            self._blocks.append(samples_S)
            self._received += len(samples_S)

    def mark(self, mark: EndMark | HotwordsMark) -> None:
        """Something to do after the audio so far."""
        self._marks.append((self._received, mark))

    def take(self) -> Chunk:
        """The next chunk; only while :attr:`ready`."""
        assert self.ready, "take() without a chunk to take"
        end_index = self._next_end()
        limit = self._received if end_index is None else self._marks[end_index][0]
        left_padding, waiting = self._left_padding, limit - self._taken
        whole = waiting >= self._chunk_samples - left_padding
        stop = self._taken + (self._hop_samples - left_padding if whole else waiting)
        # New hotwords begin with the chunk that holds the first sample after them, so that the time at which
        # a chunk happens to be taken changes nothing.
        hotwords = None
        while (
            self._marks and self._marks[0][0] < stop and isinstance(mark := self._marks[0][1], HotwordsMark)
        ):
            hotwords = mark.hotwords
            self._marks.popleft()
        samples_S, right_padding, end = self._cut(stop - self._taken), 0, None
        if end_index is not None and stop == limit:
            right_padding = min(
                self._right_padding_samples - self._padded,
                self._chunk_samples - left_padding - len(samples_S),
            )
            self._padded += right_padding
            if self._padded == self._right_padding_samples:
                end, self._padded = self._pop_end(stop), 0
        lookahead_S = self._peek(self._chunk_samples - self._hop_samples) if whole else _NO_SAMPLES
        chunk = Chunk(
            samples_S, stop, self._starts_stream, hotwords, end, lookahead_S, left_padding, right_padding
        )
        self._starts_stream = end is not None
        return chunk

    @property
    def _left_padding(self) -> int:
        return self._left_padding_samples if self._starts_stream else 0

    def _next_end(self) -> int | None:
        """Index of the first mark that ends a stream."""
        return next(
            (i for i, (_, mark) in enumerate(self._marks) if not isinstance(mark, HotwordsMark)), None
        )

    def _pop_end(self, stop: int) -> EndMark | None:
        index = self._next_end()
        if index is None or self._marks[index][0] > stop:
            return None
        mark = self._marks[index][1]
        assert not isinstance(mark, HotwordsMark)
        del self._marks[index]
        return mark

    def _peek(self, count: int) -> Samples:
        """A copy of exactly ``count`` samples at the front."""
        parts: list[Samples] = []
        for block_S in self._blocks:
            if not count:
                break
            parts.append(block_S[:count])
            count -= len(parts[-1])
        return np.concatenate(parts) if parts else _NO_SAMPLES

    def _cut(self, count: int) -> Samples:
        """Take exactly ``count`` samples off the front."""
        parts, missing = [], count
        while missing:
            block_S = self._blocks.popleft()
            if len(block_S) > missing:
                self._blocks.appendleft(block_S[missing:])
                block_S = block_S[:missing]
            parts.append(block_S)
            missing -= len(block_S)
        self._taken += count
        return np.concatenate(parts) if parts else _NO_SAMPLES
