"""Define the results of an evaluation, from which tables, pages and model cards are made, and read them from JSON.

Rates are shares from 0 to 1, times are in seconds.
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
"""Name of the evaluation in a run's folder."""

Unit = Literal["word", "character"]
"""Unit of a language's main error rate: words (WER), or characters without spaces (CER)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecognisedUtterance:
    """The reference and the hypothesis of one utterance, both normalised in the same way."""

    audio: str
    """Path of the audio file."""
    seconds: float
    """Duration of the audio."""
    reference: str
    hypothesis: str
    speaker: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The result of a manifest at one chunk size and decoding mode; confidence intervals are over utterances."""

    manifest: str
    mode: str
    """``greedy``, ``beam`` or ``beam+lm``."""
    chunk_ms: int | None
    """Chunk size; ``None`` for offline recognition, in which each frame sees the whole utterance."""
    utterances: int
    audio_s: float
    wer: Interval
    cer: Interval
    words: Edits
    characters: Edits
    rtf: Interval
    """Real-time factor: seconds of computing, by encoder and decoder, per second of audio."""
    cpu: float
    """CPU seconds, over all threads, per second of audio."""
    answers: tuple[RecognisedUtterance, ...] = ()

    def headline(self, unit: Unit) -> Interval:
        """Return the main error rate: WER or CER, depending on the unit."""
        return self.cer if unit == "character" else self.wer


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The results of a model on manifests, at several chunk sizes and in several decoding modes."""

    model: str
    language: str
    date: str
    """Date of the measurement, in ISO 8601."""
    machine: str
    """Description of the machine, such as the name of its processor."""
    parameters: int
    """Number of parameters of the encoder."""
    measurements: tuple[Measurement, ...]

    @property
    def unit(self) -> Unit:
        """Unit of the main error rate."""
        return text_rules(self.language).unit

    def to_json(self) -> str:
        """Return the evaluation as a JSON object, which :func:`read_evaluation` reads."""
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
    """Score recognised utterances.

    Args:
        answers: the utterances, at least one.
        seconds: computing time of each utterance.
        manifest: name of the manifest.
        mode: the decoding mode.
        chunk_ms: the chunk size; ``None`` for offline recognition.
        cpu_s: CPU seconds of all utterances together.
        unit: with ``character``, spaces do not count in the CER.
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
    """Select the measurement whose errors are analysed.

    It is streamed, if there is such a measurement, at the chunk size nearest to ``chunk_ms``; of several decoding
    modes the last one is taken.
    """
    streamed = [m for m in measurements if m.chunk_ms is not None]
    if not streamed:
        return measurements[-1]
    nearest = min(abs((m.chunk_ms or 0) - chunk_ms) for m in streamed)
    return [m for m in streamed if abs((m.chunk_ms or 0) - chunk_ms) == nearest][-1]


def read_evaluation(path: Path) -> Evaluation:
    """Read an evaluation that ``streamasr evaluate --json`` has printed.

    Raises:
        DataError: the file does not exist or is not an evaluation.
    """
    try:
        return from_mapping(Evaluation, json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, IsADirectoryError):
        raise DataError(
            f"{path}: no such file; write the output of `streamasr evaluate … --json` to it"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not valid JSON: {error}") from None
    except ConfigError as error:
        raise DataError(
            f"{path}: not an evaluation that `streamasr evaluate --json` has printed: {error.message}"
        ) from None
