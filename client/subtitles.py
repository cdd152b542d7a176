"""Convert finished utterances to plain text, SRT, WebVTT and JSON.

A cue has at most two lines of 42 characters and lasts at most seven seconds, the usual limits of broadcast
subtitles. Cues break between words, preferably at pauses. ``web/subtitles.js`` implements the same algorithm; a test
compares the two.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import IO

from streamasr.protocol.messages import Final, WordTiming
from streamasr.text import join_words, split_words
from streamasr.units import MS_PER_SECOND


@dataclass(frozen=True, kw_only=True)
class CueLimits:
    """The limits of a subtitle cue."""

    line_chars: int = 42
    """Longest line, in characters. A cue has at most two lines; a longer word gets its own line."""
    cue_ms: int = 7_000
    """Longest duration of a cue; a longer word gets its own cue."""
    min_cue_ms: int = 1_000
    """A shorter cue is shown for this long, if the next cue leaves room."""
    pause_ms: int = 700
    """Pauses count up to this length when the place of a break is chosen."""


@dataclass(frozen=True, slots=True)
class Cue:
    """Lines shown from ``start_ms`` to ``end_ms``."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]


DEFAULT_LIMITS = CueLimits()


def cues(finals: Iterable[Final], limits: CueLimits = DEFAULT_LIMITS) -> list[Cue]:
    """Split utterances, given in order of time, into cues that do not overlap."""
    result = [cue for final in finals for cue in _utterance_cues(_words(final), limits)]
    for index, cue in enumerate(result):
        end_ms = max(cue.end_ms, cue.start_ms + limits.min_cue_ms)
        if index + 1 < len(result):
            end_ms = max(cue.start_ms, min(end_ms, result[index + 1].start_ms))
        result[index] = dataclasses.replace(cue, end_ms=end_ms)
    return result


def to_srt(finals: Iterable[Final], limits: CueLimits = DEFAULT_LIMITS) -> str:
    """Return the utterances as a SubRip (SRT) file."""
    return "".join(srt_cue(number, cue) for number, cue in enumerate(cues(finals, limits), start=1))


def srt_cue(number: int, cue: Cue) -> str:
    """Return one SRT cue with the empty line that ends it."""
    times = f"{_timestamp(cue.start_ms, ',')} --> {_timestamp(cue.end_ms, ',')}"
    return "\n".join([str(number), times, *cue.lines, "", ""])


VTT_HEADER = "WEBVTT\n\n"


def to_vtt(finals: Iterable[Final], limits: CueLimits = DEFAULT_LIMITS) -> str:
    """Return the utterances as a WebVTT file (https://www.w3.org/TR/webvtt1/)."""
    return VTT_HEADER + "".join(vtt_cue(cue) for cue in cues(finals, limits))


def vtt_cue(cue: Cue) -> str:
    """Return one WebVTT cue with the empty line that ends it."""
    lines = (line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for line in cue.lines)
    return "\n".join([f"{_timestamp(cue.start_ms, '.')} --> {_timestamp(cue.end_ms, '.')}", *lines, "", ""])


def to_text(finals: Iterable[Final]) -> str:
    """Return the text of the utterances, one per line."""
    return "".join(f"{final.text}\n" for final in finals if final.text)


def to_json(finals: Iterable[Final], **extra: object) -> str:
    """Return one line of JSON: the fields of ``extra``, the whole ``text``, and the ``utterances`` as received."""
    utterances = [dataclasses.asdict(final) for final in finals]
    text = " ".join(utterance["text"] for utterance in utterances if utterance["text"])
    return json.dumps({**extra, "text": text, "utterances": utterances}, ensure_ascii=False) + "\n"


def _words(final: Final) -> Sequence[WordTiming]:
    """Return the utterance's words. Without word times, divide its duration in proportion to their lengths."""
    if final.words:
        return final.words
    texts = split_words(final.text)
    total = sum(len(text) + 1 for text in texts)
    span = final.end_ms - final.start_ms
    words, before = [], 0
    for text in texts:
        after = before + len(text) + 1
        start_ms, end_ms = (final.start_ms + span * part // total for part in (before, after))
        words.append(WordTiming(word=text, start_ms=start_ms, end_ms=end_ms, confidence=final.confidence))
        before = after
    return words


def _utterance_cues(words: Sequence[WordTiming], limits: CueLimits) -> list[Cue]:
    """Split an utterance into as few cues as possible, and among those splits choose the one with the lowest cost.

    The cost is the sum of the squared lengths of the cues, so that even splits are preferred, minus
    ``line_chars ** 2`` for every break at a pause of ``pause_ms`` or longer, and a proportional part for shorter
    ones.

    Dynamic programming over the words, from the last to the first: ``best[i]`` is the cheapest split of
    ``words[i:]``, as (cues, cost, end of the first cue, lines of the first cue).
    """
    count = len(words)
    best: list[tuple[int, int, int, tuple[str, ...]]] = [(0, 0, count, ())] * (count + 1)
    for begin in reversed(range(count)):
        options = []
        for end in range(begin + 1, count + 1):
            lines = _wrap([word.word for word in words[begin:end]], limits)
            too_long = words[end - 1].end_ms - words[begin].start_ms > limits.cue_ms
            if end > begin + 1 and (lines is None or too_long):
                break
            lines = lines or (words[begin].word,)
            cost = sum(map(len, lines)) ** 2
            if end < count:
                pause_ms = min(limits.pause_ms, max(0, words[end].start_ms - words[end - 1].end_ms))
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


def _wrap(texts: Sequence[str], limits: CueLimits) -> tuple[str, ...] | None:
    """Put the words on one line, or on two lines of nearly equal length; ``None`` if they do not fit."""
    whole = join_words(texts)
    if len(whole) <= limits.line_chars:
        return (whole,)
    breaks = ((join_words(texts[:at]), join_words(texts[at:])) for at in range(1, len(texts)))
    fitting = [pair for pair in breaks if max(map(len, pair)) <= limits.line_chars]
    return min(fitting, key=lambda pair: abs(len(pair[0]) - len(pair[1]))) if fitting else None


def _timestamp(ms: int, separator: str) -> str:
    seconds, rest = divmod(ms, MS_PER_SECOND)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{separator}{rest:03d}"


class SubtitleFile:
    """Writes captions during a session. After every final, the file is complete.

    When an utterance is added, the cues of the previous one are written again, because the duration of a short cue
    depends on the start of the next one.

    Args:
        file: an empty, seekable text file; with ``append``, any text stream.
        file_format: ``srt``, ``vtt`` or ``txt``.
        limits: the limits of a cue.
        append: never write a cue again. The last cue of an utterance then ends with its last word, however short.
    """

    def __init__(
        self,
        file: IO[str],
        file_format: str,
        limits: CueLimits = DEFAULT_LIMITS,
        *,
        append: bool = False,
    ) -> None:
        self._file = file
        self._append = append
        self._file_format = file_format
        self._limits = limits
        self._last: Final | None = None
        self._number = 1
        if file_format == "vtt":
            file.write(VTT_HEADER)
        self._last_utterance_offset = 0 if append else file.tell()

    def add(self, final: Final) -> None:
        """Append an utterance and flush the file."""
        if self._file_format == "txt":
            self._file.write(to_text([final]))
        elif self._append:
            new_cues = cues([final], self._limits)
            if new_cues:
                # The next utterance, which may begin at once, is not known.
                last = new_cues[-1]
                end_ms = min(last.end_ms, max(final.end_ms, last.start_ms + 1))
                new_cues[-1] = dataclasses.replace(last, end_ms=end_ms)
            self._write(new_cues)
            self._number += len(new_cues)
        else:
            self._rewrite_with(final)
        self._file.flush()

    def _rewrite_with(self, final: Final) -> None:
        self._file.seek(self._last_utterance_offset)
        self._file.truncate()
        before = _utterance_cues(_words(self._last), self._limits) if self._last else []
        new_cues = cues([self._last, final] if self._last else [final], self._limits)
        self._write(new_cues[: len(before)])
        self._last_utterance_offset = self._file.tell()
        self._number += len(before)
        self._write(new_cues[len(before) :])
        self._last = final

    def _write(self, written: Sequence[Cue]) -> None:
        for number, cue in enumerate(written, start=self._number):
            self._file.write(srt_cue(number, cue) if self._file_format == "srt" else vtt_cue(cue))
