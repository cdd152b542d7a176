"""Test stability against latency: which words partials show, what a margin commits, and that committed words stay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from streamasr.config import StabilityConfig
from streamasr.decoding.beam import LogProbs
from streamasr.decoding.hypothesis import Final, Partial, UtteranceEvent
from streamasr.decoding.stability import words_to_show
from streamasr.decoding.tokens import TokenList
from streamasr.decoding.utterance import UtteranceDecoder
from streamasr.errors import ConfigError
from tests.decoding.synthetic import (
    CHARACTERS,
    PIECES,
    TOKENS,
    noise,
    sentences_of,
    speech,
    utterance_decoder,
)

SETTINGS = (
    StabilityConfig(),
    StabilityConfig(commit_margin=3.0),
    StabilityConfig(commit_margin=0.5),
    StabilityConfig(hold_words=2),
    StabilityConfig(commit_margin=2.0, hold_words=1),
)


def test_the_last_words_are_held_back_unless_they_are_committed() -> None:
    settings = [StabilityConfig(hold_words=count) for count in range(6)]
    assert [words_to_show(4, 0, stability) for stability in settings] == [4, 3, 2, 1, 0, 0]
    assert [words_to_show(4, 3, stability) for stability in settings] == [4, 3, 3, 3, 3, 3]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"commit_margin": 0.0}, "commit_margin must be positive"),
        ({"hold_words": -1}, "hold_words must not be negative"),
    ],
)
def test_invalid_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StabilityConfig(**settings)  # type: ignore[arg-type]


def decode(
    decoder: UtteranceDecoder, stability: StabilityConfig, log_probs: LogProbs, chunk: int = 16
) -> list[UtteranceEvent]:
    state = decoder.initial_state(replace(decoder.default_options(), stability=stability))
    events: list[UtteranceEvent] = []
    for start in range(0, len(log_probs), chunk):
        state, new = decoder.step(state, log_probs[start : start + chunk])
        events += new
    return [*events, *decoder.flush(state)[1]]


def committed_words(events: list[UtteranceEvent]) -> int:
    """Committed words, summed over partials."""
    return sum(event.committed_words for event in events if isinstance(event, Partial))


@pytest.mark.parametrize("tokens", [TOKENS, PIECES, CHARACTERS], ids=["letters", "pieces", "characters"])
@pytest.mark.parametrize("stability", SETTINGS)
def test_committed_words_never_change_under_any_setting(
    stability: StabilityConfig, tokens: TokenList
) -> None:
    decoder = utterance_decoder(tokens=tokens)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        sentence = sentences_of(tokens)[seed]
        spoken = speech(sentence, rng, confusion=0.7, tokens=tokens)
        log_probs = np.concatenate([spoken, noise(40, rng, tokens=tokens)])
        committed: list[str] = []
        for event in decode(decoder, stability, log_probs):
            if isinstance(event, Partial):
                texts = [word.text for word in event.hypothesis.words]
                assert len(texts) >= event.committed_words >= len(committed)
                assert texts[: len(committed)] == committed
                committed = texts[: event.committed_words]
            elif isinstance(event, Final):
                assert [word.text for word in event.hypothesis.words][: len(committed)] == committed
                committed = []


def test_a_small_margin_commits_sooner_and_a_large_one_changes_nothing() -> None:
    decoder = utterance_decoder()
    rng = np.random.default_rng(5)
    log_probs = speech("there is a small house at the end of the lane", rng, confusion=0.6)
    no_margin, wide, narrow = (
        decode(decoder, StabilityConfig(commit_margin=margin), log_probs, chunk=8)
        for margin in (None, 100.0, 1.0)
    )
    assert no_margin == wide
    assert committed_words(narrow) > committed_words(no_margin)


def test_held_words_come_later_and_finals_are_the_same() -> None:
    decoder = utterance_decoder()
    log_probs = speech("the old house on the hill has been sold", np.random.default_rng(6), confusion=0.5)
    plain, held = (decode(decoder, StabilityConfig(hold_words=count), log_probs) for count in (0, 2))
    assert [e for e in plain if isinstance(e, Final)] == [e for e in held if isinstance(e, Final)]
    shown = [
        sum(len(e.hypothesis.words) for e in events if isinstance(e, Partial)) for events in (plain, held)
    ]
    assert shown[1] < shown[0]
