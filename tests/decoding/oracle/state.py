"""A beam search as it stands between two frames, and what can be told from that alone.

Values only: knows neither log-probs nor how a search goes on.
"""

from __future__ import annotations

from collections.abc import Iterable
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


def settled_text(state: BeamState) -> str:
    """The longest run of finished words with which every beam that can still win begins."""
    texts = {beam.context.text for beam in undominated(state.beams)}
    shared = texts.pop().split()
    for text in texts:
        words = text.split()
        agreeing = takewhile(lambda pair: pair[0] == pair[1], zip(shared, words, strict=False))
        shared = [word for word, _ in agreeing]
    return " ".join(shared)
