"""From beams to readings: distinct texts, best first, with word times and confidences.

Knows beams as they stand at one frame; searches nothing. A word's confidence is the share of the readings'
probability in which the word is said at that time, times the sharpness of its tokens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, log1p

from streamasr.config import DecoderConfig
from streamasr.decoding.hypothesis import Hypothesis, Word
from tests.decoding.oracle.context import Context, ContextScorer, extends, joined
from tests.decoding.oracle.paths import SpokenWord, spoken_words
from tests.decoding.oracle.state import Beam

TIME_SLACK_FRAMES = 5
"""Two readings say the same word at the same time if its frames overlap after stretching them by so many."""
NEGLIGIBLE_SHARE = 1e-3
"""Readings less probable than this do not count for confidences."""


@dataclass(slots=True)
class Reading:
    """One text, with the beams that spell it summed."""

    context: Context
    """Its words, the one still open left out unless the reading is final."""
    score: float
    """Natural log; acoustic while beams are being summed, with every other score in the end."""
    path_score: float
    words: SpokenWord | None
    """Its last word on its best path, the open one included."""


def read_open(beams: Iterable[Beam], committed: str) -> list[Reading]:
    """Readings of a search that goes on; the open word stands as it is spelt so far.

    The first is the best one that begins with ``committed``; the others follow, best first.
    """
    readings: dict[str, Reading] = {}
    for beam in beams:
        text = joined(beam.context.text, beam.part)
        _add(readings, text, beam, beam.context, beam.total)
    return _ranked(readings.values(), committed)


def read_final(
    beams: Iterable[Beam],
    scorer: ContextScorer,
    *,
    end_of_sentence: bool,
    config: DecoderConfig,
    committed: str,
) -> list[Reading]:
    """Readings of a search that ends: open words are finished and scored, then the sentence's end.

    The first is the best one that begins with ``committed``; the others follow, best first, those further
    than ``beam_prune_log_prob`` below the first left out.
    """
    readings: dict[str, Reading] = {}
    last_beam: dict[str, Beam] = {}  # pyctcdecode charges a text by the last beam that spells it
    for beam in beams:
        text = joined(beam.context.text, beam.part)
        known = readings.get(text)
        last_beam[text] = beam
        if known is not None:
            context = known.context
        else:
            context = scorer.extend(beam.context, beam.part) if beam.part else beam.context
        _add(readings, text, beam, context, beam.score)
    for text, reading in readings.items():
        charged = config.charge_empty_last_word and not last_beam[text].part
        reading.score += scorer.score_end(
            reading.context, end_of_sentence=end_of_sentence, empty_word=charged
        )
    first, *others = _ranked(readings.values(), committed)
    return [first, *(other for other in others if other.score >= first.score + config.beam_prune_log_prob)]


def hypotheses_of(readings: Sequence[Reading], count: int, offset: float) -> tuple[Hypothesis, ...]:
    """The first ``count`` of ``readings`` with confidences; ``offset`` is added to every score."""
    best = max(reading.score for reading in readings)
    shares = [exp(reading.score - best) for reading in readings]
    total = sum(shares)
    weighed = [
        (reading.words, share / total)
        for reading, share in zip(readings, shares, strict=True)
        if share / total >= NEGLIGIBLE_SHARE
    ]
    hypotheses = []
    for reading in readings[:count]:
        spoken = spoken_words(reading.words)
        support = _support(spoken, weighed)
        words = tuple(
            Word(word.text, word.start_frame, word.end_frame, min(1.0, share) * word.sharpness)
            for word, share in zip(spoken, support, strict=True)
        )
        hypotheses.append(Hypothesis(words, reading.score + offset))
    return tuple(hypotheses)


def _add(readings: dict[str, Reading], text: str, beam: Beam, context: Context, score: float) -> None:
    known = readings.get(text)
    if known is None:
        readings[text] = Reading(context, score, beam.path_score, beam.path.close(beam.part).words)
        return
    high, low = (score, known.score) if score > known.score else (known.score, score)
    known.score = high + log1p(exp(low - high))
    if beam.path_score > known.path_score:
        known.path_score = beam.path_score
        known.words = beam.path.close(beam.part).words


def _ranked(readings: Iterable[Reading], committed: str) -> list[Reading]:
    ranked = sorted(readings, key=lambda reading: reading.score, reverse=True)
    first = next(reading for reading in ranked if extends(reading.context.text, committed))
    return [first, *(reading for reading in ranked if reading is not first)]


def _support(words: Sequence[SpokenWord], weighed: Iterable[tuple[SpokenWord | None, float]]) -> list[float]:
    """For each of ``words`` the share of the weighed readings that say it too, at the same time."""
    support = [0.0] * len(words)
    place_of = {id(word): place for place, word in enumerate(words)}
    places_of_text: dict[str, list[int]] = defaultdict(list)
    for place, word in enumerate(words):
        places_of_text[word.text].append(place)
    for last, share in weighed:
        said: set[int] = set()
        at = last
        while at is not None:
            shared_place = place_of.get(id(at))
            if shared_place is not None:
                said.update(range(shared_place + 1))
                break
            said.update(place for place in places_of_text[at.text] if _same_time(at, words[place]))
            at = at.before
        for place in said:
            support[place] += share
    return support


def _same_time(one: SpokenWord, other: SpokenWord) -> bool:
    return (
        one.start_frame < other.end_frame + TIME_SLACK_FRAMES
        and other.start_frame < one.end_frame + TIME_SLACK_FRAMES
    )
