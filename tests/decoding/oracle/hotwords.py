"""Score hotwords: the readable counterpart of ``native/hotwords.hpp``.

A single hotword scores what pyctcdecode's ``HotwordScorer`` gives it: its boost when it is complete, and before that
the share of its letters so far. A phrase scores its boost for each of its words, word by word as long as the phrase
goes on; the score is taken back when the phrase breaks off.
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
    """The first ``depth`` words of one or more phrases."""

    depth: int
    children: dict[str, _Node] = field(default_factory=dict)
    boost: float = 0.0
    """The highest boost of the phrases that go on from here or end here."""
    end_boost: float | None = None
    """The highest boost of the phrases that end here."""
    partial_scores: dict[str, float] = field(default_factory=dict)
    """Scores of the letters of a next word, by its first letters."""


class HotwordState(NamedTuple):
    """The hotword score of a sequence of words. ``open`` are the phrases under way at its end."""

    completed_score: float = 0.0
    pending_score: float = 0.0
    open: tuple[_Node, ...] = ()
    covered_words: int = 0
    """How many of the last words belong to a complete hotword; no word counts twice."""


NO_HOTWORDS = HotwordState()


class HotwordScorer:
    """Scores words against a session's hotwords; immutable.

    Args:
        hotwords: texts as the model spells them. For equal texts the highest boost counts.

    Raises:
        ConfigError: a text is empty, or a boost is not a finite number.
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
                score = boost * length / len(word)
                part = word[:length]
                node.partial_scores[part] = max(score, node.partial_scores.get(part, score))
            known = word in node.children
            child = node.children.setdefault(word, _Node(depth=node.depth + 1))
            child.boost = max(boost, child.boost) if known else boost
            node = child
        node.end_boost = boost if node.end_boost is None else max(boost, node.end_boost)

    def advance(self, state: HotwordState, word: str) -> HotwordState:
        """Return the state after one more whole word."""
        active = [child for node in (self._root, *state.open) if (child := node.children.get(word))]
        if not active:
            return HotwordState(completed_score=state.completed_score) if state is not NO_HOTWORDS else state
        added_score, covered_words = 0.0, 0
        for node in active:
            if node.end_boost is not None:
                new_words = node.depth - min(node.depth - 1, state.covered_words)
                if covered_words == 0 or node.end_boost * new_words > added_score:
                    added_score = node.end_boost * new_words
                    covered_words = max(node.depth, state.covered_words + 1)
        unfinished = tuple(node for node in active if node.children)
        pending_score = max(
            (node.boost * max(0, node.depth - covered_words) for node in unfinished), default=0.0
        )
        return HotwordState(state.completed_score + added_score, pending_score, unfinished, covered_words)

    def score(self, state: HotwordState) -> float:
        """Return the score of whole words, phrases under way included (natural log)."""
        return state.completed_score + state.pending_score

    def score_partial(self, state: HotwordState, part: str) -> float | None:
        """Return the score of the first letters of the next word; ``None`` if no hotword begins so."""
        scores = [
            score
            for node in (self._root, *state.open)
            if (score := node.partial_scores.get(part)) is not None
        ]
        return max(scores) if scores else None
