"""Measure what the neural language model for finals is worth: error rates and time, with and without it.

    python benchmarks/neural_lm.py --manifest dev/manifest.jsonl --weights 0 0.15 0.3 0.45

The encoder runs once over each manifest, in chunks of 640 ms. Its log-probs are decoded with each weight of the
network; 0 is the search alone. Prints a table, then one JSON line last.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from streamasr.decoding.rescoring import Rescorer
from streamasr.decoding.utterance import UtteranceDecoder
from streamasr.errors import ConfigError, StreamasrError
from streamasr.evaluation.evaluate import read_manifests
from streamasr.evaluation.tuning import Recording, decode_finals, record
from streamasr.recognition.model import LoadedModel, load_model
from streamasr.scoring import Edits, word_edits
from streamasr.text import join_words, text_rules

CHUNK_MS = 640
BATCH = 8


class Measured(NamedTuple):
    """The results of one weight on one manifest."""

    edits: Edits
    finals: int
    cpu_s: float
    """Of decoding, rescoring included."""


def decode(model: LoadedModel, decoder: UtteranceDecoder, recordings: Sequence[Recording]) -> Measured:
    """Decode every recording and count its word errors."""
    rules = text_rules(model.config.language)
    edits, count = Edits(), 0
    started = time.process_time()
    for recording in recordings:
        texts = decode_finals(decoder, recording)
        edits += word_edits(recording.reference, rules.normalise(join_words(texts)))
        count += len(texts)
    return Measured(edits, count, time.process_time() - started)


def main() -> int:
    """Measure and print the results; return 1 if an input cannot be used."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="en-small", help="model folder or name (%(default)s)")
    parser.add_argument("--manifest", type=Path, nargs="+", required=True, help="dev sets")
    parser.add_argument("--weights", type=float, nargs="+", default=(0.0, 0.15, 0.3, 0.45), metavar="W")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N utterances of each manifest")
    args = parser.parse_args()
    torch.set_num_threads(1)
    try:
        model = load_model(args.model, threads=1)
        rescorer = model.decoder.rescorer
        if rescorer is None:
            raise ConfigError(f"{args.model} has no neural language model")
        decoders = {
            weight: model.decoder.with_rescorer(
                Rescorer(rescorer.lm, replace(rescorer.config, weight=weight)) if weight else None
            )
            for weight in args.weights
        }
        measured: dict[float, dict[str, Measured]] = {weight: {} for weight in decoders}
        for name, utterances in read_manifests(args.manifest, args.limit).items():
            recordings = list(record(model, utterances, chunk_ms=CHUNK_MS, batch=BATCH))
            for weight, decoder in decoders.items():
                measured[weight][name] = decode(model, decoder, recordings)
    except StreamasrError as error:
        print(f"neural_lm: {error.message}", file=sys.stderr)
        return 1
    names = list(next(iter(measured.values())))
    table = Table("weight", *names, "mean WER", "decoding, ms a final")
    for weight, by_name in measured.items():
        rates = [by_name[name].edits.rate for name in names]
        cpu_s = sum(each.cpu_s for each in by_name.values()) / sum(each.finals for each in by_name.values())
        mean = sum(rates) / len(rates)
        table.add_row(f"{weight:g}", *(f"{rate:.1%}" for rate in rates), f"{mean:.1%}", f"{1000 * cpu_s:.0f}")
    Console(width=110).print(table)
    points = [
        {
            "weight": weight,
            "wer": {name: each.edits.rate for name, each in by_name.items()},
            "cpu_s": sum(each.cpu_s for each in by_name.values()),
            "finals": sum(each.finals for each in by_name.values()),
        }
        for weight, by_name in measured.items()
    ]
    print(json.dumps({"benchmark": "neural_lm", "points": points}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
