"""A beam search as it stands between two frames, and what can be told from that alone.

Values only: knows neither log-probs nor how a search goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import NamedTuple

from tests.decoding.oracle.context import Context, ContextScorer
from tests.decoding.oracle.paths import Path


class Beam(NamedTuple):
    """All paths that spell one text and end in one token."""

    context: Context
    """The finished words."""
    part: str
    """The word being spelt; empty after a separator."""
    last: int
    """The token of the last frame; blank at the start."""
    score: float
    """Log probability of all the paths together."""
    path_score: float
    """Log probability of the best one, ``path``."""
    part_score: float
    """What ``part`` is worth so far."""
    path: Path
    tokens: tuple[tuple[int, int, int], ...] = ()
    """The finished tokens of ``path``, each by the frame that finished it, the place of the beam that it was in, and
    the token that ended its word, too, -1 where none did: beams share as many of them as they do of their past."""

    @property
    def total(self) -> float:
        """The score by which beams compete."""
        return self.score + self.context.score + self.part_score


@dataclass(frozen=True, slots=True, eq=False)
class BeamState:
    """A search under way. Bounded by the beam width times the length of its text."""

    beams: tuple[Beam, ...]
    """Best first, never empty."""
    offset: float
    """Log probability of frames in which nothing but blank was possible; belongs to every beam alike."""
    resting: bool
    """Whether every beam ends in blank, so that one more blank changes none of them."""
    frame: int
    """Frames of the stream seen so far, those before this search included."""
    committed: str
    """Words with which every reading begins from now on."""
    scorer: ContextScorer


def undominated(beams: Iterable[Beam]) -> tuple[Beam, ...]:
    """Leave out every beam of which a better one has the same future (pyctcdecode's ``prune_history``).

    Two beams that agree on the words the language model still looks at, on the hotwords under way, on the
    open word and on the last token gain the same from every future frame, so that the worse of them can never
    win.

    Args:
        beams: best first.
    """
    first: dict[object, Beam] = {}
    for beam in beams:
        recent, heard = beam.context.recent, beam.context.hotword_state
        first.setdefault((recent, heard.open, heard.covered, beam.part, beam.last), beam)
    return tuple(first.values())


def shared_tokens(beams: Sequence[Beam]) -> int:
    """How many tokens of their paths all of ``beams`` share."""
    levels = zip(*(beam.tokens for beam in beams), strict=False)
    return sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, levels))


def open_tokens(beams: Sequence[Beam]) -> int:
    """How many tokens the paths hold beyond those, each counted once."""
    return len(set().union(*(beam.tokens for beam in beams))) - shared_tokens(beams)


def narrowed(beams: tuple[Beam, ...], most: int) -> tuple[Beam, ...]:
    """Leave out beams that part from the best one so early that all of them hold more than ``most`` open tokens.

    Those go that part from it before the middle of its open tokens, and again until the rest is few enough.

    Args:
        beams: best first.
        most: tokens.
    """
    while open_tokens(beams) > most:
        best, shared = beams[0].tokens, shared_tokens(beams)
        middle = best[: shared + (len(best) - shared + 1) // 2]
        if len(middle) == shared:
            return beams[:1]
        beams = tuple(beam for beam in beams if beam.tokens[: len(middle)] == middle)
    return beams


def settled_text(state: BeamState) -> str:
    """The longest run of finished words with which every beam that can still win begins."""
    texts = {beam.context.text for beam in undominated(state.beams)}
    shared = texts.pop().split()
    for text in texts:
        words = text.split()
        agreeing = takewhile(lambda pair: pair[0] == pair[1], zip(shared, words, strict=False))
        shared = [word for word, _ in agreeing]
    return " ".join(shared)
