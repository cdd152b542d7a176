"""Measure error rates and speed of PocketSphinx on a manifest, scored as `streamasr evaluate` does.

Its English model comes with the package (``pip install "streamasr[bench]"``). Audio is fed in blocks to one
decoder for all utterances, so that its running cepstral mean has adapted as in a long session.

    python benchmarks/pocketsphinx_peer.py --manifest dev/manifest.jsonl

Prints a table, then one JSON line last.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pocketsphinx
from rich.console import Console
from rich.progress import track
from rich.table import Table

from streamasr.errors import StreamasrError
from streamasr.manifest import Utterance, read_manifest
from streamasr.media.reader import read_audio
from streamasr.scoring import Interval, bootstrap_ratio, character_edits, word_edits
from streamasr.text import normalise_english
from streamasr.units import ms_to_samples

SAMPLE_RATE = 16_000
BLOCK_MS = 100
"""Length of a block of audio."""
PCM_SCALE = 32_767


def recognise(utterances: Sequence[Utterance]) -> Iterator[tuple[str, float, float]]:
    """Yield the text of each utterance, its seconds of audio, and the CPU seconds of recognition."""
    decoder = pocketsphinx.Decoder(samprate=SAMPLE_RATE, loglevel="FATAL")
    block = ms_to_samples(BLOCK_MS, SAMPLE_RATE)
    for utterance in utterances:
        samples = read_audio(utterance.audio, SAMPLE_RATE)
        pcm = np.round(np.clip(samples, -1, 1) * PCM_SCALE).astype("<i2")
        began = time.process_time()
        decoder.start_utt()
        for start in range(0, len(pcm), block):
            decoder.process_raw(pcm[start : start + block].tobytes())
        decoder.end_utt()
        best = decoder.hyp()
        seconds = time.process_time() - began
        yield best.hypstr if best else "", len(pcm) / SAMPLE_RATE, seconds


def measure(
    utterances: Sequence[Utterance], answers: Iterable[tuple[str, float, float]], name: str
) -> dict[str, Interval]:
    """Return WER, CER and CPU seconds per second of audio, with 95 % bootstrap intervals over utterances.

    Args:
        utterances: with their transcripts.
        answers: the text of each utterance, its seconds of audio, and the CPU seconds of recognition.
        name: for the progress bar.
    """
    words, characters, audio_s, cpu_s = [], [], [], []
    answers = track(answers, name, len(utterances), console=Console(stderr=True), transient=True)
    for utterance, (text, audio, seconds) in zip(utterances, answers, strict=True):
        pair = normalise_english(utterance.text), normalise_english(text)
        words.append(word_edits(*pair))
        characters.append(character_edits(*pair))
        audio_s.append(audio)
        cpu_s.append(seconds)
    return {
        "wer": bootstrap_ratio([e.errors for e in words], [e.length for e in words]),
        "cer": bootstrap_ratio([e.errors for e in characters], [e.length for e in characters]),
        "rtf": bootstrap_ratio(cpu_s, audio_s),
    }


def print_report(benchmark: str, title: str, utterances: int, measured: dict[str, Interval]) -> None:
    """Print a table, then one JSON line."""
    table = Table("", "value", "95 % interval", title=f"{title}, {utterances} utterances")
    for name, interval in measured.items():
        unit, scale = ("", 1) if name == "rtf" else (" %", 100)
        low, value, high = (f"{scale * x:.2f}{unit}" for x in (interval.low, interval.value, interval.high))
        table.add_row(name.upper(), value, f"{low} – {high}")
    Console().print(table)
    figures = {name: asdict(interval) for name, interval in measured.items()}
    print(json.dumps({"benchmark": benchmark, "utterances": utterances, **figures}))


def main() -> int:
    """Run the measurement and print the results; return 1 if the manifest or its audio cannot be used."""
    parser = argparse.ArgumentParser(
        description="PocketSphinx on a manifest, scored as streamasr evaluate scores."
    )
    parser.add_argument("--manifest", type=Path, required=True, metavar="FILE", help="JSON lines")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N utterances")
    args = parser.parse_args()
    try:
        utterances = read_manifest(args.manifest)[: args.limit]
        measured = measure(utterances, recognise(utterances), "pocketsphinx")
    except StreamasrError as error:
        print(f"pocketsphinx_peer: {error.message}", file=sys.stderr)
        return 1
    print_report("pocketsphinx_peer", "PocketSphinx", len(utterances), measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
