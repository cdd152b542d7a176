"""Check manifests before training: find errors in their lines and audio files, and collect statistics."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from streamasr.errors import ConfigError, DataError
from streamasr.manifest import Utterance, parse_utterance
from streamasr.text import symbols_to_spell_out
from streamasr.textfile import read_lines
from streamasr.training.data.audio.header import Levels, read_levels
from streamasr.training.data.audio.processes import Progress, map_in_processes

if TYPE_CHECKING:
    from streamasr.training.tokenizer import Tokenizer

Kind = Literal[
    "line",
    "audio",
    "duration",
    "empty",
    "tokens",
    "unalignable",
    "duplicate",
    "tight",
    "silent",
    "clipped",
    "odd",
]
WARNINGS: frozenset[Kind] = frozenset({"tight", "silent", "clipped", "odd"})
"""Kinds of findings that can be intended; all others are errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions:
    """Limits of the checks."""

    tolerance_s: float = 0.1
    """Largest difference between the durations of manifest and file."""
    frame_rate: float = 50.0
    """Encoder frames per second."""
    fastest: float = 1.0
    """The highest speed factor in training."""
    silent_db: float = -60.0
    """Level (RMS, dB relative to full scale) below which a file is reported as silent."""
    clipped_share: float = 0.01
    """Share of clipped samples above which a file is reported as clipped."""
    workers: int | None = None
    """Processes that decode; by default one for each CPU that this process may use."""

    def __post_init__(self) -> None:
        for name in ("frame_rate", "fastest"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")
        if self.tolerance_s < 0:
            raise ConfigError(f"tolerance_s must not be negative, got {self.tolerance_s}")


@dataclass(frozen=True, slots=True)
class Finding:
    """An error or warning about one line of a manifest."""

    manifest: Path
    line: int
    """Line number, from 1."""
    kind: Kind
    message: str

    @property
    def is_error(self) -> bool:
        """Whether the line makes training fail or harms the model; other findings are warnings."""
        return self.kind not in WARNINGS

    def __str__(self) -> str:
        return f"{self.manifest}:{self.line}: {'error' if self.is_error else 'warning'}: {self.message}"


@dataclass(slots=True)
class UtteranceValues:
    """One number per readable utterance for each statistic; the histograms show them."""

    duration_s: list[float] = field(default_factory=list)
    characters_per_second: list[float] = field(default_factory=list)
    level_db: list[float] = field(default_factory=list)
    frames_per_needed: list[float] = field(default_factory=list)
    """Encoder frames divided by the frames that CTC needs; below 1 the transcript cannot be aligned."""

    NAMES = ("duration_s", "characters_per_second", "level_db", "frames_per_needed")


@dataclass(slots=True)
class CheckResult:
    """The findings and statistics of a check."""

    findings: list[Finding] = field(default_factory=list)
    values: UtteranceValues = field(default_factory=UtteranceValues)
    utterances: int = 0
    """Number of lines with an utterance, usable or not."""
    speakers: set[str] = field(default_factory=set)
    characters: Counter[str] = field(default_factory=Counter)
    sample_rates: Counter[int] = field(default_factory=Counter)

    @property
    def errors(self) -> list[Finding]:
        """The findings that are errors."""
        return [finding for finding in self.findings if finding.is_error]

    def summary(self) -> dict[str, object]:
        """Return counts, hours, and the spread of each statistic, as values for JSON."""
        return {
            "utterances": self.utterances,
            "hours": sum(self.values.duration_s) / 3600,
            "speakers": len(self.speakers),
            "sample_rates": {str(rate): count for rate, count in sorted(self.sample_rates.items())},
            "characters": dict(sorted(self.characters.items())),
            "values": {name: _spread(getattr(self.values, name)) for name in UtteranceValues.NAMES},
            "errors": len(self.errors),
            "warnings": len(self.findings) - len(self.errors),
        }


def frames_needed(labels: Sequence[int] | str) -> int:
    """Return the fewest encoder frames for which CTC has a path: one per label, and one per blank between repeats.

    CTC outputs a repeated label only with a blank between the two (Graves et al. 2006, section 3).
    """
    repeats = sum(first == second for first, second in itertools.pairwise(labels))
    return len(labels) + repeats


def check_manifests(
    manifests: Sequence[Path],
    options: CheckOptions,
    tokenizer: Tokenizer | None = None,
    progress: Progress | None = None,
) -> CheckResult:
    """Check all lines of the manifests, and decode all their audio files.

    Args:
        manifests: the manifests, checked together: an audio file in two of them is a duplicate.
        options: the limits of the checks.
        tokenizer: the model's tokenizer; with ``None``, labels are characters, and any character is allowed.
        progress: called after each decoded file.

    Raises:
        DataError: a manifest cannot be read.
    """
    checked = CheckResult()
    lines: list[tuple[Path, int, Utterance]] = []
    first_of: dict[Path, str] = {}
    for manifest, number, line in _numbered_lines(manifests):
        checked.utterances += 1
        try:
            utterance = parse_utterance(line, manifest, number)
        except DataError as error:
            message = error.message.removeprefix(f"{manifest}:{number}: ")
            checked.findings.append(Finding(manifest, number, "line", message))
            continue
        lines.append((manifest, number, utterance))
        audio = utterance.audio.resolve()
        first = first_of.setdefault(audio, f"{manifest}:{number}")
        if first != f"{manifest}:{number}":
            message = f"{utterance.audio} is also in {first}"
            checked.findings.append(Finding(manifest, number, "duplicate", message))
    levels = map_in_processes(
        _levels, [utterance.audio for *_, utterance in lines], workers=options.workers, progress=progress
    )
    for (manifest, number, utterance), measured in zip(lines, levels, strict=True):
        for kind, message in _findings(utterance, measured, options, tokenizer, checked):
            checked.findings.append(Finding(manifest, number, kind, message))
    order = {manifest: place for place, manifest in enumerate(manifests)}
    checked.findings.sort(key=lambda finding: (order[finding.manifest], finding.line))
    return checked


def _numbered_lines(manifests: Sequence[Path]) -> Iterable[tuple[Path, int, str]]:
    for manifest in manifests:
        try:
            lines = read_lines(manifest)
        except (FileNotFoundError, IsADirectoryError):
            raise DataError(f"{manifest}: no such file") from None
        except UnicodeDecodeError as error:
            raise DataError(f"{manifest}: not UTF-8: {error}") from None
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield manifest, number, line


def _labels(text: str, tokenizer: Tokenizer | None) -> tuple[Sequence[int] | str, tuple[Kind, str] | None]:
    """Return the labels that CTC has to align for ``text``, and a finding about the text, if there is one."""
    if not text:
        return text, ("empty", "the transcript is empty")
    if tokenizer is None:
        symbols = symbols_to_spell_out(text)
        message = f"{sorted(symbols)} in {text!r}: write numbers and symbols as they are spoken"
        return text, ("tokens", message) if symbols else None
    try:
        ids = tokenizer.encode(text)
    except DataError as error:
        return text, ("tokens", error.message)
    return (ids, None) if ids else (text, ("empty", f"the transcript {text!r} is empty after normalisation"))


def _findings(
    utterance: Utterance,
    measured: Levels | str,
    options: CheckOptions,
    tokenizer: Tokenizer | None,
    checked: CheckResult,
) -> Iterable[tuple[Kind, str]]:
    """Yield the findings about one utterance, and add its statistics to ``checked``."""
    text = " ".join(utterance.text.split())
    checked.characters.update(text)
    if utterance.speaker:
        checked.speakers.add(utterance.speaker)
    labels, finding = _labels(text, tokenizer)
    if finding is not None:
        yield finding
    if isinstance(measured, str):
        yield "audio", measured
        return

    values, duration_s = checked.values, measured.header.duration_s
    checked.sample_rates[measured.header.sample_rate] += 1
    values.duration_s.append(duration_s)
    values.level_db.append(measured.rms_db)
    if not measured.header.frames:
        yield "audio", f"{utterance.audio}: has no samples"
        return
    if measured.header.incomplete:
        yield "audio", measured.header.incomplete
    for warning in measured.warnings:
        yield "odd", warning
    difference_s = abs(duration_s - utterance.duration_s)
    if difference_s > options.tolerance_s:
        yield (
            "duration",
            f"the duration is given as {utterance.duration_s:.2f} s but the file has {duration_s:.2f} s "
            f"(tolerance {options.tolerance_s:g} s)",
        )
    if measured.rms_db < options.silent_db:
        yield (
            "silent",
            f"{utterance.audio} is almost silent ({measured.rms_db:.0f} dB relative to full scale)",
        )
    if measured.clipped_share > options.clipped_share:
        yield "clipped", f"{utterance.audio}: {measured.clipped_share:.1%} of the samples are clipped"
    if text:
        values.characters_per_second.append(len(text) / duration_s)
        needed = frames_needed(labels)
        frames = _frames(duration_s, options.frame_rate)
        values.frames_per_needed.append(frames / needed)
        need = f"{len(labels)} labels with {needed - len(labels)} repeats need {needed} frames"
        if needed > frames:
            yield "unalignable", f"{need}, the audio has {frames}: CTC cannot align it"
        elif needed > (fast := _frames(duration_s / options.fastest, options.frame_rate)):
            yield "tight", f"{need}, the audio has {fast} at {options.fastest:g} times its speed"


def _frames(duration_s: float, frame_rate: float) -> int:
    """Return the number of encoder frames for a duration; silence completes the last frame."""
    return int(np.ceil(round(duration_s * frame_rate, 6)))


def _levels(audio: Path) -> Levels | str:
    try:
        return read_levels(audio)
    except DataError as error:
        return error.message


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    low, p5, median, p95, high = np.percentile(values, [0, 5, 50, 95, 100])
    return {"low": low, "p5": p5, "median": median, "p95": p95, "high": high}
