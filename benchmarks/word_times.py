"""Measure the error of word times against two forced alignments of the reference text.

* *CTC*: ``torchaudio.functional.forced_align`` on the model's own log-probs of the whole stream. It shows whether
  the search places the tokens where the model emits them. It does not show where sounds begin and end, as it
  aligns the same spikes as the search.
* *HMM*: PocketSphinx, which does not depend on this model, aligns phones to audio in frames of 10 ms, and so shows
  where words begin and end. Recordings with a word that its dictionary lacks are left out.

Only words that match the reference in the word alignment count. The rows *tokens* are without ``word_lead_ms`` and
``word_trail_ms``, the rows *words* with the model's own. The last line gives the median distance from the tokens
to the edges of their words: the lead to choose, and the least trail; a longer trail ends where the next word
begins.

    python benchmarks/word_times.py --model en-small --manifest dev/manifest.jsonl --every 3

Prints a table, then one JSON line last.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pocketsphinx
from rich.console import Console
from rich.progress import track
from rich.table import Table

from streamasr.decoding.beam import LogProbs
from streamasr.decoding.hypothesis import Final, Word
from streamasr.decoding.nbest import HypothesisBuilder
from streamasr.decoding.utterance import UtteranceDecoder
from streamasr.errors import StreamasrError
from streamasr.frontend.pcm import Samples
from streamasr.manifest import Utterance, read_manifest
from streamasr.media.reader import read_audio
from streamasr.recognition import LoadedModel, load_model
from streamasr.recognition.encoder_output import run_streamed
from streamasr.recognition.word_alignment import token_frames
from streamasr.scoring import align
from streamasr.text import text_rules

SAMPLE_RATE = 16_000
PCM_SCALE = 32_767
HMM_FRAME_MS = 10

Span = tuple[float, float]
"""Begin and end of a word, in milliseconds."""


@dataclass(slots=True)
class TimeErrors:
    """Distances of the model's times from a reference's, in milliseconds; positive is late."""

    starts: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)

    def add(self, measured: Span, reference: Span) -> None:
        """Add one word."""
        self.starts.append(measured[0] - reference[0])
        self.ends.append(measured[1] - reference[1])


class HmmAligner:
    """Aligns words to audio with PocketSphinx."""

    def __init__(self) -> None:
        self._decoder = pocketsphinx.Decoder(samprate=SAMPLE_RATE, loglevel="FATAL", lm=None)

    def spans(self, samples: Samples, words: Sequence[str]) -> list[Span] | None:
        """Return the spans of ``words``; ``None`` if they cannot be aligned."""
        if any(self._decoder.lookup_word(word) is None for word in words):
            return None
        self._decoder.set_align_text(" ".join(words))
        self._decoder.start_utt()
        pcm = np.round(np.clip(samples, -1, 1) * PCM_SCALE).astype("<i2")
        self._decoder.process_raw(pcm.tobytes(), full_utt=True)
        self._decoder.end_utt()
        found = [s for s in self._decoder.seg() or () if not s.word.startswith(("<", "["))]
        if len(found) != len(words):
            return None
        return [(s.start_frame * HMM_FRAME_MS, (s.end_frame + 1) * HMM_FRAME_MS) for s in found]


def words_of(decoder: UtteranceDecoder, log_probs_TV: LogProbs) -> list[Word]:
    """Return the words of the finals that a session would send."""
    options = replace(decoder.default_options(), partials=False)
    state, events = decoder.step(decoder.initial_state(options), log_probs_TV)
    _, last = decoder.flush(state)
    finals = [event for event in (*events, *last) if isinstance(event, Final)]
    return [word for final in finals for word in final.hypothesis.words]


def measure(model: LoadedModel, utterances: Sequence[Utterance], chunk_ms: int) -> dict[str, TimeErrors]:
    """Return the errors of raw token spans and of the model's word times, against both references."""
    decoder = model.decoder
    beams = decoder.beams
    bare = type(beams)(beams.tokens, beams.lm, beams.config, HypothesisBuilder())
    hmm, rules = HmmAligner(), text_rules(model.config.language)
    delay_ms = 1000 * model.config.sample_delay / model.sample_rate
    errors = {name: TimeErrors() for name in ("CTC, tokens", "CTC, words", "HMM, tokens", "HMM, words")}

    def at(frames: Span) -> Span:
        return max(0.0, frames[0] * decoder.frame_ms - delay_ms), frames[1] * decoder.frame_ms - delay_ms

    for utterance in track(utterances, console=Console(stderr=True), transient=True):
        samples = read_audio(utterance.audio, SAMPLE_RATE)
        log_probs_TV = run_streamed(model, samples, model.chunk_frames_for(chunk_ms)).log_probs_TV
        reference = rules.normalise(utterance.text).split()
        by_ctc = [at(span) for span in token_frames(log_probs_TV, beams.tokens, reference)]
        by_hmm = hmm.spans(samples, reference)
        results = {
            "tokens": words_of(decoder.with_beam_decoder(bare), log_probs_TV),
            "words": words_of(decoder, log_probs_TV),
        }
        for kind, words in results.items():
            reference_index = word_index = 0
            for a, b in align(reference, [word.text for word in words]):
                if a == b:
                    measured = at((words[word_index].start_frame, words[word_index].end_frame))
                    errors[f"CTC, {kind}"].add(measured, by_ctc[reference_index])
                    if by_hmm is not None:
                        errors[f"HMM, {kind}"].add(measured, by_hmm[reference_index])
                reference_index += a is not None
                word_index += b is not None
    return errors


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
    errors = measure(model, utterances, args.chunk_ms)
    table = Table(title=f"{model.config.name}, {len(utterances)} utterances: model minus reference, ms")
    table.add_column("reference, model's")
    for name in ("words", "start: median", "absolute", "90 %", "end: median", "absolute", "90 %"):
        table.add_column(name, justify="right")
    rows = {}
    for name, found in errors.items():
        figures = [figure for values in (found.starts, found.ends) for figure in _figures(values)]
        rows[name] = {"words": len(found.starts), "start": figures[:3], "end": figures[3:]}
        table.add_row(name, str(len(found.starts)), *(f"{figure:.0f}" for figure in figures))
    Console(width=120).print(table)
    inside = errors["HMM, tokens"]
    lead, trail = np.median(inside.starts), -np.median(inside.ends)
    print(
        f"by the HMM, tokens begin {lead:.0f} ms after their word and end {trail:.0f} ms before its end (median)"
    )
    print(json.dumps({"model": model.config.name, "utterances": len(utterances), "errors_ms": rows}))
    return 0


def _figures(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median, the median of the absolute values, and their 90th percentile."""
    array = np.array(values)
    absolute = np.abs(array)
    return float(np.median(array)), float(np.median(absolute)), float(np.quantile(absolute, 0.9))


if __name__ == "__main__":
    raise SystemExit(main())
