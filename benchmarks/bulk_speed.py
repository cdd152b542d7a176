"""Measure the speed of bulk transcription beside faster-whisper with Whisper base in int8, on the same files.

    python benchmarks/bulk_speed.py --manifest dev/manifest.jsonl --whisper faster-whisper-base --every 2

Both recognisers get all cores: as many workers as cores, with one thread each. Loading the models is not measured.
--whisper is a folder with Whisper base for CTranslate2 (``model.bin``, ``config.json``, ``tokenizer.json``,
``vocabulary.txt``). Prints a table, then one JSON line last.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from streamasr.bulk.recogniser import BulkRecogniser
from streamasr.engine.precision import resolve_precision
from streamasr.errors import StreamasrError
from streamasr.manifest import Utterance, read_manifest
from streamasr.media.inputs import AudioInput
from streamasr.processor import usable_cores
from streamasr.protocol.messages import Start
from streamasr.recognition.model import load_model
from streamasr.recognition.options import resolve_options
from streamasr.scoring import Interval, bootstrap_ratio, word_edits
from streamasr.text import join_words, normalise_english

MODEL = "en-small"
LATENCIES_MS = (640, 1280)
WHISPER_BEAMS = (5, 1)
"""faster-whisper's default, and its fastest."""


@dataclass(frozen=True, slots=True)
class Speed:
    """One recogniser's figures."""

    name: str
    times_real_time: float
    cpu_s_per_audio_s: float
    wer: Interval


def measure(
    name: str, utterances: Sequence[Utterance], recognise: Callable[[Sequence[Path]], Sequence[str]]
) -> Speed:
    """Run a recogniser over all files once."""
    began, began_cpu = time.perf_counter(), time.process_time()
    texts = recognise([utterance.audio for utterance in utterances])
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
    audio_s = sum(utterance.duration_s for utterance in utterances)
    edits = [
        word_edits(normalise_english(utterance.text), normalise_english(text))
        for utterance, text in zip(utterances, texts, strict=True)
    ]
    wer = bootstrap_ratio([each.errors for each in edits], [each.length for each in edits])
    return Speed(name, audio_s / seconds, cpu_s / audio_s, wer)


def streamasr_recogniser(latency_ms: int, workers: int) -> Callable[[Sequence[Path]], Sequence[str]]:
    """Load en-small, in the precision that is the fastest here."""
    torch.set_num_threads(1)
    model = load_model(MODEL, precision=resolve_precision("auto", MODEL), threads=1)
    options = resolve_options(Start(latency_ms=latency_ms, partials=False), model)

    def recognise(paths: Sequence[Path]) -> Sequence[str]:
        longest_first = sorted(range(len(paths)), key=lambda index: -paths[index].stat().st_size)
        recogniser = BulkRecogniser(
            model,
            options,
            longest_first,
            lambda index: AudioInput(paths[index], str(paths[index])),
            workers=workers,
        )
        outcomes = {outcome.index: outcome for outcome in recogniser.outcomes() if outcome is not None}
        return [join_words(final.text for final in outcomes[index].finals) for index in range(len(paths))]

    return recognise


def whisper_recogniser(folder: Path, beam: int, workers: int) -> Callable[[Sequence[Path]], Sequence[str]]:
    """Load Whisper base in int8."""
    from faster_whisper import WhisperModel

    model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1, num_workers=workers)

    def one(path: Path) -> str:
        segments, _ = model.transcribe(
            str(path), language="en", beam_size=beam, condition_on_previous_text=False
        )
        return " ".join(segment.text.strip() for segment in segments)

    def recognise(paths: Sequence[Path]) -> Sequence[str]:
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(one, paths))

    return recognise


def main() -> int:
    """Run the measurements and print the results; return 1 if a file cannot be used."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", type=Path, required=True, metavar="FILE", help="JSON lines")
    parser.add_argument("--whisper", type=Path, metavar="DIR", help="Whisper base for CTranslate2")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth utterance")
    args = parser.parse_args()
    workers = usable_cores()
    try:
        utterances = read_manifest(args.manifest)[:: args.every]
        speeds = [
            measure(f"{MODEL}, {latency} ms chunks", utterances, streamasr_recogniser(latency, workers))
            for latency in LATENCIES_MS
        ]
        if args.whisper is not None:
            speeds += [
                measure(
                    f"faster-whisper base int8, beam {beam}",
                    utterances,
                    whisper_recogniser(args.whisper, beam, workers),
                )
                for beam in WHISPER_BEAMS
            ]
    except StreamasrError as error:
        print(f"bulk_speed: {error.message}", file=sys.stderr)
        return 1
    minutes = sum(utterance.duration_s for utterance in utterances) / 60
    table = Table(
        "", "× real time", "CPU s/s", "WER", "95 % interval",
        title=f"{len(utterances)} files, {minutes:.1f} min, {workers} workers",
    )  # fmt: skip
    for speed in speeds:
        low, value, high = (f"{100 * x:.1f} %" for x in (speed.wer.low, speed.wer.value, speed.wer.high))
        table.add_row(
            speed.name,
            f"{speed.times_real_time:.1f}",
            f"{speed.cpu_s_per_audio_s:.3f}",
            value,
            f"{low} – {high}",
        )
    Console().print(table)
    print(json.dumps({"benchmark": "bulk_speed", "workers": workers, "speeds": [asdict(s) for s in speeds]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
