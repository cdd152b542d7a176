"""Finished words and what they are worth."""

from __future__ import annotations

import pytest

from streamasr.config import DecoderConfig
from streamasr.decoding.hypothesis import Hotword
from tests.decoding.oracle.context import ContextScorer, extends, joined
from tests.decoding.oracle.hotwords import HotwordScorer
from tests.decoding.oracle.making import oracle_lm

LM = oracle_lm(DecoderConfig())


def scored(scorer, text, after=()):
    context = scorer.root(after)
    for word in text.split():
        context = scorer.extend(context, word)
    return context


def test_a_context_remembers_as_many_words_as_the_language_model_does():
    context = scored(ContextScorer(LM, HotwordScorer(())), "the old man left")
    assert context.text == "the old man left"
    assert context.recent == ("man", "left")


def test_a_sentence_that_goes_on_is_scored_after_the_words_before():
    scorer = ContextScorer(LM, HotwordScorer(()))
    whole, before = scored(scorer, "the boat left the harbour"), scored(scorer, "the boat left")
    carried = scored(scorer, "the harbour", after=["the", "boat", "left"])
    assert carried.text == "the harbour"
    assert carried.score == pytest.approx(whole.score - before.score)
    assert carried.score != pytest.approx(scored(scorer, "the harbour").score)


def test_a_sentence_that_goes_on_is_not_charged_for_its_end():
    scorer = ContextScorer(LM, HotwordScorer(()))
    context = scored(scorer, "the boat")
    assert scorer.score_end(context, end_of_sentence=False) == context.score
    assert scorer.score_end(context, end_of_sentence=True) < context.score


def test_a_phrase_left_open_earns_nothing_in_the_end():
    scorer = ContextScorer(None, HotwordScorer([Hotword("old man", 4.0)]))
    context = scored(scorer, "the old")
    assert context.score == 4.0
    assert scorer.score_end(context, end_of_sentence=True) == 0.0


def test_a_hotwords_beginning_counts_instead_of_the_language_models_penalty():
    scorer = ContextScorer(LM, HotwordScorer([Hotword("zygote", 6.0)]))
    root = scorer.root()
    assert scorer.score_part(root, "zyg") == pytest.approx(3.0)
    assert scorer.score_part(root, "zyx") == LM.score_partial("zyx") == -10.0


def test_rescoring_is_scoring_from_the_start():
    old = ContextScorer(LM, HotwordScorer([Hotword("man", 2.0)]))
    new = ContextScorer(LM, HotwordScorer([Hotword("old man", 5.0)]))
    rescored, fresh = new.rescore(scored(old, "the old man")), scored(new, "the old man")
    assert rescored.score == pytest.approx(fresh.score)
    assert rescored.hotword_state == fresh.hotword_state


def test_joining_and_extending_go_by_whole_words():
    assert (joined("", "a"), joined("a", ""), joined("a", "b")) == ("a", "a", "a b")
    assert extends("hello you", "hello")
    assert extends("hello", "")
    assert not extends("hello", "hell")
    assert not extends("hell", "hello")
