"""Hotwords: words and phrases a session listens for, and what hearing them is worth.

Knows words and letters only, no beams and no language model. A single hotword is worth exactly what
pyctcdecode's ``HotwordScorer`` gives it: its boost once whole, and while it is being spelt the share of its
letters heard so far. A phrase is worth its boost for each of its words, credited word by word as long as the
phrase goes on, and taken back when it breaks off.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from streamasr.decoding.hypothesis import Hotword
from streamasr.errors import ConfigError


@dataclass(slots=True, eq=False)
class _Node:
    """A place inside phrases, after ``depth`` of their words."""

    depth: int
    children: dict[str, _Node] = field(default_factory=dict)
    boost: float = 0.0
    """The highest boost of the phrases that go on from here or end here."""
    ending_boost: float | None = None
    """The highest boost of the phrases that end here."""
    part_credit: dict[str, float] = field(default_factory=dict)
    """What the beginning of a next word is worth."""


class HotwordState(NamedTuple):
    """What a sequence of words has earned. ``open`` are the phrases under way."""

    settled: float = 0.0
    pending: float = 0.0
    open: tuple[_Node, ...] = ()
    covered: int = 0
    """How many of the last words are part of a whole hotword, so that no word is paid twice."""


NOTHING_HEARD = HotwordState()


class HotwordScorer:
    """Scores words against a session's hotwords; immutable.

    Args:
        hotwords: texts as the model spells them. Of equal texts the highest boost counts.

    Raises:
        ConfigError: an empty text, or a boost that is not a finite number.
    """

    def __init__(self, hotwords: Iterable[Hotword]) -> None:
        self.hotwords = tuple(hotwords)
        self._root = _Node(depth=0)
        for hotword in self.hotwords:
            if not math.isfinite(hotword.boost):
                raise ConfigError(
                    f"hotword {hotword.text!r}: boost must be a finite number, got {hotword.boost}"
                )
            words = hotword.text.split()
            if not words:
                raise ConfigError("a hotword must hold at least one word, got an empty text")
            self._add(words, hotword.boost)

    def __bool__(self) -> bool:
        return bool(self.hotwords)

    def _add(self, words: list[str], boost: float) -> None:
        node = self._root
        for word in words:
            for length in range(1, len(word) + 1):
                credit = boost * length / len(word)
                part = word[:length]
                node.part_credit[part] = max(credit, node.part_credit.get(part, credit))
            known = word in node.children
            child = node.children.setdefault(word, _Node(depth=node.depth + 1))
            child.boost = max(boost, child.boost) if known else boost
            node = child
        node.ending_boost = boost if node.ending_boost is None else max(boost, node.ending_boost)

    def advance(self, state: HotwordState, word: str) -> HotwordState:
        """The state after one more whole word."""
        heard = [child for node in (self._root, *state.open) if (child := node.children.get(word))]
        if not heard:
            return HotwordState(settled=state.settled) if state is not NOTHING_HEARD else state
        gain, covered = 0.0, 0
        for node in heard:
            if node.ending_boost is not None:
                newly = node.depth - min(node.depth - 1, state.covered)
                if covered == 0 or node.ending_boost * newly > gain:
                    gain = node.ending_boost * newly
                    covered = max(node.depth, state.covered + 1)
        unfinished = tuple(node for node in heard if node.children)
        pending = max((node.boost * max(0, node.depth - covered) for node in unfinished), default=0.0)
        return HotwordState(state.settled + gain, pending, unfinished, covered)

    def score(self, state: HotwordState) -> float:
        """What the whole words are worth, phrases under way included (natural log)."""
        return state.settled + state.pending

    def score_partial(self, state: HotwordState, part: str) -> float | None:
        """What the beginning ``part`` of the next word is worth; ``None`` where no hotword begins so."""
        credits = [
            credit for node in (self._root, *state.open) if (credit := node.part_credit.get(part)) is not None
        ]
        return max(credits) if credits else None
