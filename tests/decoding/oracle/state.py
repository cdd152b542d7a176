"""Define the state of a beam search between two frames, and compute what follows from it alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import NamedTuple

from tests.decoding.oracle.history import History, HistoryScorer
from tests.decoding.oracle.paths import Path


class Beam(NamedTuple):
    """All paths that spell one text and end in one token."""

    history: History
    """The finished words."""
    partial_word: str
    """The open word; empty after a separator."""
    last_token: int
    """The token of the last frame; blank at the start."""
    score: float
    """Log-prob of all the paths together."""
    path_score: float
    """Log-prob of the best one, ``path``."""
    partial_word_score: float
    path: Path
    tokens: tuple[tuple[int, int, int], ...] = ()
    """The finished tokens of ``path``: the frame at which each was finished, the index of its beam, and the token
    that ended its word, -1 if none did. Beams share as many of them as their paths have in common."""

    @property
    def total(self) -> float:
        """The score by which beams compete."""
        return self.score + self.history.score + self.partial_word_score


@dataclass(frozen=True, slots=True, eq=False)
class BeamState:
    """The state of a search between two frames. Bounded by the beam width times the length of its text."""

    beams: tuple[Beam, ...]
    """Best first, never empty."""
    blank_log_prob: float
    """Log-prob of the frames in which only blank was possible; part of every beam's score."""
    ends_in_blank: bool
    """Whether every beam does, so that one more blank changes none of them."""
    frame: int
    """Frames of the stream so far, including those before this search."""
    committed: str
    """The words with which every best hypothesis begins from now on."""
    scorer: HistoryScorer


def recombined(beams: Iterable[Beam]) -> tuple[Beam, ...]:
    """Keep of all beams that can be recombined only the best (pyctcdecode's ``prune_history``).

    Two beams can be recombined if they agree in the words that the language model still looks at, in the hotword
    phrases under way, in the open word and in the last token. All future scores are then the same for both, so the
    worse one can never become the best.

    Args:
        beams: best first.
    """
    return tuple(group[0] for group in recombinable(beams))


def recombinable(beams: Iterable[Beam]) -> list[list[Beam]]:
    """Group the beams that can be recombined with each other; see :func:`recombined`."""
    groups: dict[object, list[Beam]] = {}
    for beam in beams:
        recent, hotwords = beam.history.recent, beam.history.hotword_state
        key = (recent, hotwords.open, hotwords.covered_words, beam.partial_word, beam.last_token)
        groups.setdefault(key, []).append(beam)
    return list(groups.values())


def rivals(state: BeamState, margin: float) -> list[str]:
    """Return the texts of recombinable beams less than ``margin`` below the best of them, best first."""
    close = [
        [beam for beam in group if group[0].total - beam.total < margin]
        for group in recombinable(state.beams)
    ]
    found = {id(beam) for group in close if len(group) > 1 for beam in group}
    return list(dict.fromkeys(beam.history.text for beam in state.beams if id(beam) in found))


def shared_tokens(beams: Sequence[Beam]) -> int:
    """Count the tokens that the paths of all ``beams`` share."""
    levels = zip(*(beam.tokens for beam in beams), strict=False)
    return sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, levels))


def divergent_tokens(beams: Sequence[Beam]) -> int:
    """Count the tokens in which the paths of ``beams`` differ, each once."""
    return len(set().union(*(beam.tokens for beam in beams))) - shared_tokens(beams)


def limit_divergence(beams: tuple[Beam, ...], max_tokens: int) -> tuple[Beam, ...]:
    """Drop beams until their paths have at most ``max_tokens`` divergent tokens.

    Those go that diverge from the best one in the first half of its divergent tokens, repeatedly.

    Args:
        beams: best first.
        max_tokens: the limit.
    """
    while divergent_tokens(beams) > max_tokens:
        best, shared = beams[0].tokens, shared_tokens(beams)
        middle = best[: shared + (len(best) - shared + 1) // 2]
        if len(middle) == shared:
            return beams[:1]
        beams = tuple(beam for beam in beams if beam.tokens[: len(middle)] == middle)
    return beams


def stable_text(state: BeamState, margin: float = 0.0, gains: Mapping[str, float] | None = None) -> str:
    """Return the longest sequence of finished words with which all beams begin that can still become the best.

    Args:
        state: a search.
        margin: of the :func:`rivals`.
        gains: what rescoring adds to the scores of the rivals' texts.
    """
    gains, texts = gains or {}, set()
    for group in recombinable(state.beams):
        close = [beam for beam in group if group[0].total - beam.total < margin]
        known = [beam for beam in close if beam.history.text in gains]
        if group[0] not in known:
            texts.add(group[0].history.text)
        else:
            texts.add(max(known, key=lambda beam: beam.total + gains[beam.history.text]).history.text)
    shared = texts.pop().split()
    for text in texts:
        words = text.split()
        equal = takewhile(lambda pair: pair[0] == pair[1], zip(shared, words, strict=False))
        shared = [word for word, _ in equal]
    return " ".join(shared)
