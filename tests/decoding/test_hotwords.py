"""What hotwords are worth, word by word and letter by letter."""

from __future__ import annotations

import math

import pytest
from pyctcdecode.language_model import HotwordScorer as Oracle

from streamasr.decoding.hotwords import compile_hotwords
from streamasr.decoding.hypothesis import Hotword
from streamasr.errors import ConfigError


def test_single_words_are_worth_what_pyctcdecode_gives():
    words = ["cat", "catalogue", "dog"]
    hotwords = compile_hotwords(Hotword(word, 7.0) for word in words)
    oracle = Oracle.build_scorer(words, weight=7.0)
    for text in ("", "cat", "a cat and a dog", "cat cat", "cats", "catalogue dogs"):
        assert hotwords.score(text) == pytest.approx(oracle.score(text))
    for part in ("c", "ca", "cat", "cata", "catalogu", "catalogue", "d", "x", "catx"):
        credit = hotwords.score_partial("", part)
        assert (credit is not None) == (part in oracle)
        assert (credit or 0.0) == pytest.approx(oracle.score_partial_token(part))


def test_a_phrase_earns_word_by_word_and_loses_it_all_when_it_breaks():
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


def test_only_the_next_word_of_a_phrase_earns_while_it_is_spelt():
    hotwords = compile_hotwords([Hotword("new york", 8.0)])
    assert hotwords.score_partial("", "ne") == pytest.approx(8.0 * 2 / 3)
    assert hotwords.score_partial("", "yo") is None
    assert hotwords.score_partial("new", "yo") == pytest.approx(4.0)
    assert hotwords.score_partial("new shoes", "yo") is None


def test_no_word_is_paid_twice():
    hotwords = compile_hotwords(
        [Hotword("york", 2.0), Hotword("new york", 5.0), Hotword("new york city", 5.0)]
    )
    assert hotwords.score("york") == 2.0
    assert hotwords.score("new york") == 10.0
    assert hotwords.score("new york city") == 15.0
    assert hotwords.score("new york hill") == 10.0


def test_of_equal_texts_the_highest_boost_counts():
    assert (
        compile_hotwords([Hotword("cat", 2.0), Hotword("cat", 3.0), Hotword("cat", 1.0)]).score("cat") == 3.0
    )


def test_a_negative_boost_is_a_penalty():
    assert compile_hotwords([Hotword("um", -3.0)]).score("um so um") == -6.0


@pytest.mark.parametrize("boost", [math.nan, math.inf, -math.inf])
def test_a_boost_that_is_no_number_is_refused(boost):
    with pytest.raises(ConfigError, match="hotword 'cat': boost must be a finite number"):
        compile_hotwords([Hotword("cat", boost)])


def test_an_empty_hotword_is_refused():
    with pytest.raises(ConfigError, match="at least one word"):
        compile_hotwords([Hotword("  ", 1.0)])
