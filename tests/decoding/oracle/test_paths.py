"""Times and sharpness of the words on one path."""

from __future__ import annotations

import math

import pytest

from tests.decoding.oracle.paths import Path, spoken_words


def test_a_word_lasts_from_its_first_token_to_the_frame_after_its_last():
    path = Path().letter(3, -0.1).letter(7, -0.1).repeat(8, -0.1).close("hi").letter(20, -0.1).close("a")
    assert [(word.text, word.start_frame, word.end_frame) for word in spoken_words(path.words)] == [
        ("hi", 3, 9),
        ("a", 20, 21),
    ]


def test_sharpness_is_the_geometric_mean_of_each_tokens_best_frame():
    path = Path().letter(0, math.log(0.5)).repeat(1, math.log(0.9)).repeat(2, math.log(0.6))
    (word,) = spoken_words(path.letter(3, math.log(0.4)).close("hi").words)
    assert word.sharpness == pytest.approx(math.sqrt(0.9 * 0.4))


def test_speech_reaches_from_the_first_word_to_the_last_token():
    silent = Path()
    assert (silent.speech_start, silent.speech_end) == (-1, None)
    first = silent.letter(5, -0.1)
    assert (first.speech_start, first.speech_end) == (5, 6)
    paused = first.close("a")
    assert (paused.speech_start, paused.speech_end) == (5, 6)
    second = paused.letter(9, -0.1)
    assert (second.speech_start, second.speech_end) == (5, 10)


def test_closing_where_no_word_is_open_adds_none():
    assert Path().close("") == Path()


def test_paths_share_the_words_they_have_in_common():
    common = Path().letter(0, -0.1).close("a")
    one, other = common.letter(4, -0.1).close("b"), common.letter(4, -0.1).close("c")
    assert one.words is not None
    assert other.words is not None
    assert one.words.before is other.words.before is common.words
