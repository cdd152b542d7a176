"""Stability against lag: what partials leave out, what a margin commits, and what no setting may break."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from streamasr.config import StabilityConfig
from streamasr.decoding.hypothesis import Final, Partial
from streamasr.decoding.stability import words_to_show
from streamasr.errors import ConfigError
from tests.decoding.synthetic import (
    CHARACTERS,
    PIECES,
    TOKENS,
    noise,
    sentences_of,
    spoken,
    utterance_decoder,
)

SETTINGS = (
    StabilityConfig(),
    StabilityConfig(commit_margin=3.0),
    StabilityConfig(commit_margin=0.5),
    StabilityConfig(hold_words=2),
    StabilityConfig(commit_margin=2.0, hold_words=1),
)


def test_the_last_words_are_held_back_but_for_committed_ones():
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
def test_settings_without_meaning_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        StabilityConfig(**settings)


def heard(decoder, stability, log_probs, chunk=16):
    state = decoder.initial_state(replace(decoder.default_options(), stability=stability))
    events = []
    for start in range(0, len(log_probs), chunk):
        state, said = decoder.step(state, log_probs[start : start + chunk])
        events += said
    return [*events, *decoder.flush(state)[1]]


def committed_sooner(events):
    """Committed words, summed over partials."""
    return sum(event.committed_words for event in events if isinstance(event, Partial))


@pytest.mark.parametrize("tokens", [TOKENS, PIECES, CHARACTERS], ids=["letters", "pieces", "characters"])
@pytest.mark.parametrize("stability", SETTINGS)
def test_committed_words_never_change_under_any_setting(stability, tokens):
    decoder = utterance_decoder(tokens=tokens)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        sentence = sentences_of(tokens)[seed]
        said = spoken(sentence, rng, confusion=0.7, tokens=tokens)
        log_probs = np.concatenate([said, noise(40, rng, tokens=tokens)])
        shown = []
        for event in heard(decoder, stability, log_probs):
            if isinstance(event, Partial):
                texts = [word.text for word in event.hypothesis.words]
                assert len(texts) >= event.committed_words >= len(shown)
                assert texts[: len(shown)] == shown
                shown = texts[: event.committed_words]
            elif isinstance(event, Final):
                assert [word.text for word in event.hypothesis.words][: len(shown)] == shown
                shown = []


def test_a_smaller_margin_commits_sooner_and_a_large_one_changes_nothing():
    decoder = utterance_decoder()
    rng = np.random.default_rng(5)
    log_probs = spoken("there is a small house at the end of the lane", rng, confusion=0.6)
    certain, wide, narrow = (
        heard(decoder, StabilityConfig(commit_margin=margin), log_probs, chunk=8)
        for margin in (None, 100.0, 1.0)
    )
    assert certain == wide
    assert committed_sooner(narrow) > committed_sooner(certain)


def test_held_words_come_later_and_finals_are_the_same():
    decoder = utterance_decoder()
    log_probs = spoken("the old house on the hill has been sold", np.random.default_rng(6), confusion=0.5)
    plain, held = (heard(decoder, StabilityConfig(hold_words=count), log_probs) for count in (0, 2))
    assert [e for e in plain if isinstance(e, Final)] == [e for e in held if isinstance(e, Final)]
    shown = [sum(len(e.hypothesis.words) for e in said if isinstance(e, Partial)) for said in (plain, held)]
    assert shown[1] < shown[0]
