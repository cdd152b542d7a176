"""Measure how often shown words change, and how late words are shown and committed, by stability setting.

The encoder runs once. Then every commit margin is decoded as in a session, and consecutive updates of each setting
are compared:

* *changed words*: words that an update shows and the next one, or the final, does not show in the same place after
  the same words, divided by the words of the finals. This is the unstable partial word ratio of Shangguan et al.
  (2020), including unfinished words.
* *shown after*: from the end of a word to the update from which on it is shown unchanged. *Committed after*: to
  the update that commits it. Both in audio time, including look-ahead, without computation.

    python benchmarks/partial_stability.py --model en-small --manifest dev/manifest.jsonl

Prints a table, then one JSON line last.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from streamasr.config import StabilityConfig
from streamasr.decoding.hypothesis import Final, Partial, Word
from streamasr.decoding.stability import words_to_show
from streamasr.errors import StreamasrError
from streamasr.manifest import Utterance, read_manifest
from streamasr.media.reader import read_audio
from streamasr.recognition import LoadedModel, load_model
from streamasr.recognition.batch import LogProbs
from streamasr.recognition.chunking import Chunk
from streamasr.recognition.streaming import stream_many
from streamasr.scoring import Edits, word_edits
from streamasr.text import text_rules

MARGINS: tuple[float | None, ...] = (None, 7.0, 5.0, 4.0, 3.0)
DISPLAY_SETTINGS = (
    ("", StabilityConfig()),
    ("hold_words 1", StabilityConfig(hold_words=1)),
    ("hold_words 2", StabilityConfig(hold_words=2)),
)
"""Ways to leave out the last words of partials."""


@dataclass(slots=True)
class EncodedStream:
    """Collects the log-probs of each chunk of a recording, with the samples received until then."""

    chunks: list[tuple[LogProbs, int]] = field(default_factory=list)

    def accept(self, chunk: Chunk, log_probs_TV: LogProbs, _lookahead_TV: LogProbs) -> None:
        if len(log_probs_TV):
            self.chunks.append((log_probs_TV, chunk.end_sample + len(chunk.lookahead_S)))


@dataclass(frozen=True, slots=True)
class Update:
    """An update as a client receives it: words, number of committed words, and samples received until then."""

    words: tuple[Word, ...]
    committed: int
    received_samples: int


@dataclass(slots=True)
class StabilityFigures:
    """Sums and delays over utterances."""

    words: int = 0
    changed: int = 0
    shown_ms: list[float] = field(default_factory=list)
    committed_ms: list[float] = field(default_factory=list)

    def add(self, updates: Sequence[Update], end_ms: Sequence[float], sample_rate: int) -> None:
        """Add an utterance; the last update is its final."""
        texts = [[word.text for word in update.words] for update in updates]
        final = texts[-1]
        self.words += len(final)
        for shown, following in itertools.pairwise(texts):
            self.changed += len(shown) - common(shown, following)
        kept = np.minimum.accumulate([common(text, final) for text in reversed(texts)])[::-1]
        for place, end in enumerate(end_ms):
            shown_at = next(
                u.received_samples for u, count in zip(updates, kept, strict=True) if count > place
            )
            committed_at = next(u.received_samples for u in updates if u.committed > place)
            self.shown_ms.append(1000 * shown_at / sample_rate - end)
            self.committed_ms.append(1000 * committed_at / sample_rate - end)


def common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the number of words with which both begin."""
    return next(
        (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def utterances_of(model: LoadedModel, stream: EncodedStream, margin: float | None) -> Iterator[list[Update]]:
    """Yield the updates of each utterance that a session would send without ``hold_words``; the final is the last."""
    decoder = model.decoder
    options = replace(decoder.default_options(), stability=StabilityConfig(commit_margin=margin))
    state = decoder.initial_state(options)
    updates: list[Update] = []
    steps = [*stream.chunks, (None, stream.chunks[-1][1] if stream.chunks else 0)]
    for log_probs_TV, received_samples in steps:
        state, events = decoder.flush(state) if log_probs_TV is None else decoder.step(state, log_probs_TV)
        for event in events:
            if isinstance(event, Partial):
                updates.append(Update(event.hypothesis.words, event.committed_words, received_samples))
            elif isinstance(event, Final):
                yield [
                    *updates,
                    Update(event.hypothesis.words, len(event.hypothesis.words), received_samples),
                ]
                updates = []


def measure(
    model: LoadedModel, streams: Sequence[EncodedStream], references: Sequence[str]
) -> list[dict[str, Any]]:
    """Return one row for each margin and display setting."""
    rows: list[dict[str, Any]] = []
    frame_ms, delay_ms = model.decoder.frame_ms, 1000 * model.config.sample_delay / model.sample_rate
    for margin in MARGINS:
        edits = Edits()
        figures = {name: StabilityFigures() for name, _ in DISPLAY_SETTINGS}
        for stream, reference in zip(streams, references, strict=True):
            words_recognised: list[str] = []
            for updates in utterances_of(model, stream, margin):
                final = updates[-1]
                words_recognised += [word.text for word in final.words]
                end_ms = [word.end_frame * frame_ms - delay_ms for word in final.words]
                for name, stability in DISPLAY_SETTINGS:
                    shown = [
                        replace(u, words=u.words[: words_to_show(len(u.words), u.committed, stability)])
                        for u in updates[:-1]
                    ]
                    figures[name].add([*shown, final], end_ms, model.sample_rate)
            edits += word_edits(reference, " ".join(words_recognised))
        for name, f in figures.items():
            rows.append(
                {
                    "commit_margin": margin,
                    "shown": name or "all",
                    "wer": edits.rate,
                    "words": f.words,
                    "changed_words": f.changed / max(1, f.words),
                    "shown_after_ms": quantiles(f.shown_ms),
                    "committed_after_ms": quantiles(f.committed_ms),
                }
            )
    return rows


def quantiles(values: Sequence[float]) -> tuple[float, float]:
    """Return median and 90th percentile."""
    median, high = np.quantile(values, (0.5, 0.9))
    return round(float(median), 1), round(float(high), 1)


def encode(model: LoadedModel, utterances: Sequence[Utterance], chunk_ms: int) -> list[EncodedStream]:
    """Run the encoder over the utterances, and return their log-probs in the same order."""
    audio = (read_audio(utterance.audio, model.sample_rate) for utterance in utterances)
    results = stream_many(model, audio, model.chunk_frames_for(chunk_ms), EncodedStream, slots=8)
    return [result.sink for result in sorted(results, key=lambda result: result.index)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the measurements and print the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="en-small", metavar="DIR|NAME")
    parser.add_argument("--manifest", type=Path, required=True, metavar="FILE")
    parser.add_argument("--chunk-ms", type=int, default=640, metavar="N")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every Nth utterance")
    args = parser.parse_args(argv)
    try:
        model = load_model(args.model, "cpu")
        utterances = read_manifest(args.manifest)[:: args.every]
    except StreamasrError as error:
        print(error.message, file=sys.stderr)
        return 1
    rules = text_rules(model.config.language)
    references = [rules.normalise(utterance.text) for utterance in utterances]
    streams = encode(model, utterances, args.chunk_ms)
    rows = measure(model, streams, references)
    table = Table(title=f"{model.config.name}, {len(utterances)} utterances, {rows[0]['words']} words")
    for name in ("commit_margin", "shown"):
        table.add_column(name)
    for name in ("WER %", "changed words %", "shown after, ms", "90 %", "committed after, ms", "90 %"):
        table.add_column(name, justify="right")
    for row in rows:
        margin = row["commit_margin"]
        times = [f"{ms:.0f}" for key in ("shown_after_ms", "committed_after_ms") for ms in row[key]]
        percents = [f"{100 * float(row[key]):.1f}" for key in ("wer", "changed_words")]
        table.add_row("none" if margin is None else f"{margin:g}", str(row["shown"]), *percents, *times)
    Console(width=120).print(table)
    print(json.dumps({"model": model.config.name, "utterances": len(utterances), "rows": rows}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
