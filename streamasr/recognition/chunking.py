"""Split a stream's samples into the encoder's chunks, and at marks such as ``finalize``.

Pure NumPy. Not thread-safe: code that shares a queue between threads must lock it. Shape suffix: S samples.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np

from streamasr.decoding.hypothesis import Hotword
from streamasr.frontend.pcm import Samples


@dataclass(frozen=True, slots=True)
class FinalizeMark:
    """Ends the stream here; the next sample starts a new one. ``id`` is repeated in the ``finalized`` message."""

    id: str


@dataclass(frozen=True, slots=True)
class StopMark:
    """Ends the stream and the session here."""


@dataclass(frozen=True, slots=True)
class HotwordsMark:
    """Sets the hotwords of the audio that follows."""

    hotwords: tuple[Hotword, ...]


EndMark = FinalizeMark | StopMark

_NO_SAMPLES: Samples = np.zeros(0, dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """The samples of one step of one session, and what happens at its end."""

    samples_S: Samples
    """One hop; at the end of a stream up to a chunk, possibly none."""
    end_sample: int
    """The end of ``samples_S``, in samples since the session's start."""
    starts_stream: bool
    """Whether it is the first chunk of a stream, whose states are then initial ones."""
    hotwords: tuple[Hotword, ...] | None
    """New hotwords from this chunk on; ``None`` for no change."""
    end: EndMark | None
    """The mark that ends the stream after this chunk, if any."""
    lookahead_S: Samples = field(default_factory=lambda: _NO_SAMPLES)
    """The look-ahead: samples after ``samples_S``, which the next chunk contains again."""
    lookahead_end_sample: int = 0
    """The end of the audio in ``lookahead_S``, which may have silence after it; 0 without look-ahead."""
    left_padding_samples: int = 0
    """Zeros before the first sample of a stream; 0 in later chunks."""
    right_padding_samples: int = 0
    """Samples that the front end adds after the last one of a stream; 0 in earlier chunks."""
    silence_samples: int = 0
    """How many of its samples are silence after the stream's end."""

    @property
    def audio_samples(self) -> int:
        """Samples of the session's audio by which the stream moves on."""
        return len(self.samples_S) - self.silence_samples

    @property
    def padded_samples(self) -> int:
        """Length on the stream's time line, padding included and look-ahead excluded."""
        return self.left_padding_samples + len(self.samples_S) + self.right_padding_samples

    def first(self, samples: int) -> Chunk:
        """Return the chunk's first ``samples`` samples, without look-ahead."""
        return replace(self, samples_S=self.samples_S[:samples], lookahead_S=_NO_SAMPLES)

    def rest(self, samples: int) -> Chunk:
        """Return the samples after :meth:`first`, look-ahead included."""
        rest_S = np.concatenate((self.samples_S[samples:], self.lookahead_S))
        return replace(
            self, samples_S=rest_S, lookahead_S=_NO_SAMPLES, starts_stream=False, left_padding_samples=0
        )


class ChunkQueue:
    """Queues samples and marks in order, and returns them in chunks.

    The content of a chunk depends on samples and marks only, not on when it is taken.

    Args:
        chunk_samples: length of a chunk in samples, look-ahead included.
        hop_samples: samples by which a stream advances per chunk; the rest is look-ahead. By default the whole chunk.
        left_padding_samples: padding before a stream's first sample; its first chunk has this many samples less.
        right_padding_samples: padding after a stream's last sample, unless it is empty. What does not fit into
            the last chunk with samples goes into further chunks. With look-ahead, the padding is samples of silence.
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
        self._right_padding_taken = 0
        self._blocks: deque[Samples] = deque()
        self._marks: deque[tuple[int, EndMark | HotwordsMark]] = deque()
        self._received = 0
        self._taken = 0
        self._starts_stream = True

    @property
    def hop_samples(self) -> int:
        """Samples by which a stream advances per chunk."""
        return self._hop_samples

    @property
    def waiting(self) -> int:
        """Samples not yet taken; look-ahead counts as not taken."""
        return self._received - self._taken

    @property
    def waiting_marks(self) -> int:
        """Marks not yet taken."""
        return len(self._marks)

    @property
    def ready(self) -> bool:
        """Whether :meth:`take` can return a chunk."""
        return self.waiting >= self._chunk_samples - self._left_padding or self._next_end() is not None

    def append(self, samples_S: Samples) -> None:
        """Append audio."""
        if samples_S.size:
            self._blocks.append(samples_S)
            self._received += len(samples_S)

    def mark(self, mark: EndMark | HotwordsMark) -> None:
        """Place a mark after the audio appended so far."""
        self._marks.append((self._received, mark))

    def take(self) -> Chunk:
        """Return the next chunk. May be called only while :attr:`ready`."""
        assert self.ready, "take() without a chunk to take"
        end_index = self._next_end()
        limit = self._received if end_index is None else self._marks[end_index][0]
        left_padding, waiting = self._left_padding, limit - self._taken
        tail = 0
        if end_index is not None and (waiting or not self._starts_stream):
            tail = self._right_padding_samples - self._right_padding_taken
        whole = waiting + tail >= self._chunk_samples - left_padding
        length = self._hop_samples - left_padding if whole else waiting + tail
        stop = self._taken + min(length, waiting)
        right_padding = self._taken + length - stop
        ends = end_index is not None and length == waiting + tail
        # New hotwords apply from the chunk with the first sample after them, whenever that chunk is taken.
        hotwords = None
        while (
            self._marks and self._marks[0][0] < stop and isinstance(mark := self._marks[0][1], HotwordsMark)
        ):
            hotwords = mark.hotwords
            self._marks.popleft()
        samples_S, end, lookahead_S = self._cut(stop - self._taken), None, _NO_SAMPLES
        lookahead_end = 0
        self._right_padding_taken += right_padding
        if ends:
            end, self._right_padding_taken = self._pop_end(stop), 0
        silence = 0
        if lookahead := self._chunk_samples - self._hop_samples:
            # Rows with and without look-ahead move on together: the silence becomes samples.
            silence, right_padding = right_padding, 0
            samples_S = np.pad(samples_S, (0, silence))
        if whole:
            lookahead_S = self._peek(min(lookahead, limit - stop))
            lookahead_end = stop + len(lookahead_S)
            lookahead_S = np.pad(lookahead_S, (0, lookahead - len(lookahead_S)))
        chunk = Chunk(
            samples_S,
            stop,
            self._starts_stream,
            hotwords,
            end,
            lookahead_S,
            lookahead_end,
            left_padding,
            right_padding,
            silence,
        )
        self._starts_stream = end is not None
        return chunk

    @property
    def _left_padding(self) -> int:
        return self._left_padding_samples if self._starts_stream else 0

    def _next_end(self) -> int | None:
        """Return the index of the first mark that ends a stream."""
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
        """Return a copy of the first ``count`` samples."""
        parts: list[Samples] = []
        for block_S in self._blocks:
            if not count:
                break
            parts.append(block_S[:count])
            count -= len(parts[-1])
        return np.concatenate(parts) if parts else _NO_SAMPLES

    def _cut(self, count: int) -> Samples:
        """Remove and return the first ``count`` samples."""
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
