"""Test the latency of a reference's words, and the count of words that change, with known arrivals."""

from __future__ import annotations

import pytest

from streamasr.protocol.messages import Final, Partial, WordTiming
from streamasr.service.emission import Emission, ReferenceWord
from streamasr.service.lag import SentAudio


@pytest.fixture
def sent() -> SentAudio:
    """Audio that was sent in real time, from second 0 on."""
    sent = SentAudio()
    for end_ms in range(40, 4_001, 40):
        sent.add(end_ms, end_ms / 1_000)
    return sent


REFERENCE = [ReferenceWord("so", 400), ReferenceWord("are", 800), ReferenceWord("so", 1_200)]


def timing(text: str, end_ms: int) -> WordTiming:
    return WordTiming(word=text, start_ms=end_ms - 200, end_ms=end_ms, confidence=1.0)


def partial(committed: str, tail: str, *ends_ms: int) -> Partial:
    texts = f"{committed} {tail}".split()
    words = tuple(map(timing, texts, ends_ms))
    return Partial(utterance=0, committed=committed, tail=tail, start_ms=0, end_ms=0, words=words)


def final(text: str, *ends_ms: int) -> Final:
    words = tuple(map(timing, text.split(), ends_ms))
    end_ms = max(ends_ms, default=0)
    return Final(utterance=0, text=text, confidence=1.0, start_ms=0, end_ms=end_ms, words=words)


def test_words_count_from_their_end_in_the_reference(sent: SentAudio) -> None:
    emission = Emission(sent, REFERENCE)
    emission.message(partial("", "so are", 380, 760), 1.0)
    emission.message(partial("so", "are so", 380, 760, 1_150), 1.5)
    emission.message(final("so are so", 380, 760, 1_150), 2.0)
    assert emission.shown_ms == pytest.approx([600, 200, 300])
    assert emission.committed_ms == pytest.approx([1_100, 1_200, 800])
    assert emission.speech_end_ms == pytest.approx([800])
    assert (emission.final_words, emission.changed_words) == (3, 0)


def test_speech_ends_with_the_reference_whatever_was_recognised(sent: SentAudio) -> None:
    emission = Emission(sent, REFERENCE)
    emission.message(final("so are sew", 380, 760, 1_300), 2.0)
    assert emission.speech_end_ms == pytest.approx([800])
    emission.message(final("noise", 3_000), 3.5)
    assert len(emission.speech_end_ms) == 1


def test_only_the_reference_counts(sent: SentAudio) -> None:
    emission = Emission(sent, REFERENCE)
    emission.message(partial("", "no our so", 380, 800, 2_400), 2.5)
    assert emission.shown_ms == []
    emission.message(final("so", 800), 3.0)
    assert emission.shown_ms == pytest.approx([2_600])  # either "so" is 400 ms away: the first one counts


def test_a_word_that_is_shown_before_its_end_has_no_latency(sent: SentAudio) -> None:
    emission = Emission(SentAudio(), REFERENCE)
    emission.message(partial("", "so", 380), 0.3)
    assert emission.shown_ms == [0.0]


def test_words_that_change_are_counted_once_for_each_change(sent: SentAudio) -> None:
    emission = Emission(sent)
    emission.message(partial("", "so bare"), 1.0)
    emission.message(partial("so", "are there"), 1.2)  # "bare"
    emission.message(partial("so", "are"), 1.4)  # "there"
    emission.message(final("no are so"), 1.6)  # "so", and "are" after it
    emission.message(partial("", "next"), 2.0)
    emission.message(final("next"), 2.2)
    assert emission.changed_words == 4
    assert emission.final_words == 4
    assert emission.shown_ms == []
