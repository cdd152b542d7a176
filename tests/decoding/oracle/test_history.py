"""Test the scores of histories."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from streamasr.config import DecoderConfig
from streamasr.decoding.hypothesis import Hotword
from tests.decoding.oracle.builders import oracle_lm
from tests.decoding.oracle.history import History, HistoryScorer, joined, starts_with_words
from tests.decoding.oracle.hotwords import HotwordScorer

LM = oracle_lm(DecoderConfig())


def scored(scorer: HistoryScorer, text: str, previous_words: Sequence[str] = ()) -> History:
    history = scorer.root(previous_words)
    for word in text.split():
        history = scorer.extend(history, word)
    return history


def test_a_history_keeps_as_many_recent_words_as_the_language_model_looks_at() -> None:
    history = scored(HistoryScorer(LM, HotwordScorer(())), "the old man left")
    assert history.text == "the old man left"
    assert history.recent == ("man", "left")


def test_a_sentence_that_goes_on_is_scored_after_the_previous_words() -> None:
    scorer = HistoryScorer(LM, HotwordScorer(()))
    whole, before = scored(scorer, "the boat left the harbour"), scored(scorer, "the boat left")
    carried = scored(scorer, "the harbour", previous_words=["the", "boat", "left"])
    assert carried.text == "the harbour"
    assert carried.score == pytest.approx(whole.score - before.score)
    assert carried.score != pytest.approx(scored(scorer, "the harbour").score)


def test_a_sentence_that_goes_on_has_no_score_for_its_end() -> None:
    scorer = HistoryScorer(LM, HotwordScorer(()))
    history = scored(scorer, "the boat")
    assert scorer.final_score(history, end_of_sentence=False) == history.score
    assert scorer.final_score(history, end_of_sentence=True) < history.score


def test_an_incomplete_phrase_scores_nothing_in_the_end() -> None:
    scorer = HistoryScorer(None, HotwordScorer([Hotword("old man", 4.0)]))
    history = scored(scorer, "the old")
    assert history.score == 4.0
    assert scorer.final_score(history, end_of_sentence=True) == 0.0


def test_the_score_of_a_partial_hotword_replaces_the_language_models_penalty() -> None:
    scorer = HistoryScorer(LM, HotwordScorer([Hotword("zygote", 6.0)]))
    root = scorer.root()
    assert scorer.score_partial_word(root, "zyg") == pytest.approx(3.0)
    assert scorer.score_partial_word(root, "zyx") == LM.score_partial("zyx") == -10.0


def test_rescoring_equals_scoring_from_the_start() -> None:
    old = HistoryScorer(LM, HotwordScorer([Hotword("man", 2.0)]))
    new = HistoryScorer(LM, HotwordScorer([Hotword("old man", 5.0)]))
    rescored, fresh = new.rescore(scored(old, "the old man")), scored(new, "the old man")
    assert rescored.score == pytest.approx(fresh.score)
    assert rescored.hotword_state == fresh.hotword_state


def test_texts_are_joined_and_compared_by_whole_words() -> None:
    assert (joined("", "a"), joined("a", ""), joined("a", "b")) == ("a", "a", "a b")
    assert starts_with_words("hello you", "hello")
    assert starts_with_words("hello", "")
    assert not starts_with_words("hello", "hell")
    assert not starts_with_words("hell", "hello")
