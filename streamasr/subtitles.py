"""Write finished utterances as plain text, SRT, WebVTT and JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import IO

from streamasr.cues import DEFAULT_LIMITS, Cue, CueLimits, cues
from streamasr.protocol.messages import Final
from streamasr.units import MS_PER_SECOND


def to_srt(finals: Iterable[Final], limits: CueLimits = DEFAULT_LIMITS) -> str:
    """Return the utterances as a SubRip (SRT) file."""
    return "".join(srt_cue(number, cue) for number, cue in enumerate(cues(finals, limits), start=1))


def srt_cue(number: int, cue: Cue) -> str:
    """Return one SRT cue with the empty line that ends it."""
    times = f"{_timestamp(cue.start_ms, ',')} --> {_timestamp(cue.end_ms, ',')}"
    return "\n".join([str(number), times, *cue.lines, "", ""])


SEPARATOR = ": "
"""Between the label of a speaker or channel and the text."""


def label_text(label: str, text: str) -> str:
    """Return the text with the label before it, if there is one."""
    return f"{label}{SEPARATOR}{text}" if label else text


def labelled_cues(
    label: str, finals: Iterable[Final], limits: CueLimits = DEFAULT_LIMITS, *, earliest_ms: int = 0
) -> list[Cue]:
    """Return the cues of one speaker or channel. The first line of each begins with the label and is no longer."""
    narrower = dataclasses.replace(limits, line_chars=max(1, limits.line_chars - len(label_text(label, ""))))
    found = cues(finals, narrower, earliest_ms=earliest_ms)
    return [
        dataclasses.replace(cue, lines=(label_text(label, cue.lines[0]), *cue.lines[1:])) for cue in found
    ]


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
        overlapping: with ``append``, cues of different utterances may overlap, as those of several channels do.
    """

    def __init__(
        self,
        file: IO[str],
        file_format: str,
        limits: CueLimits = DEFAULT_LIMITS,
        *,
        append: bool = False,
        overlapping: bool = False,
    ) -> None:
        self._file = file
        self._append = append
        self._overlapping = overlapping
        self._file_format = file_format
        self._limits = limits
        self._last: Final | None = None
        self._last_cues = 0
        self._earliest_ms = 0
        self._number = 1
        if file_format == "vtt":
            file.write(VTT_HEADER)
        self._last_utterance_offset = 0 if append else file.tell()

    def add(self, final: Final, label: str = "") -> None:
        """Append an utterance and flush the file.

        Args:
            final: the utterance.
            label: its speaker or channel, with which each of its cues begins; only with ``append``.
        """
        assert self._append or not label, "cues of labelled utterances are not written again"
        if self._file_format == "txt":
            self._file.write(to_text([dataclasses.replace(final, text=label_text(label, final.text))]))
        elif self._append:
            self._append_cues(final, label)
        else:
            self._rewrite_with(final)
        self._file.flush()

    def _append_cues(self, final: Final, label: str) -> None:
        earliest_ms = 0 if self._overlapping else self._earliest_ms
        new_cues = labelled_cues(label, [final], self._limits, earliest_ms=earliest_ms)
        if not new_cues:
            return
        # The next utterance, which may begin at once, is not known.
        last = new_cues[-1]
        end_ms = min(last.end_ms, max(final.end_ms, last.start_ms + self._limits.shortest_ms))
        new_cues[-1] = dataclasses.replace(last, end_ms=end_ms)
        self._write(new_cues)
        self._number += len(new_cues)
        self._earliest_ms = end_ms

    def _rewrite_with(self, final: Final) -> None:
        alone = len(cues([final], self._limits))
        if not alone:
            return
        self._file.seek(self._last_utterance_offset)
        self._file.truncate()
        finals = [final] if self._last is None else [self._last, final]
        new_cues = cues(finals, self._limits, earliest_ms=self._earliest_ms)
        finished = new_cues[: self._last_cues]
        self._write(finished)
        self._last_utterance_offset = self._file.tell()
        self._number += len(finished)
        if finished:
            self._earliest_ms = finished[-1].start_ms + self._limits.shortest_ms
        self._write(new_cues[len(finished) :])
        self._last, self._last_cues = final, alone

    def _write(self, written: Sequence[Cue]) -> None:
        for number, cue in enumerate(written, start=self._number):
            self._file.write(srt_cue(number, cue) if self._file_format == "srt" else vtt_cue(cue))
