"""Align a reference text to audio: CTC forced alignment by a model's own log-probs.

The times are those that the model gives its words: its tokens' frames, with the lead and trail of its configuration.
Shape suffixes: T encoder frames, V tokens, N states.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamasr.decoding.nbest import word_spans
from streamasr.decoding.tokens import TokenList
from streamasr.errors import DataError
from streamasr.frontend.pcm import Samples
from streamasr.recognition.batch import LogProbs
from streamasr.recognition.encoder_output import run_streamed
from streamasr.recognition.model import LoadedModel
from streamasr.text import text_rules
from streamasr.units import MS_PER_SECOND

MAX_AUDIO_S = 300
"""Longest audio: the alignment keeps a byte for each frame and state."""


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """A word of the reference with its time in the audio, in milliseconds."""

    text: str
    start_ms: int
    end_ms: int


def align_words(model: LoadedModel, samples_S: Samples, text: str) -> tuple[SpokenWord, ...]:
    """Return the words of ``text``, normalised as the model's words are, with their times.

    Args:
        model: computes the log-probs.
        samples_S: mono samples at the model's rate.
        text: what is said in them.

    Raises:
        DataError: the text has no words, or the audio is too short for them, or longer than ``MAX_AUDIO_S``.
        ConfigError: the model has no token for a character of the text.
    """
    rules = text_rules(model.config.language)
    words = rules.words(rules.normalise(text))
    if not words:
        raise DataError("the reference has no words")
    if len(samples_S) > MAX_AUDIO_S * model.sample_rate:
        raise DataError(f"only audio of up to {MAX_AUDIO_S} s is aligned to its reference; cut the file")
    chunk_frames = max(model.encoder.chunk_frames)
    log_probs_TV = run_streamed(model, samples_S, chunk_frames).log_probs_TV
    tokens, decoding = model.decoder.beams.tokens, model.config.decoder
    frame_ms = model.framing.frame_ms
    spans = word_spans(
        token_frames(log_probs_TV, tokens, words),
        round(decoding.word_lead_ms / frame_ms),
        round(decoding.word_trail_ms / frame_ms),
    )
    delay_ms = MS_PER_SECOND * model.config.sample_delay / model.sample_rate
    audio_ms = MS_PER_SECOND * len(samples_S) / model.sample_rate

    def at(frame: int) -> int:
        return round(min(max(frame * frame_ms - delay_ms, 0.0), audio_ms))

    return tuple(
        SpokenWord(word, at(start), at(end)) for word, (start, end) in zip(words, spans, strict=True)
    )


def token_frames(log_probs_TV: LogProbs, tokens: TokenList, words: list[str]) -> list[tuple[int, int]]:
    """Return the half-open frames from the first to the last token of each word.

    Raises:
        DataError: there are fewer frames than the tokens need.
    """
    word_of: list[int | None] = []
    labels: list[int] = []
    for number, word in enumerate(words):
        if labels and tokens.kind == "letters" and tokens.separator is not None:
            labels.append(tokens.separator)
            word_of.append(None)
        spelt = tokens.encode(word)
        labels += spelt
        word_of += [number] * len(spelt)
    path_T = _best_path(np.asarray(log_probs_TV, dtype=np.float64), labels, tokens.blank)
    spans: list[tuple[int, int]] = [(0, 0)] * len(words)
    seen: set[int] = set()
    for frame, place in enumerate(path_T.tolist()):
        owner = word_of[place] if place >= 0 else None
        if owner is not None:
            start = spans[owner][0] if owner in seen else frame
            spans[owner] = start, frame + 1
            seen.add(owner)
    return spans


def _best_path(log_probs_TV: NDArray[np.float64], labels: list[int], blank: int) -> NDArray[np.int64]:
    """Return for each frame the index of its label on the most probable path, or -1 for the blank (Viterbi)."""
    states = np.full(2 * len(labels) + 1, blank)
    states[1::2] = labels
    skips = np.zeros(len(states), dtype=bool)
    skips[3::2] = states[3::2] != states[1:-2:2]
    score_N = np.full(len(states), -math.inf)
    score_N[0] = 0.0
    moves_TN = np.zeros((len(log_probs_TV), len(states)), dtype=np.int8)
    for frame, row_V in enumerate(log_probs_TV):
        one_N = np.concatenate(([-math.inf], score_N[:-1]))
        two_N = np.where(skips, np.concatenate(([-math.inf, -math.inf], score_N[:-2])), -math.inf)
        if frame == 0:
            one_N = np.where(np.arange(len(states)) == 1, 0.0, -math.inf)
        choices = np.stack((score_N, one_N, two_N))
        moves_TN[frame] = choices.argmax(axis=0)
        score_N = choices.max(axis=0) + row_V[states]
    last = len(states) - 1 if score_N[-1] >= score_N[-2] else len(states) - 2
    if not len(log_probs_TV) or score_N[last] == -math.inf:
        raise DataError(
            f"the audio has {len(log_probs_TV)} encoder frames, too few for the {len(labels)} tokens of the reference"
        )
    path_T = np.zeros(len(log_probs_TV), dtype=np.int64)
    for frame in range(len(log_probs_TV) - 1, -1, -1):
        path_T[frame] = last // 2 if last % 2 else -1
        last -= int(moves_TN[frame, last])
    return path_T
