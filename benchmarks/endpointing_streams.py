"""Make streams of recordings with pauses between, and compute their log-probs once for ``endpointing.py``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamasr.frontend.pcm import Samples
from streamasr.manifest import Utterance
from streamasr.media.reader import read_audio
from streamasr.recognition import LoadedModel
from streamasr.recognition.batch import BatchStep, LogProbs
from streamasr.recognition.chunking import StopMark
from streamasr.recognition.word_alignment import token_frames
from streamasr.text import text_rules

GAP_S = (0.6, 2.5)
"""Least and greatest time from the last word of a recording to the first word of the next one."""
UTTERANCES_PER_STREAM = 10
NOISE_QUANTILE, BLOCK_S = 0.1, 0.02
"""Pauses are as loud as the quietest tenth of a recording's blocks of this many seconds."""
SLOTS = 8
SEED = 1


@dataclass(frozen=True, slots=True)
class Passage:
    """A recording in a stream."""

    text: str
    words_ms: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class EncodedChunk:
    """The output of one step, and the samples received until it could run."""

    log_probs_TV: LogProbs
    lookahead_TV: LogProbs
    received_samples: int


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream: its recordings with their word times, and the log-probs of its chunks."""

    passages: tuple[Passage, ...]
    chunks: tuple[EncodedChunk, ...]


def halves(utterances: Sequence[Utterance]) -> tuple[list[Utterance], list[Utterance]]:
    """Split by speaker: those with most recordings first, alternately."""
    counts: dict[str, int] = {}
    for utterance in utterances:
        counts[utterance.speaker] = counts.get(utterance.speaker, 0) + 1
    ordered = sorted(counts, key=lambda speaker: (-counts[speaker], speaker))
    chosen = set(ordered[::2])
    return (
        [utterance for utterance in utterances if utterance.speaker in chosen],
        [utterance for utterance in utterances if utterance.speaker not in chosen],
    )


def encode(model: LoadedModel, audio: Sequence[Samples], chunk_frames: int) -> list[list[EncodedChunk]]:
    """Run the encoder over streams, several in each step."""
    results: list[list[EncodedChunk]] = [[] for _ in audio]
    for first in range(0, len(audio), SLOTS):
        step = BatchStep(model, SLOTS)
        queues = {}
        for slot, samples_S in enumerate(audio[first : first + SLOTS]):
            queues[slot] = model.chunk_queue(chunk_frames)
            queues[slot].append(samples_S)
            queues[slot].mark(StopMark())
        while queues:
            chunks = [(slot, queue.take()) for slot, queue in queues.items()]
            log_probs, _, lookahead = step.run(chunks)
            for (slot, chunk), log_probs_TV, lookahead_TV in zip(chunks, log_probs, lookahead, strict=True):
                received = chunk.end_sample + len(chunk.lookahead_S)
                results[first + slot].append(EncodedChunk(log_probs_TV, lookahead_TV, received))
                if chunk.end is not None:
                    del queues[slot]
    return results


def noise_like(samples_S: Samples, count: int, sample_rate: int, rng: np.random.Generator) -> Samples:
    """Return white noise as loud as the quiet parts of a recording."""
    block = int(BLOCK_S * sample_rate)
    rms_T = np.sqrt(np.mean(samples_S[: len(samples_S) // block * block].reshape(-1, block) ** 2, axis=1))
    noise_S: Samples = (rng.standard_normal(count) * np.quantile(rms_T, NOISE_QUANTILE)).astype(np.float32)
    return noise_S


def aligned(
    model: LoadedModel, utterances: Sequence[Utterance], audio: Sequence[Samples], chunk_frames: int
) -> list[list[tuple[float, float]]]:
    """Return the span of each word of the references, in milliseconds of its recording."""
    builder, rules = model.decoder.beams.hypothesis_builder, text_rules(model.config.language)
    frame_ms, delay_ms = model.framing.frame_ms, 1000 * model.config.sample_delay / model.sample_rate
    spans = []
    for utterance, chunks in zip(utterances, encode(model, audio, chunk_frames), strict=True):
        log_probs_TV = np.concatenate([chunk.log_probs_TV for chunk in chunks])
        words = rules.normalise(utterance.text).split()
        spans.append(
            [
                (
                    (start - builder.lead_frames) * frame_ms - delay_ms,
                    (end + builder.trail_frames) * frame_ms - delay_ms,
                )
                for start, end in token_frames(log_probs_TV, model.decoder.beams.tokens, words)
            ]
        )
    return spans


def make_streams(
    utterances: Sequence[Utterance],
    audio: Sequence[Samples],
    spans: Sequence[Sequence[tuple[float, float]]],
    sample_rate: int,
    seed: int,
) -> Iterator[tuple[Samples, tuple[Passage, ...]]]:
    """Join recordings, so that GAP_S pass between the words of neighbours."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(utterances))
    for first in range(0, len(order), UTTERANCES_PER_STREAM):
        parts: list[Samples] = []
        passages: list[Passage] = []
        samples, silence_ms = 0, 0.0
        for at in order[first : first + UTTERANCES_PER_STREAM]:
            gap_ms = 1000 * rng.uniform(*GAP_S)
            missing = int(max(0.0, gap_ms - silence_ms - spans[at][0][0]) * sample_rate / 1000)
            parts += [noise_like(audio[at], missing, sample_rate, rng), audio[at]]
            samples += missing
            start_ms = 1000 * samples / sample_rate
            passages.append(
                Passage(utterances[at].text, tuple((start_ms + a, start_ms + b) for a, b in spans[at]))
            )
            samples += len(audio[at])
            silence_ms = 1000 * samples / sample_rate - passages[-1].words_ms[-1][1]
        parts.append(noise_like(parts[-1], int(GAP_S[1] * sample_rate), sample_rate, rng))
        yield np.concatenate(parts), tuple(passages)


def load_streams(folder: Path) -> list[Stream]:
    """Read the streams that save_streams has written."""
    streams = []
    for path in sorted(folder.glob("*.npz")):
        arrays = np.load(path)
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        passages = tuple(Passage(p["text"], tuple(map(tuple, p["words_ms"]))) for p in about)
        ends, look_ends = np.cumsum(arrays["rows"]), np.cumsum(arrays["lookahead_rows"])
        chunks = tuple(
            EncodedChunk(
                arrays["log_probs"][e - n : e].astype(np.float32),
                arrays["lookahead"][f - m : f].astype(np.float32),
                int(r),
            )
            for e, n, f, m, r in zip(
                ends, arrays["rows"], look_ends, arrays["lookahead_rows"], arrays["received"], strict=True
            )
        )
        streams.append(Stream(passages, chunks))
    return streams


def save_streams(folder: Path, streams: Sequence[Stream]) -> None:
    """Write streams for :func:`load_streams`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, stream in enumerate(streams):
        path = folder / f"{number:03}.npz"
        np.savez(
            path,
            log_probs=np.concatenate([c.log_probs_TV for c in stream.chunks]),
            lookahead=np.concatenate([c.lookahead_TV for c in stream.chunks]),
            rows=[len(c.log_probs_TV) for c in stream.chunks],
            lookahead_rows=[len(c.lookahead_TV) for c in stream.chunks],
            received=[c.received_samples for c in stream.chunks],
        )
        about = [{"text": p.text, "words_ms": p.words_ms} for p in stream.passages]
        path.with_suffix(".json").write_text(json.dumps(about), encoding="utf-8")


def encoded_streams(
    model: LoadedModel, utterances: Sequence[Utterance], chunk_frames: int, folder: Path
) -> list[Stream]:
    """Return the streams of the utterances; they are computed if ``folder`` does not have them."""
    if not folder.is_dir():
        audio = [read_audio(utterance.audio, model.sample_rate) for utterance in utterances]
        spans = aligned(model, utterances, audio, chunk_frames)
        made = list(make_streams(utterances, audio, spans, model.sample_rate, SEED))
        chunks = encode(model, [samples_S for samples_S, _ in made], chunk_frames)
        save_streams(
            folder, [Stream(passages, tuple(own)) for (_, passages), own in zip(made, chunks, strict=True)]
        )
    return load_streams(folder)
