"""Build n-best lists with word times and confidences: the counterpart of ``native/nbest.cpp``.

A word's confidence is its posterior, the probability of the texts that have the word at that time, times the
sharpness of its tokens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, log1p

from streamasr.config import DecoderConfig
from streamasr.decoding.hypothesis import Hypothesis, Word
from tests.decoding.oracle.history import History, HistoryScorer, joined, starts_with_words
from tests.decoding.oracle.paths import PathWord, path_words
from tests.decoding.oracle.state import Beam

TIME_TOLERANCE_FRAMES = 5
"""Two words are at the same time if their frames, extended by this many, overlap."""
MIN_PROBABILITY = 1e-3
"""Less probable texts do not count for posteriors."""


@dataclass(slots=True)
class NBestEntry:
    """One text: the beams that spell it, summed."""

    history: History
    """Its finished words; all of them in a final n-best list."""
    score: float
    """Natural log: the acoustic score at first, in the end with all other scores."""
    path_score: float
    last_word: PathWord | None
    """Its last word on the best path, open or finished."""


def partial_nbest(beams: Iterable[Beam], committed: str) -> list[NBestEntry]:
    """Return the n-best list of a search that goes on; open words are listed as they are spelt so far.

    The first entry is the best one that begins with ``committed``; the others follow, best first.
    """
    entries: dict[str, NBestEntry] = {}
    for beam in beams:
        text = joined(beam.history.text, beam.partial_word)
        _add(entries, text, beam, beam.history, beam.total)
    return _rank(entries.values(), committed)


def final_nbest(
    beams: Iterable[Beam],
    scorer: HistoryScorer,
    *,
    end_of_sentence: bool,
    config: DecoderConfig,
    committed: str,
) -> list[NBestEntry]:
    """Return the n-best list of a search that ends: open words are finished and scored.

    The first entry is the best one that begins with ``committed``; the others follow, best first, without those more
    than ``beam_prune_log_prob`` below the first.
    """
    entries: dict[str, NBestEntry] = {}
    last_beam: dict[str, Beam] = {}  # decides about the empty last word, as in pyctcdecode
    for beam in beams:
        text = joined(beam.history.text, beam.partial_word)
        known = entries.get(text)
        last_beam[text] = beam
        if known is not None:
            history = known.history
        else:
            history = scorer.extend(beam.history, beam.partial_word) if beam.partial_word else beam.history
        _add(entries, text, beam, history, beam.score)
    for text, entry in entries.items():
        empty_word = config.charge_empty_last_word and not last_beam[text].partial_word
        entry.score += scorer.final_score(
            entry.history, end_of_sentence=end_of_sentence, empty_word=empty_word
        )
    first, *others = _rank(entries.values(), committed)
    return [first, *(other for other in others if other.score >= first.score + config.beam_prune_log_prob)]


def build_hypotheses(
    entries: Sequence[NBestEntry], count: int, blank_log_prob: float
) -> tuple[Hypothesis, ...]:
    """Build hypotheses of the first ``count`` entries; ``blank_log_prob`` is added to every score."""
    best = max(entry.score for entry in entries)
    weights = [exp(entry.score - best) for entry in entries]
    total = sum(weights)
    probable = [
        (entry.last_word, weight / total)
        for entry, weight in zip(entries, weights, strict=True)
        if weight / total >= MIN_PROBABILITY
    ]
    hypotheses = []
    for entry in entries[:count]:
        path = path_words(entry.last_word)
        words = tuple(
            Word(word.text, word.start_frame, word.end_frame, min(1.0, posterior) * word.sharpness)
            for word, posterior in zip(path, _posteriors(path, probable), strict=True)
        )
        hypotheses.append(Hypothesis(words, entry.score + blank_log_prob))
    return tuple(hypotheses)


def _add(entries: dict[str, NBestEntry], text: str, beam: Beam, history: History, score: float) -> None:
    known = entries.get(text)
    if known is None:
        entries[text] = NBestEntry(
            history, score, beam.path_score, beam.path.finish_word(beam.partial_word).words
        )
        return
    high, low = (score, known.score) if score > known.score else (known.score, score)
    known.score = high + log1p(exp(low - high))
    if beam.path_score > known.path_score:
        known.path_score = beam.path_score
        known.last_word = beam.path.finish_word(beam.partial_word).words


def _rank(entries: Iterable[NBestEntry], committed: str) -> list[NBestEntry]:
    ranked = sorted(entries, key=lambda entry: entry.score, reverse=True)
    first = next(entry for entry in ranked if starts_with_words(entry.history.text, committed))
    return [first, *(entry for entry in ranked if entry is not first)]


def _posteriors(words: Sequence[PathWord], entries: Iterable[tuple[PathWord | None, float]]) -> list[float]:
    """Sum for each of ``words`` the probabilities of the entries that have it at the same time.

    Args:
        words: of one path.
        entries: the last word and the probability of each.
    """
    posteriors = [0.0] * len(words)
    index_of = {id(word): index for index, word in enumerate(words)}
    indices_of_text: dict[str, list[int]] = defaultdict(list)
    for index, word in enumerate(words):
        indices_of_text[word.text].append(index)
    for last_word, probability in entries:
        matched: set[int] = set()
        other = last_word
        while other is not None:
            shared = index_of.get(id(other))
            if shared is not None:
                matched.update(range(shared + 1))
                break
            matched.update(
                index for index in indices_of_text[other.text] if _at_same_time(other, words[index])
            )
            other = other.previous
        for index in matched:
            posteriors[index] += probability
    return posteriors


def _at_same_time(left: PathWord, right: PathWord) -> bool:
    return (
        left.start_frame < right.end_frame + TIME_TOLERANCE_FRAMES
        and right.start_frame < left.end_frame + TIME_TOLERANCE_FRAMES
    )
