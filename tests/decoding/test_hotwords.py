"""What hotwords are worth, word by word and letter by letter."""

from __future__ import annotations

import math

import pytest
from pyctcdecode.language_model import HotwordScorer as Oracle

from streamasr.decoding.hotwords import NOTHING_HEARD, HotwordScorer
from streamasr.decoding.hypothesis import Hotword
from streamasr.errors import ConfigError


def worth(scorer, text):
    state = NOTHING_HEARD
    for word in text.split():
        state = scorer.advance(state, word)
    return scorer.score(state)


def part_worth(scorer, text, part):
    state = NOTHING_HEARD
    for word in text.split():
        state = scorer.advance(state, word)
    return scorer.score_partial(state, part)


def test_single_words_are_worth_what_pyctcdecode_gives():
    words = ["cat", "catalogue", "dog"]
    scorer = HotwordScorer(Hotword(word, 7.0) for word in words)
    oracle = Oracle.build_scorer(words, weight=7.0)
    for text in ("", "cat", "a cat and a dog", "cat cat", "cats", "catalogue dogs"):
        assert worth(scorer, text) == pytest.approx(oracle.score(text))
    for part in ("c", "ca", "cat", "cata", "catalogu", "catalogue", "d", "x", "catx"):
        credit = scorer.score_partial(NOTHING_HEARD, part)
        assert (credit is not None) == (part in oracle)
        assert (credit or 0.0) == pytest.approx(oracle.score_partial_token(part))


def test_a_phrase_earns_word_by_word_and_loses_it_all_when_it_breaks():
    scorer = HotwordScorer([Hotword("new york city", 5.0)])
    texts = (
        "new",
        "new york",
        "new york city",
        "new york times",
        "york city",
        "new new york",
        "a new york city",
    )
    assert [worth(scorer, text) for text in texts] == [5.0, 10.0, 15.0, 0.0, 0.0, 10.0, 15.0]


def test_only_the_next_word_of_a_phrase_earns_while_it_is_spelt():
    scorer = HotwordScorer([Hotword("new york", 8.0)])
    assert part_worth(scorer, "", "ne") == pytest.approx(8.0 * 2 / 3)
    assert part_worth(scorer, "", "yo") is None
    assert part_worth(scorer, "new", "yo") == pytest.approx(4.0)
    assert part_worth(scorer, "new shoes", "yo") is None


def test_no_word_is_paid_twice():
    scorer = HotwordScorer([Hotword("york", 2.0), Hotword("new york", 5.0), Hotword("new york city", 5.0)])
    assert worth(scorer, "york") == 2.0
    assert worth(scorer, "new york") == 10.0
    assert worth(scorer, "new york city") == 15.0
    assert worth(scorer, "new york hill") == 10.0


def test_of_equal_texts_the_highest_boost_counts():
    assert worth(HotwordScorer([Hotword("cat", 2.0), Hotword("cat", 3.0), Hotword("cat", 1.0)]), "cat") == 3.0


def test_a_negative_boost_is_a_penalty():
    assert worth(HotwordScorer([Hotword("um", -3.0)]), "um so um") == -6.0


def test_a_long_text_keeps_no_trace_of_words_long_gone():
    scorer = HotwordScorer([Hotword("new york", 1.0)])
    state = NOTHING_HEARD
    for word in ["new", "york", "is", "here"] * 1000:
        state = scorer.advance(state, word)
    assert scorer.score(state) == 2000.0
    assert state.open == ()


@pytest.mark.parametrize("boost", [math.nan, math.inf, -math.inf])
def test_a_boost_that_is_no_number_is_refused(boost):
    with pytest.raises(ConfigError, match="hotword 'cat': boost must be a finite number"):
        HotwordScorer([Hotword("cat", boost)])


def test_an_empty_hotword_is_refused():
    with pytest.raises(ConfigError, match="at least one word"):
        HotwordScorer([Hotword("  ", 1.0)])
