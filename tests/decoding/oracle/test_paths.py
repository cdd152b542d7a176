"""Test the times and the sharpness of the words of a path."""

from __future__ import annotations

import math

import pytest

from tests.decoding.oracle.paths import Path, path_words


def test_a_word_spans_its_tokens() -> None:
    path = (
        Path()
        .add_token(3, -0.1)
        .add_token(7, -0.1)
        .repeat_token(8, -0.1)
        .finish_word("hi")
        .add_token(20, -0.1)
        .finish_word("a")
    )
    assert [(word.text, word.start_frame, word.end_frame) for word in path_words(path.words)] == [
        ("hi", 3, 9),
        ("a", 20, 21),
    ]


def test_sharpness_is_the_geometric_mean_of_each_tokens_best_frame() -> None:
    path = Path().add_token(0, math.log(0.5)).repeat_token(1, math.log(0.9)).repeat_token(2, math.log(0.6))
    (word,) = path_words(path.add_token(3, math.log(0.4)).finish_word("hi").words)
    assert word.sharpness == pytest.approx(math.sqrt(0.9 * 0.4))


def test_speech_spans_all_words() -> None:
    empty = Path()
    assert (empty.speech_start, empty.speech_end) == (-1, None)
    first = empty.add_token(5, -0.1)
    assert (first.speech_start, first.speech_end) == (5, 6)
    paused = first.finish_word("a")
    assert (paused.speech_start, paused.speech_end) == (5, 6)
    second = paused.add_token(9, -0.1)
    assert (second.speech_start, second.speech_end) == (5, 10)


def test_finishing_without_an_open_word_adds_none() -> None:
    assert Path().finish_word("") == Path()


def test_paths_share_the_words_they_have_in_common() -> None:
    common = Path().add_token(0, -0.1).finish_word("a")
    left, right = common.add_token(4, -0.1).finish_word("b"), common.add_token(4, -0.1).finish_word("c")
    assert left.words is not None
    assert right.words is not None
    assert left.words.previous is right.words.previous is common.words
