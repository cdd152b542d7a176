"""Cut finished utterances into subtitle cues.

By default, a cue has at most two lines of 42 characters and is shown for at most seven seconds, the usual limits
of broadcast subtitles. Cues and lines break between words, preferably after punctuation marks, cues also at
pauses. ``client/web/cues.js`` implements the same algorithm; a test compares the two.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from streamasr.errors import ConfigError
from streamasr.protocol.messages import Final, WordTiming
from streamasr.text import join_words, split_words
from streamasr.units import MS_PER_SECOND

LINE_CHARS = range(1, 1_001)
"""Allowed values of ``CueLimits.line_chars``."""
LINES = range(1, 11)
"""Allowed values of ``CueLimits.lines``."""
CUE_MS = range(500, 600_001)
"""Allowed values of ``CueLimits.cue_ms``."""

_BLANK = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]+")
"""White space and control characters, which would end a line of a subtitle file or a cue."""
_MARK = re.compile(r"[.?!…。？！,;:，；：、][\"'”’»)\]]*$")
_END_MARK = re.compile(r"[.?!…。？！][\"'”’»)\]]*$")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
"""Half a character, which UTF-8 cannot write."""


@dataclass(frozen=True, kw_only=True)
class CueLimits:
    """The limits of a subtitle cue.

    Raises:
        ConfigError: a limit is out of range.
    """

    line_chars: int = 42
    """Longest line, in characters. A longer word has a cue of its own."""
    lines: int = 2
    """Most lines of a cue."""
    cue_ms: int = 7_000
    """Longest duration of a cue. A longer word has a cue of its own, which ends before the word does."""
    min_cue_ms: int = 1_000
    """A shorter cue is shown for this long, if the next cue leaves room."""
    shortest_ms: int = 100
    """A cue is never shown for less, even if the next words begin at the same time: their cue begins later then."""
    pause_ms: int = 700
    """Pauses count up to this length when the place of a break is chosen."""

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("--max-line-chars", self.line_chars, LINE_CHARS),
            ("--max-lines", self.lines, LINES),
        ):
            if value not in allowed:
                raise ConfigError(f"{name}: expected {allowed[0]} to {allowed[-1]}, got {value}")
        if self.cue_ms not in CUE_MS:
            first_s, last_s = CUE_MS[0] / MS_PER_SECOND, CUE_MS[-1] / MS_PER_SECOND
            raise ConfigError(
                f"--max-cue-seconds: expected {first_s:g} to {last_s:g}, got {self.cue_ms / MS_PER_SECOND:g}"
            )


@dataclass(frozen=True, slots=True)
class Cue:
    """Lines shown from ``start_ms`` to ``end_ms``."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]


DEFAULT_LIMITS = CueLimits()


def cues(finals: Iterable[Final], limits: CueLimits = DEFAULT_LIMITS, *, earliest_ms: int = 0) -> list[Cue]:
    """Split utterances, given in order of time, into cues.

    Always ``start_ms < end_ms``, and no cue begins before the one before it has ended.

    Args:
        finals: the utterances.
        limits: the limits of a cue.
        earliest_ms: the first cue begins no earlier.
    """
    result = [cue for final in finals for cue in _utterance_cues(_words(final), limits)]
    for index, cue in enumerate(result):
        start_ms = max(cue.start_ms, earliest_ms)
        earliest_ms = start_ms + limits.shortest_ms
        result[index] = dataclasses.replace(cue, start_ms=start_ms)
    for index, cue in enumerate(result):
        end_ms = min(max(cue.end_ms, cue.start_ms + limits.min_cue_ms), cue.start_ms + limits.cue_ms)
        if index + 1 < len(result):
            end_ms = min(end_ms, result[index + 1].start_ms)
        result[index] = dataclasses.replace(cue, end_ms=end_ms)
    return result


def _words(final: Final) -> list[WordTiming]:
    """Return the utterance's words as they are shown.

    Without word times, words divide the duration of the utterance in proportion to their lengths.
    """
    if final.words:
        cleaned = (dataclasses.replace(word, word=_clean(word.word)) for word in final.words)
        return [word for word in cleaned if word.word]
    return list(_estimated_words(final))


def _estimated_words(final: Final) -> Iterator[WordTiming]:
    texts = split_words(_clean(final.text))
    total = sum(len(text) + 1 for text in texts)
    span = final.end_ms - final.start_ms
    before = 0
    for text in texts:
        after = before + len(text) + 1
        start_ms, end_ms = (final.start_ms + span * part // total for part in (before, after))
        yield WordTiming(word=text, start_ms=start_ms, end_ms=end_ms, confidence=final.confidence)
        before = after


def _clean(text: str) -> str:
    return join_words([_SURROGATE.sub("\ufffd", _BLANK.sub(" ", text)).strip(" ")])


def _utterance_cues(words: Sequence[WordTiming], limits: CueLimits) -> list[Cue]:
    """Split an utterance into as few cues as possible, and among those splits choose the one with the lowest cost.

    The cost is the sum of the squared lengths of the cues, so that even splits are preferred. Good breaks lower it:
    by ``line_chars ** 2`` at a pause of ``pause_ms`` or longer and after the end of a sentence, by half of it after
    another mark, and by a proportional part at a shorter pause.

    Dynamic programming over the words, from the last to the first: ``best[i]`` is the cheapest split of
    ``words[i:]``, as (cues, cost, end of the first cue, lines of the first cue).
    """
    count = len(words)
    wrapping = _Wrapping([word.word for word in words], limits)
    best: list[tuple[int, int, int, tuple[str, ...]]] = [(0, 0, count, ())] * (count + 1)
    for begin in reversed(range(count)):
        options = []
        for end in range(begin + 1, count + 1):
            lines = wrapping.lines(begin, end)
            too_long = words[end - 1].end_ms - words[begin].start_ms > limits.cue_ms
            if end > begin + 1 and (lines is None or too_long):
                break
            lines = lines or (words[begin].word,)
            cost = sum(map(len, lines)) ** 2
            if end < count:
                pause_ms = min(limits.pause_ms, max(0, words[end].start_ms - words[end - 1].end_ms))
                pause_ms = max(pause_ms, limits.pause_ms * wrapping.mark(end) // 2)
                cost -= limits.line_chars**2 * pause_ms // limits.pause_ms
            rest = best[end]
            options.append((1 + rest[0], cost + rest[1], end, lines))
        best[begin] = min(options, key=lambda option: option[:3])
    result, begin = [], 0
    while begin < count:
        _, _, end, lines = best[begin]
        result.append(Cue(words[begin].start_ms, words[end - 1].end_ms, lines))
        begin = end
    return result


class _Wrapping:
    """Breaks parts of one utterance into lines."""

    def __init__(self, texts: Sequence[str], limits: CueLimits) -> None:
        self._limits = limits
        self._whole = join_words(texts)
        self._starts: list[int] = []
        self._ends: list[int] = []
        at = 0
        for before, text in zip(["", *texts], texts, strict=False):
            start = at + len(join_words([before, text])) - len(before) - len(text)
            at = start + len(text)
            self._starts.append(start)
            self._ends.append(at)
        self._marks = [2 if _END_MARK.search(text) else 1 if _MARK.search(text) else 0 for text in texts]
        self._split = functools.cache(self._split_into)

    def lines(self, begin: int, end: int) -> tuple[str, ...] | None:
        """Put words ``begin`` to ``end`` on as few lines as possible; ``None`` if they do not fit."""
        for count in range(1, min(self._limits.lines, end - begin) + 1):
            split = self._split(begin, end, count)
            if split is not None:
                edges = (begin, *split[1], end)
                return tuple(
                    self._whole[self._starts[a] : self._ends[b - 1]] for a, b in itertools.pairwise(edges)
                )
        return None

    def mark(self, at: int) -> int:
        """Return 2 if a sentence ends before word ``at``, 1 if there is another mark, 0 without one."""
        return self._marks[at - 1]

    def _width(self, begin: int, end: int) -> int:
        return self._ends[end - 1] - self._starts[begin]

    def _split_into(self, begin: int, end: int, count: int) -> tuple[int, tuple[int, ...]] | None:
        """Return the lowest cost of ``count`` lines, and the first words of later lines.

        The cost is the sum of the squared line lengths, minus a quarter of ``line_chars ** 2`` for a break after a
        mark, twice that after the end of a sentence.
        """
        width = self._width(begin, end)
        if width > count * (self._limits.line_chars + 1) - 1:
            return None
        if count == 1:
            return width**2, ()
        best: tuple[int, tuple[int, ...]] | None = None
        for at in range(begin + 1, end):
            first = self._width(begin, at)
            if first > self._limits.line_chars:
                break
            rest = self._split(at, end, count - 1)
            cost = first**2 - self._limits.line_chars**2 * self.mark(at) // 4
            if rest is not None and (best is None or cost + rest[0] < best[0]):
                best = cost + rest[0], (at, *rest[1])
        return best
