"""Score the finished words of beams with the language model and the hotwords.

Beams with the same finished words share one :class:`History`, so that the beam search compares histories by identity.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.decoding.oracle.hotwords import NO_HOTWORDS, HotwordScorer, HotwordState
from tests.decoding.oracle.language_model import LanguageModel, LmState


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """Finished words of an utterance and their scores (natural logs)."""

    text: str
    """The words, one space between."""
    recent: tuple[str, ...]
    """The last of them, as many as the language model's next score can depend on."""
    lm_state: LmState
    lm_score: float
    hotword_state: HotwordState
    score: float
    """Language model and hotwords: what the search adds to the acoustic score."""


@dataclass(frozen=True, slots=True)
class HistoryScorer:
    """Extends histories by words and scores them. Without a language model only hotwords count.

    Attributes:
        lm: the language model of the decoder, shared by all sessions.
        hotwords: the hotwords of one session.
    """

    lm: LanguageModel | None
    hotwords: HotwordScorer

    def root(self, previous_words: Iterable[str] = ()) -> History:
        """Return the history without words. ``previous_words`` are the words before, if the sentence goes on."""
        state = None
        if self.lm is not None:
            state = self.lm.start_state
            for word in previous_words:
                _, state = self.lm.score(state, word)
        return History("", (), state, 0.0, NO_HOTWORDS, 0.0)

    def extend(self, history: History, word: str) -> History:
        """Append a finished word to ``history``."""
        keep = 1 if self.lm is None else max(1, self.lm.order - 1)
        lm_state, lm_score = history.lm_state, history.lm_score
        if self.lm is not None:
            score, lm_state = self.lm.score(lm_state, word)
            lm_score += score
        hotwords = self.hotwords.advance(history.hotword_state, word) if self.hotwords else NO_HOTWORDS
        return History(
            text=joined(history.text, word),
            recent=(*history.recent, word)[-keep:],
            lm_state=lm_state,
            lm_score=lm_score,
            hotword_state=hotwords,
            score=lm_score + hotwords.completed_score + hotwords.pending_score,
        )

    def score_partial_word(self, history: History, partial_word: str) -> float:
        """Score an open word: as the beginning of a hotword if it is one, else with the language model."""
        if self.hotwords:
            word_score = self.hotwords.score_partial(history.hotword_state, partial_word)
            if word_score is not None:
                return word_score
        return 0.0 if self.lm is None or not partial_word else self.lm.score_partial(partial_word)

    def final_score(self, history: History, *, end_of_sentence: bool, empty_word: bool = False) -> float:
        """Score ``history`` at the end of an utterance; phrases under way score nothing.

        ``empty_word`` adds the score of one more word without letters.
        """
        score = history.lm_score + history.hotword_state.completed_score
        if self.lm is None:
            return score
        lm_state = history.lm_state
        if empty_word:
            word_score, lm_state = self.lm.score(lm_state, "")
            score += word_score
        return score + self.lm.score_end(lm_state) if end_of_sentence else score

    def rescore(self, history: History) -> History:
        """Rescore ``history`` with this scorer's hotwords; its language model score stays."""
        hotwords = NO_HOTWORDS
        if self.hotwords:
            for word in history.text.split():
                hotwords = self.hotwords.advance(hotwords, word)
        return History(
            text=history.text,
            recent=history.recent,
            lm_state=history.lm_state,
            lm_score=history.lm_score,
            hotword_state=hotwords,
            score=history.lm_score + hotwords.completed_score + hotwords.pending_score,
        )


def joined(text: str, word: str) -> str:
    """Join ``text`` and ``word`` with one space; either may be empty."""
    return f"{text} {word}" if text and word else text or word


def starts_with_words(text: str, committed: str) -> bool:
    """Return whether the words of ``text`` begin with the words of ``committed``."""
    return text.startswith(committed) and (
        not committed or text[len(committed) : len(committed) + 1] in ("", " ")
    )
