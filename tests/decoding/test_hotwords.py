"""Test the scores of hotwords, word by word and letter by letter."""

from __future__ import annotations

import math

import pytest
from pyctcdecode.language_model import HotwordScorer as Oracle

from streamasr.decoding.hotwords import compile_hotwords
from streamasr.decoding.hypothesis import Hotword
from streamasr.errors import ConfigError


def test_single_words_score_as_in_pyctcdecode() -> None:
    words = ["cat", "catalogue", "dog"]
    hotwords = compile_hotwords(Hotword(word, 7.0) for word in words)
    oracle = Oracle.build_scorer(words, weight=7.0)
    for text in ("", "cat", "a cat and a dog", "cat cat", "cats", "catalogue dogs"):
        assert hotwords.score(text) == pytest.approx(oracle.score(text))
    for part in ("c", "ca", "cat", "cata", "catalogu", "catalogue", "d", "x", "catx"):
        score = hotwords.score_partial("", part)
        assert (score is not None) == (part in oracle)
        assert (score or 0.0) == pytest.approx(oracle.score_partial_token(part))


def test_a_phrase_scores_word_by_word_and_loses_its_score_when_it_breaks_off() -> None:
    hotwords = compile_hotwords([Hotword("new york city", 5.0)])
    texts = (
        "new",
        "new york",
        "new york city",
        "new york times",
        "york city",
        "new new york",
        "a new york city",
    )
    assert [hotwords.score(text) for text in texts] == [5.0, 10.0, 15.0, 0.0, 0.0, 10.0, 15.0]


def test_letters_score_only_in_the_next_word_of_a_phrase() -> None:
    hotwords = compile_hotwords([Hotword("new york", 8.0)])
    assert hotwords.score_partial("", "ne") == pytest.approx(8.0 * 2 / 3)
    assert hotwords.score_partial("", "yo") is None
    assert hotwords.score_partial("new", "yo") == pytest.approx(4.0)
    assert hotwords.score_partial("new shoes", "yo") is None


def test_no_word_scores_twice() -> None:
    hotwords = compile_hotwords(
        [Hotword("york", 2.0), Hotword("new york", 5.0), Hotword("new york city", 5.0)]
    )
    assert hotwords.score("york") == 2.0
    assert hotwords.score("new york") == 10.0
    assert hotwords.score("new york city") == 15.0
    assert hotwords.score("new york hill") == 10.0


def test_for_equal_texts_the_highest_boost_counts() -> None:
    assert (
        compile_hotwords([Hotword("cat", 2.0), Hotword("cat", 3.0), Hotword("cat", 1.0)]).score("cat") == 3.0
    )


def test_a_negative_boost_is_a_penalty() -> None:
    assert compile_hotwords([Hotword("um", -3.0)]).score("um so um") == -6.0


@pytest.mark.parametrize("boost", [math.nan, math.inf, -math.inf])
def test_a_boost_that_is_not_finite_is_refused(boost: float) -> None:
    with pytest.raises(ConfigError, match="hotword 'cat': boost must be a finite number"):
        compile_hotwords([Hotword("cat", boost)])


def test_an_empty_hotword_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one word"):
        compile_hotwords([Hotword("  ", 1.0)])
