"""What an evaluation measured, as values that go to JSON and back: the source of tables, pages and model cards.

Knows how rates are made of answers; no model, no audio, no file layout. Rates are shares of one, times are seconds.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from streamasr.errors import ConfigError, DataError
from streamasr.scoring import Edits, Interval, bootstrap_ratio, character_edits, word_edits
from streamasr.text import text_rules
from streamasr.toml import from_mapping

EVALUATION_FILE = "evaluation.json"
"""Name of a run's evaluation in its folder."""

Unit = Literal["word", "character"]
"""What the headline rate of a language counts: WER's words, or CER's characters, spaces left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecognisedUtterance:
    """One utterance, as it should be and as it was recognised, both normalised alike."""

    audio: str
    seconds: float
    """Of audio."""
    reference: str
    hypothesis: str
    speaker: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A manifest at one chunk size, decoded in one way; every interval is over utterances."""

    manifest: str
    mode: str
    """``greedy``, ``beam`` or ``beam+lm``."""
    chunk_ms: int | None
    """``None`` for offline: every frame sees its whole utterance."""
    utterances: int
    audio_s: float
    wer: Interval
    cer: Interval
    words: Edits
    characters: Edits
    rtf: Interval
    """Seconds of waiting for one second of audio: encoder and this mode's decoding."""
    cpu: float
    """CPU seconds, over all threads, for one second of audio."""
    answers: tuple[RecognisedUtterance, ...] = ()

    def headline(self, unit: Unit) -> Interval:
        """WER or CER, as the language has it."""
        return self.cer if unit == "character" else self.wer


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A model on manifests, at chunk sizes, decoded in modes."""

    model: str
    language: str
    date: str
    """ISO 8601."""
    machine: str
    """What it was measured on, in words."""
    parameters: int
    """Numbers in the encoder."""
    measurements: tuple[Measurement, ...]

    @property
    def unit(self) -> Unit:
        """What the headline rate counts."""
        return text_rules(self.language).unit

    def to_json(self) -> str:
        """One JSON object; :func:`read_evaluation` reads an equal value back."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False)


def measure(
    answers: Sequence[RecognisedUtterance],
    seconds: Sequence[float],
    *,
    manifest: str,
    mode: str,
    chunk_ms: int | None,
    cpu_s: float,
    unit: Unit,
) -> Measurement:
    """Score answers.

    Args:
        answers: at least one.
        seconds: computing time of each.
        manifest: its name.
        mode: how they were decoded.
        chunk_ms: chunk size, ``None`` for offline.
        cpu_s: CPU seconds of all of them together.
        unit: with ``character``, spaces are not counted in the character error rate.
    """
    words = [word_edits(answer.reference, answer.hypothesis) for answer in answers]
    characters = [_character_edits(answer, unit) for answer in answers]
    audio_s = [answer.seconds for answer in answers]
    return Measurement(
        manifest=manifest,
        mode=mode,
        chunk_ms=chunk_ms,
        utterances=len(answers),
        audio_s=round(sum(audio_s), 3),
        wer=bootstrap_ratio([e.errors for e in words], [e.length for e in words]),
        cer=bootstrap_ratio([e.errors for e in characters], [e.length for e in characters]),
        words=sum(words, Edits()),
        characters=sum(characters, Edits()),
        rtf=bootstrap_ratio(seconds, audio_s),
        cpu=cpu_s / sum(audio_s),
        answers=tuple(answers),
    )


def _character_edits(answer: RecognisedUtterance, unit: Unit) -> Edits:
    if unit == "character":
        return character_edits(answer.reference.replace(" ", ""), answer.hypothesis.replace(" ", ""))
    return character_edits(answer.reference, answer.hypothesis)


def select_measurement(measurements: Sequence[Measurement], chunk_ms: int = 640) -> Measurement:
    """The measurement whose errors are looked into.

    Streamed if anything was, at the chunk size nearest ``chunk_ms``; of its modes the one measured last.
    """
    streamed = [m for m in measurements if m.chunk_ms is not None]
    if not streamed:
        return measurements[-1]
    nearest = min(abs((m.chunk_ms or 0) - chunk_ms) for m in streamed)
    return [m for m in streamed if abs((m.chunk_ms or 0) - chunk_ms) == nearest][-1]


def read_evaluation(path: Path) -> Evaluation:
    """An evaluation that ``streamasr evaluate --json`` has printed.

    Raises:
        DataError: no such file, or not an evaluation; the message says what was wrong.
    """
    try:
        return from_mapping(Evaluation, json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, IsADirectoryError):
        raise DataError(
            f"{path}: no such file; `streamasr evaluate … --json` prints what belongs there"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not valid JSON: {error}") from None
    except ConfigError as error:
        raise DataError(
            f"{path}: not an evaluation of `streamasr evaluate --json`: {error.message}"
        ) from None
