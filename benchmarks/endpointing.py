"""Measure how soon utterances end after their last word, and how often inside a sentence, by endpoint rule.

Streams are made of recordings of one data set, in random order, with pauses of low noise between them: 0.6 to 2.5 s
pass from the last word of one to the first word of the next. Word times come from CTC forced alignment of the
references. Pauses inside the recordings are the speakers' own. The encoder runs once, and its log-probs are kept in
a folder. Then each rule decodes them as a session does, and its utterances are compared with the references:

* *final after*: from the end of a recording's last word to the audio that the session has received when the final
  with that word is sent. It contains the chunk, but no computing time. Recordings whose final came only after the
  next one began count, too, and are listed as *joined*.
* *cuts*: utterances that ended by silence between the words of a recording; *in sentences*: those cuts after which
  the punctuation model sees no end of a sentence in the reference.

Half of the speakers serve to fit the weights of the end's probability and to choose the rule that depends on the
words; the figures are of the other half.

    python benchmarks/endpointing.py --manifest dev-librispeech/manifest.jsonl dev-l2/manifest.jsonl

Prints a table, then one JSON line last.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from endpointing_streams import Passage, Stream, encoded_streams, halves
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from streamasr.config import EndpointConfig
from streamasr.decoding.hypothesis import Final, UtteranceEvent
from streamasr.errors import StreamasrError
from streamasr.manifest import read_manifest
from streamasr.punctuation.base import END_MARKS, Boundary
from streamasr.recognition import LoadedModel, load_model, resolve_model
from streamasr.scoring import Edits, word_edits
from streamasr.text import text_rules

FIXED_MS = (400, 500, 600, 700, 800, 900, 1000)
TODAY_MS = 800
"""The fixed silence with which others are compared."""
MIN_MS, MAX_MS, THRESHOLDS = (300, 400, 500, 600), (800, 1000, 1200), tuple(n / 20 for n in range(10, 20))
"""Rules among which the tuning half chooses."""
SHOWN_THRESHOLDS = (0.4, 0.5, 0.6)
PAUSE_FRAMES = range(10, 61, 5)
"""Silences at which a pause is looked at."""


@dataclass(slots=True)
class Pause:
    """A pause in a stream."""

    is_end: bool
    """Whether a recording ends there."""
    moments: list[tuple[float, float]] = field(default_factory=list)
    """Silences so far in seconds, and the log-prob that the sentence ends."""

    def needed_s(self, rule: EndpointConfig) -> float | None:
        """Return the silence at which ``rule`` ends the utterance; ``None`` if the pause is shorter."""
        shortest_ms, longest_ms = rule.silence_bounds_ms
        min_log_odds = np.log(rule.end_threshold / (1 - rule.end_threshold))
        for silence_s, sentence_end in self.moments:
            log_odds = rule.end_bias + rule.end_silence * np.log(silence_s) + rule.end_sentence * sentence_end
            is_probable = 1000 * silence_s >= shortest_ms and log_odds >= min_log_odds
            if is_probable or 1000 * silence_s >= longest_ms:
                return silence_s
        return None


@dataclass(slots=True)
class Figures:
    """What one rule does to the streams."""

    final_after_ms: list[float] = field(default_factory=list)
    joined: int = 0
    cuts: int = 0
    cuts_in_sentences: int = 0
    edits: Edits = field(default_factory=Edits)

    def row(self) -> dict[str, Any]:
        """Return the figures for the results."""
        median, high = np.quantile(self.final_after_ms, (0.5, 0.95)).round().tolist()
        return {
            "final_after_ms": (median, high),
            "joined": self.joined,
            "cuts": self.cuts,
            "cuts_in_sentences": self.cuts_in_sentences,
            "wer": self.edits.rate,
        }


class Replay:
    """Decodes encoded streams with any endpoint rule.

    Args:
        model: the model whose encoder made them.
    """

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._delay_ms = 1000 * model.config.sample_delay / model.sample_rate
        self._rules = text_rules(model.config.language)

    def measure(self, streams: Sequence[Stream], rule: EndpointConfig, *, lookahead: bool = True) -> Figures:
        """Return the figures of ``rule``, with or without the look-ahead for endpoints."""
        figures = Figures()
        for stream in streams:
            texts: list[str] = []
            ends: list[tuple[float, float]] = []
            for final, end_ms, received_ms in self._finals(stream, rule, lookahead=lookahead):
                texts.append(final.hypothesis.text)
                if final.ends_sentence:
                    ends.append((end_ms, received_ms))
            reference = " ".join(self._rules.normalise(passage.text) for passage in stream.passages)
            figures.edits += word_edits(reference, " ".join(texts))
            for passage, following in zip(stream.passages, [*stream.passages[1:], None], strict=True):
                self._add(figures, passage, following, ends)
        return figures

    def _add(
        self,
        figures: Figures,
        passage: Passage,
        following: Passage | None,
        ends: Sequence[tuple[float, float]],
    ) -> None:
        """Add a recording, given the frame and the time of each end by silence in its stream."""
        middles = [sum(span) / 2 for span in passage.words_ms]
        for end_ms, _ in ends:
            if middles[0] < end_ms < middles[-1]:
                figures.cuts += 1
                figures.cuts_in_sentences += not self.sentence_ends(passage)[
                    np.searchsorted(middles, end_ms) - 1
                ]
        # The last final of a stream ends its last recording, even if its last words were not recognised.
        end_ms, received_ms = next((end for end in ends if end[0] >= middles[-1]), ends[-1])
        figures.final_after_ms.append(received_ms - passage.words_ms[-1][1])
        figures.joined += following is not None and end_ms > following.words_ms[0][1]

    def sentence_ends(self, passage: Passage) -> list[bool]:
        """Return for each word of a reference whether the punctuation model ends a sentence after it."""
        punctuator = self._model.punctuator
        assert punctuator is not None, "the model has no punctuation model"
        words = self._rules.normalise(passage.text).split()
        _, written = punctuator.step(punctuator.initial_state(), words, None, Boundary.END)
        return [word.mark in END_MARKS for word in written]

    def _finals(
        self, stream: Stream, rule: EndpointConfig, *, lookahead: bool
    ) -> Iterator[tuple[Final, float, float]]:
        """Yield each final, where its utterance ended, and what had been received then, in ms of audio."""
        decoder, rate = self._model.decoder, self._model.sample_rate
        state = decoder.initial_state(replace(decoder.default_options(), endpointing=rule, partials=False))
        for chunk in stream.chunks:
            preview_TV = chunk.lookahead_TV if lookahead else None
            state, events = decoder.step(state, chunk.log_probs_TV, preview_TV)
            yield from self._located(events, state.start_frame, 1000 * chunk.received_samples / rate)
        state, events = decoder.flush(state)
        yield from self._located(events, state.start_frame, 1000 * stream.chunks[-1].received_samples / rate)

    def _located(
        self, events: Sequence[UtteranceEvent], start_frame: int, received_ms: float
    ) -> Iterator[tuple[Final, float, float]]:
        finals = [event for event in events if isinstance(event, Final)]
        for final in finals:
            # Of several finals in a chunk, only the last one's end is known; the others end with their last word.
            frame = start_frame if final is finals[-1] else final.hypothesis.words[-1].end_frame
            yield final, frame * self._model.framing.frame_ms - self._delay_ms, received_ms

    def pauses(self, stream: Stream) -> Iterator[Pause]:
        """Yield the pauses of a stream whose utterances begin with its recordings.

        Pauses after sentences inside a recording are left out.
        """
        beams, frame_ms = self._model.decoder.beams, self._model.framing.frame_ms
        log_probs_TV = beams.prepare(np.concatenate([chunk.log_probs_TV for chunk in stream.chunks]))
        starts = [int((passage.words_ms[0][0] + self._delay_ms) / frame_ms) for passage in stream.passages]
        for passage, first, stop in zip(
            stream.passages, [0, *starts[1:]], [*starts[1:], len(log_probs_TV)], strict=True
        ):
            middles = [sum(span) / 2 for span in passage.words_ms]
            ends = self.sentence_ends(passage)
            state, pause, speech_end = beams.initial_state(frame=first), None, -1
            for frame in range(first, stop):
                state = beams.step(state, log_probs_TV[frame : frame + 1])
                if state.speech_end is None or state.frame - state.speech_end not in PAUSE_FRAMES:
                    continue
                if state.speech_end != speech_end:
                    speech_end = state.speech_end
                    place = int(np.searchsorted(middles, speech_end * frame_ms - self._delay_ms))
                    is_end = place == len(middles)
                    pause = Pause(is_end) if is_end or (place and not ends[place - 1]) else None
                    if pause is not None:
                        yield pause
                if pause is not None:
                    silence_s = (state.frame - speech_end) * frame_ms / 1000
                    pause.moments.append((silence_s, beams.sentence_end_log_prob(state)))


def fit(pauses: Sequence[Pause]) -> EndpointConfig:
    """Return the default rules with weights fitted to pauses."""
    moments = [(pause.is_end, *moment) for pause in pauses for moment in pause.moments]
    rows_NF = np.array([(1.0, np.log(silence_s), sentence_end) for _, silence_s, sentence_end in moments])
    bias, silence, sentence = logistic_regression(
        rows_NF, np.array([float(is_end) for is_end, *_ in moments])
    )
    return EndpointConfig(end_bias=bias, end_silence=silence, end_sentence=sentence)


def choose(pauses: Sequence[Pause], fitted: EndpointConfig) -> EndpointConfig:
    """Return the rule with the shortest silences that cuts no more sentences than ``TODAY_MS`` does.

    The shortest: the median and the 95th percentile together. Pauses are judged by themselves: what follows a cut is
    not decoded again.
    """

    def outcome(rule: EndpointConfig) -> tuple[int, float]:
        needed = [(pause.is_end, pause.needed_s(rule)) for pause in pauses]
        cuts = sum(not is_end and silence_s is not None for is_end, silence_s in needed)
        longest_s = rule.silence_bounds_ms[1] / 1000
        ends_s = [longest_s if silence_s is None else silence_s for is_end, silence_s in needed if is_end]
        return cuts, float(sum(np.quantile(ends_s, (0.5, 0.95))))

    today = replace(fitted, min_silence_ms=TODAY_MS, max_silence_ms=TODAY_MS)
    allowed, today_s = outcome(today)
    best, best_s = today, today_s
    for shortest, longest, threshold in itertools.product(MIN_MS, MAX_MS, THRESHOLDS):
        rule = replace(fitted, min_silence_ms=shortest, max_silence_ms=longest, end_threshold=threshold)
        cuts, silence_s = outcome(rule)
        if cuts <= allowed and silence_s < best_s:
            best, best_s = rule, silence_s
    return best


def logistic_regression(rows_NF: NDArray[np.float64], labels_N: NDArray[np.float64]) -> list[float]:
    """Return the weights of greatest likelihood, by Newton's method."""
    weights_F = np.zeros(rows_NF.shape[1])
    for _ in range(30):
        probability_N = 1 / (1 + np.exp(-rows_NF @ weights_F))
        curvature_FF = (rows_NF * (probability_N * (1 - probability_N))[:, None]).T @ rows_NF
        weights_F += np.linalg.solve(curvature_FF, rows_NF.T @ (labels_N - probability_N))
    return [round(float(weight), 3) for weight in weights_F]


def cache_key(args: argparse.Namespace, manifest: Path, every: int) -> str:
    """Return the name of the folder for the streams of a manifest."""
    weights = hashlib.sha256((resolve_model(args.model) / "model.safetensors").read_bytes())
    about = (manifest.read_text(encoding="utf-8"), every, args.chunk_ms, args.precision, weights.hexdigest())
    return hashlib.sha256(repr(about).encode()).hexdigest()[:16]


def rules_to_measure(
    fitted: EndpointConfig, chosen: EndpointConfig
) -> list[tuple[str, EndpointConfig, bool]]:
    """Return the rules of the table with their names, and whether the look-ahead is used for endpoints."""
    fixed = [(f"{ms} ms", EndpointConfig(silence_ms=ms), True) for ms in FIXED_MS]
    by_words = [
        replace(fitted, min_silence_ms=300, max_silence_ms=1000, end_threshold=threshold)
        for threshold in SHOWN_THRESHOLDS
    ]
    return [
        (f"{TODAY_MS} ms, no look-ahead", EndpointConfig(silence_ms=TODAY_MS), False),
        *fixed,
        *(("300-1000 ms, " + f"{rule.end_threshold:g}", rule, True) for rule in by_words),
        (
            f"chosen: {chosen.min_silence_ms}-{chosen.max_silence_ms} ms, {chosen.end_threshold:g}",
            chosen,
            True,
        ),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the measurements and print the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="en-small", metavar="DIR|NAME")
    parser.add_argument("--manifest", type=Path, nargs="+", required=True, metavar="FILE")
    parser.add_argument(
        "--every",
        type=int,
        nargs="+",
        metavar="N",
        help="take every Nth utterance; a number for each manifest",
    )
    parser.add_argument("--chunk-ms", type=int, default=640, metavar="N")
    parser.add_argument("--precision", default="int8", help="of the encoder's weights (default: int8)")
    parser.add_argument(
        "--cache", type=Path, default=Path(tempfile.gettempdir()) / "streamasr-endpointing", metavar="DIR"
    )
    args = parser.parse_args(argv)
    steps = args.every or [1] * len(args.manifest)
    if len(steps) != len(args.manifest):
        parser.error(f"--every: expected {len(args.manifest)} numbers, got {len(steps)}")
    try:
        model = load_model(args.model, "cpu", precision=args.precision)
        manifests = [read_manifest(path) for path in args.manifest]
    except StreamasrError as error:
        print(error.message, file=sys.stderr)
        return 1
    tuning: list[Stream] = []
    reported: dict[str, list[Stream]] = {}
    for path, step, utterances in zip(args.manifest, steps, manifests, strict=True):
        folder = args.cache / cache_key(args, path, step)
        chunk_frames = model.chunk_frames_for(args.chunk_ms)
        ours, others = halves(utterances)
        tuning += encoded_streams(model, ours[::step], chunk_frames, folder / "tuning")
        reported[path.parent.name] = encoded_streams(model, others[::step], chunk_frames, folder / "reported")
    replay = Replay(model)
    pauses = [pause for stream in tuning for pause in replay.pauses(stream)]
    fitted = fit(pauses)
    rules = rules_to_measure(fitted, choose(pauses, fitted))
    rows = []
    for name, streams in reported.items():
        count = sum(len(stream.passages) for stream in streams)
        table = Table(title=f"{name}, {count} recordings of the other half of the speakers")
        table.add_column("silence, threshold")
        for column in ("final after, ms", "95 %", "joined", "cuts", "in sentences", "WER %"):
            table.add_column(column, justify="right")
        for label, rule, lookahead in rules:
            row = replay.measure(streams, rule, lookahead=lookahead).row()
            rows.append({"data": name, "recordings": count, "rule": label, **row})
            median, high = row["final_after_ms"]
            counts = (str(row[key]) for key in ("joined", "cuts", "cuts_in_sentences"))
            table.add_row(label, f"{median:.0f}", f"{high:.0f}", *counts, f"{100 * row['wer']:.1f}")
        Console(width=100).print(table)
    weights = {name: getattr(fitted, name) for name in ("end_bias", "end_silence", "end_sentence")}
    print("weights: " + ", ".join(f"{name} {value:g}" for name, value in weights.items()))
    print(json.dumps({"model": model.config.name, "weights": weights, "rows": rows}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
