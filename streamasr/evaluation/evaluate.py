"""Measure a model's error rates and cost on manifests, at several chunk sizes and offline, in several modes."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from streamasr.errors import ConfigError, DataError
from streamasr.evaluation.decoding_pass import DecodedUtterance, Mode, PassCost, decode_files, default_modes
from streamasr.manifest import Utterance, manifest_names, read_manifest
from streamasr.processor import processor_name
from streamasr.recognition.devices import Device
from streamasr.recognition.model import LoadedModel
from streamasr.report.results import Evaluation, Measurement, RecognisedUtterance, measure
from streamasr.text import TextRules, text_rules

DEFAULT_CHUNK_MS = 640


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptions:
    """What to measure."""

    chunk_ms: tuple[int, ...] | None = (DEFAULT_CHUNK_MS,)
    """Latencies; each selects the largest chunk size that is not longer. ``None`` for all sizes of the model."""
    offline: bool = False
    """Also measure with full context, which no stream has: the difference is the cost of streaming."""
    modes: tuple[Mode, ...] = ()
    """How to decode; empty for the daemon's own mode."""
    batch: int = 16
    """Utterances at a time."""

    def __post_init__(self) -> None:
        if any(size <= 0 for size in self.chunk_ms or ()) or self.batch <= 0:
            sizes = ", ".join(map(str, self.chunk_ms or ())) or "all"
            raise ConfigError(f"--chunk-ms and --batch must be positive, got {sizes} and {self.batch}")
        if self.chunk_ms == () and not self.offline:
            raise ConfigError("nothing to measure; give a chunk size, or --offline")


Progress = Callable[[str, int | None], None]
"""Called for every finished utterance with the manifest's name and the chunk size in ms."""


def evaluate(
    model: LoadedModel,
    manifests: Mapping[str, Sequence[Utterance]],
    options: EvaluationOptions,
    progress: Progress = lambda _name, _chunk_ms: None,
) -> Evaluation:
    """Recognise every manifest once at each chunk size, and score it in each mode.

    Args:
        model: what to run.
        manifests: names and utterances; at least one utterance each.
        options: what to measure.
        progress: called for every utterance of every pass; see :func:`passes`.

    Raises:
        DataError: an audio file is missing, unreadable or empty.
        ConfigError: a mode needs a language model and the model has none, pyctcdecode is not installed, or the model
            cannot process whole utterances, as ``offline`` demands.
    """
    measurements: list[Measurement] = []
    for name, utterances in manifests.items():
        for chunk_frames in passes(model, options):
            measurements += _measure_pass(model, name, utterances, chunk_frames, options, progress=progress)
    return Evaluation(
        model=model.config.name,
        language=model.config.language,
        date=datetime.date.today().isoformat(),
        machine=describe_machine(model.device),
        parameters=model.parameters,
        measurements=tuple(measurements),
    )


def passes(model: LoadedModel, options: EvaluationOptions) -> list[int | None]:
    """Return the passes over each manifest: chunk sizes in encoder frames, ascending, then ``None`` for offline.

    Raises:
        ConfigError: the model cannot process whole utterances, as ``offline`` demands.
    """
    if options.offline and not model.encoder.supports_whole_utterances:
        raise ConfigError(
            f"--offline needs the weights of {model.config.name}; its folder has only an exported graph"
        )
    if options.chunk_ms is None:
        streamed = set(model.encoder.chunk_frames)
    else:
        streamed = {model.chunk_frames_for(size) for size in options.chunk_ms}
    return [*sorted(streamed), *([None] if options.offline else [])]


def read_manifests(paths: Sequence[Path], limit: int | None = None) -> dict[str, list[Utterance]]:
    """Read manifests and name them (see :func:`~streamasr.manifest.manifest_names`).

    Args:
        paths: the files.
        limit: read only this many utterances of each.

    Raises:
        DataError: a file cannot be read.
    """
    if limit is not None and limit <= 0:
        raise ConfigError(f"--limit must be positive, got {limit}")
    paths = list(dict.fromkeys(paths))
    return {
        name: read_manifest(path)[:limit] for name, path in zip(manifest_names(paths), paths, strict=True)
    }


def describe_machine(device: Device) -> str:
    """Describe the hardware: the processor with cores and threads, or the GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(str(device))
    threads = torch.get_num_threads()
    return f"{processor_name()}, {_count(os.cpu_count() or 1, 'core')}, {_count(threads, 'thread')}"


def _measure_pass(
    model: LoadedModel,
    name: str,
    utterances: Sequence[Utterance],
    chunk_frames: int | None,
    options: EvaluationOptions,
    *,
    progress: Progress,
) -> list[Measurement]:
    if not utterances:
        raise DataError(f"{name}: contains no utterances")
    modes = options.modes or default_modes(model)
    chunk_ms = None if chunk_frames is None else model.chunk_ms(chunk_frames)
    cost = PassCost()
    decoded: dict[Mode, list[DecodedUtterance]] = {mode: [] for mode in modes}
    for results in decode_files(
        model,
        [utterance.audio for utterance in utterances],
        chunk_frames=chunk_frames,
        modes=modes,
        batch=options.batch,
        cost=cost,
    ):
        for result in results:
            decoded[result.mode].append(result)
        progress(name, chunk_ms)
    rules = text_rules(model.config.language)
    measured = []
    for mode, results in decoded.items():
        results.sort(key=lambda result: result.index)
        measured.append(
            measure(
                [_answer(utterances[result.index], result, rules) for result in results],
                [result.seconds for result in results],
                manifest=name,
                mode=mode.value,
                chunk_ms=chunk_ms,
                cpu_s=cost.encoder_cpu_s + sum(result.cpu_s for result in results),
                unit=rules.unit,
            )
        )
    return measured


def _answer(utterance: Utterance, decoded: DecodedUtterance, rules: TextRules) -> RecognisedUtterance:
    return RecognisedUtterance(
        audio=str(utterance.audio),
        seconds=decoded.audio_s,
        reference=rules.normalise(utterance.text),
        hypothesis=rules.normalise(decoded.text),
        speaker=utterance.speaker,
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
