"""Looks a manifest through before anybody trains on it: what is wrong with which line, and what it holds.

Knows no encoder: how many frames a second it gives is an option. Nothing is changed or written.
"""

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
"""Kinds that may be meant so; all others are errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions:
    """What counts as wrong."""

    tolerance_s: float = 0.1
    """How far a manifest's duration may be from the file's."""
    frame_rate: float = 50.0
    """Output frames a second of the encoder: 100 mel frames, halved."""
    fastest: float = 1.0
    """The highest factor of speed that training will play the sound at."""
    silent_db: float = -60.0
    """Files of a lower root mean square (dB of full scale) are called silent."""
    clipped_share: float = 0.01
    """Files with a larger share of samples at full scale are called clipped."""
    workers: int | None = None
    """Processes that decode; one for every CPU by default."""

    def __post_init__(self) -> None:
        for name in ("frame_rate", "fastest"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")
        if self.tolerance_s < 0:
            raise ConfigError(f"tolerance_s must not be negative, got {self.tolerance_s}")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about one line."""

    manifest: Path
    line: int
    """From 1."""
    kind: Kind
    message: str

    @property
    def is_error(self) -> bool:
        """Whether training on this line would fail or learn something wrong."""
        return self.kind not in WARNINGS

    def __str__(self) -> str:
        return f"{self.manifest}:{self.line}: {'error' if self.is_error else 'warning'}: {self.message}"


@dataclass(slots=True)
class Values:
    """One number for every readable utterance; what the histograms show."""

    duration_s: list[float] = field(default_factory=list)
    characters_per_second: list[float] = field(default_factory=list)
    level_db: list[float] = field(default_factory=list)
    frames_per_needed: list[float] = field(default_factory=list)
    """Output frames over the frames that CTC needs; below 1 the transcript cannot be aligned."""

    NAMES = ("duration_s", "characters_per_second", "level_db", "frames_per_needed")


@dataclass(slots=True)
class CheckResult:
    """All that was found."""

    findings: list[Finding] = field(default_factory=list)
    values: Values = field(default_factory=Values)
    utterances: int = 0
    """Lines that name an utterance, usable or not."""
    speakers: set[str] = field(default_factory=set)
    characters: Counter[str] = field(default_factory=Counter)
    sample_rates: Counter[int] = field(default_factory=Counter)

    @property
    def errors(self) -> list[Finding]:
        """The findings that are errors."""
        return [finding for finding in self.findings if finding.is_error]

    def summary(self) -> dict[str, object]:
        """Counts, hours, and lowest, median and highest of every value, as JSON can hold it."""
        return {
            "utterances": self.utterances,
            "hours": sum(self.values.duration_s) / 3600,
            "speakers": len(self.speakers),
            "sample_rates": {str(rate): count for rate, count in sorted(self.sample_rates.items())},
            "characters": dict(sorted(self.characters.items())),
            "values": {name: _spread(getattr(self.values, name)) for name in Values.NAMES},
            "errors": len(self.errors),
            "warnings": len(self.findings) - len(self.errors),
        }


def frames_needed(labels: Sequence[int] | str) -> int:
    """Output frames without which CTC has no path: one a label, and a blank between equal neighbours.

    Graves et al. 2006, section 3: a repeated label is only heard twice across a blank.
    """
    repeats = sum(first == second for first, second in itertools.pairwise(labels))
    return len(labels) + repeats


def check_manifests(
    manifests: Sequence[Path],
    options: CheckOptions,
    tokenizer: Tokenizer | None = None,
    progress: Progress | None = None,
) -> CheckResult:
    """Decode every file of the manifests and look every line through.

    Args:
        manifests: looked through together, so that an utterance in two of them is a duplicate.
        options: what counts as wrong.
        tokenizer: the model's; without it a label is a character, and any character will do.
        progress: told of every file.

    Raises:
        DataError: a manifest itself cannot be read.
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
    """What CTC has to align for ``text``, and what is wrong with it, if anything."""
    if not text:
        return text, ("empty", "the transcript is empty")
    if tokenizer is None:
        symbols = symbols_to_spell_out(text)
        what = f"{sorted(symbols)} in {text!r}: write numbers and symbols as they are spoken"
        return text, ("tokens", what) if symbols else None
    try:
        ids = tokenizer.encode(text)
    except DataError as error:
        return text, ("tokens", error.message)
    return (
        (ids, None)
        if ids
        else (text, ("empty", f"nothing that is symbols is left of the transcript {text!r}"))
    )


def _findings(
    utterance: Utterance,
    measured: Levels | str,
    options: CheckOptions,
    tokenizer: Tokenizer | None,
    checked: CheckResult,
) -> Iterable[tuple[Kind, str]]:
    """What is wrong with one utterance; its figures are added to ``checked`` on the way."""
    text = " ".join(utterance.text.split())
    checked.characters.update(text)
    if utterance.speaker:
        checked.speakers.add(utterance.speaker)
    labels, complaint = _labels(text, tokenizer)
    if complaint is not None:
        yield complaint
    if isinstance(measured, str):
        yield "audio", measured
        return

    values, duration_s = checked.values, measured.header.duration_s
    checked.sample_rates[measured.header.sample_rate] += 1
    values.duration_s.append(duration_s)
    values.level_db.append(measured.rms_db)
    if not measured.header.frames:
        yield "audio", f"{utterance.audio}: holds no sound"
        return
    if measured.header.incomplete:
        yield "audio", measured.header.incomplete
    for warning in measured.warnings:
        yield "odd", warning
    off_s = abs(duration_s - utterance.duration_s)
    if off_s > options.tolerance_s:
        yield (
            "duration",
            f"duration is given as {utterance.duration_s:.2f} s but the file has {duration_s:.2f} s "
            f"(tolerance {options.tolerance_s:g} s)",
        )
    if measured.rms_db < options.silent_db:
        yield "silent", f"{utterance.audio} is all but silent ({measured.rms_db:.0f} dB of full scale)"
    if measured.clipped_share > options.clipped_share:
        yield "clipped", f"{utterance.audio}: {measured.clipped_share:.1%} of the samples are clipped"
    if text:
        values.characters_per_second.append(len(text) / duration_s)
        needed = frames_needed(labels)
        frames = _frames(duration_s, options.frame_rate)
        values.frames_per_needed.append(frames / needed)
        what = f"{len(labels)} labels with {needed - len(labels)} repeats need {needed} frames"
        if needed > frames:
            yield "unalignable", f"{what}, the sound has {frames}: CTC cannot align it"
        elif needed > (fast := _frames(duration_s / options.fastest, options.frame_rate)):
            yield "tight", f"{what}, the sound has {fast} when played {options.fastest:g} times as fast"


def _frames(duration_s: float, frame_rate: float) -> int:
    """Output frames of so much sound; the last, incomplete one is completed with silence."""
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
