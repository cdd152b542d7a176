"""What has been said so far and what it is worth: the finished words of a beam, scored.

Knows words, the language model and hotwords; knows no frames and no log-probs. Beams that have finished the
same words share one :class:`Context`, so that the beam search compares contexts by identity.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.decoding.oracle.hotwords import NOTHING_HEARD, HotwordScorer, HotwordState
from tests.decoding.oracle.language_model import LanguageModel, LmState


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """Finished words of an utterance and their worth (natural logs)."""

    text: str
    """The words, one space between."""
    recent: tuple[str, ...]
    """The last of them, as many as can still change what the language model says."""
    lm_state: LmState
    lm_score: float
    hotword_state: HotwordState
    score: float
    """What the search adds to the acoustic score: language model and hotwords."""


@dataclass(frozen=True, slots=True)
class ContextScorer:
    """Grows contexts by words. Without a language model only hotwords count.

    Attributes:
        lm: the language model of the decoder, shared by all sessions.
        hotwords: the hotwords of one session.
    """

    lm: LanguageModel | None
    hotwords: HotwordScorer

    def root(self, after: Iterable[str] = ()) -> Context:
        """No words yet. ``after`` are the words said just before, where the sentence goes on."""
        state = None
        if self.lm is not None:
            state = self.lm.start_state
            for word in after:
                _, state = self.lm.score(state, word)
        return Context("", (), state, 0.0, NOTHING_HEARD, 0.0)

    def extend(self, context: Context, word: str) -> Context:
        """``context`` and one more finished word."""
        keep = 1 if self.lm is None else max(1, self.lm.order - 1)
        lm_state, lm_score = context.lm_state, context.lm_score
        if self.lm is not None:
            score, lm_state = self.lm.score(lm_state, word)
            lm_score += score
        heard = self.hotwords.advance(context.hotword_state, word) if self.hotwords else NOTHING_HEARD
        return Context(
            text=joined(context.text, word),
            recent=(*context.recent, word)[-keep:],
            lm_state=lm_state,
            lm_score=lm_score,
            hotword_state=heard,
            score=lm_score + heard.settled + heard.pending,
        )

    def score_part(self, context: Context, part: str) -> float:
        """What the open word ``part`` is worth: as a hotword's beginning, else as a known word's."""
        if self.hotwords:
            credit = self.hotwords.score_partial(context.hotword_state, part)
            if credit is not None:
                return credit
        return 0.0 if self.lm is None or not part else self.lm.score_partial(part)

    def score_end(self, context: Context, *, end_of_sentence: bool, empty_word: bool = False) -> float:
        """What ``context`` is worth when nothing follows; a phrase left open earns nothing.

        ``empty_word`` charges for one more word without letters.
        """
        score = context.lm_score + context.hotword_state.settled
        if self.lm is None:
            return score
        lm_state = context.lm_state
        if empty_word:
            charge, lm_state = self.lm.score(lm_state, "")
            score += charge
        return score + self.lm.score_end(lm_state) if end_of_sentence else score

    def rescore(self, context: Context) -> Context:
        """``context``, scored by the language model before, under this scorer's hotwords."""
        heard = NOTHING_HEARD
        if self.hotwords:
            for word in context.text.split():
                heard = self.hotwords.advance(heard, word)
        return Context(
            text=context.text,
            recent=context.recent,
            lm_state=context.lm_state,
            lm_score=context.lm_score,
            hotword_state=heard,
            score=context.lm_score + heard.settled + heard.pending,
        )


def joined(text: str, word: str) -> str:
    """``text`` and ``word``, one space between; either may be empty."""
    return f"{text} {word}" if text and word else text or word


def extends(text: str, committed: str) -> bool:
    """Whether the words of ``text`` begin with the words of ``committed``."""
    return text.startswith(committed) and (
        not committed or text[len(committed) : len(committed) + 1] in ("", " ")
    )
