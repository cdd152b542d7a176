"""Test the endpoint rules, one frame at a time."""

from __future__ import annotations

import pytest

from streamasr.config import EndpointConfig
from streamasr.decoding.endpoint import EndpointDecision, endpoint_rules
from streamasr.errors import ConfigError

CONFIG = EndpointConfig(
    silence_ms=800, start_silence_ms=5000, max_utterance_ms=20_000, max_overrun_ms=3000, pause_ms=200
)
RULES = endpoint_rules(CONFIG, 20.0)


def decide(
    utterance_frames: int, trailing_silence: int | None, *, at_word_boundary: bool, silence: bool
) -> EndpointDecision:
    return RULES.decide(utterance_frames, trailing_silence, at_word_boundary, silence, 0.0)


def test_limits_are_counted_in_frames() -> None:
    limits = (
        RULES.min_silence_frames,
        RULES.max_silence_frames,
        RULES.start_silence_frames,
        RULES.max_utterance_frames,
        RULES.max_overrun_frames,
        RULES.pause_frames,
    )
    assert limits == (40, 40, 250, 1000, 150, 10)
    assert endpoint_rules(CONFIG, 80.0).max_silence_frames == 10
    assert endpoint_rules(EndpointConfig(silence_ms=1), 20.0).min_silence_frames == 1


@pytest.mark.parametrize(
    ("utterance_frames", "trailing_silence", "at_word_boundary", "silence", "expected"),
    [
        (100, 39, True, True, EndpointDecision.CONTINUE),
        (100, 40, True, True, EndpointDecision.END),
        (100, 40, False, True, EndpointDecision.END),
        (100, 40, True, False, EndpointDecision.CONTINUE),
        (249, None, True, True, EndpointDecision.CONTINUE),
        (250, None, True, True, EndpointDecision.RESET),
        (250, None, True, False, EndpointDecision.CONTINUE),
        (400, None, True, False, EndpointDecision.RESET),
        (999, 20, True, True, EndpointDecision.CONTINUE),
        (1000, 0, True, True, EndpointDecision.SPLIT),
        (1000, 0, True, False, EndpointDecision.CONTINUE),
        (1000, 9, False, True, EndpointDecision.CONTINUE),
        (1000, 10, False, True, EndpointDecision.SPLIT),
        (1000, 40, False, True, EndpointDecision.END),
        (1149, 0, False, False, EndpointDecision.CONTINUE),
        (1150, 0, False, False, EndpointDecision.SPLIT),
    ],
)
def test_rules(
    utterance_frames: int,
    trailing_silence: int | None,
    at_word_boundary: bool,
    silence: bool,
    expected: EndpointDecision,
) -> None:
    assert (
        decide(utterance_frames, trailing_silence, at_word_boundary=at_word_boundary, silence=silence)
        is expected
    )


@pytest.mark.parametrize(
    "name", ["silence_ms", "start_silence_ms", "max_utterance_ms", "max_overrun_ms", "pause_ms"]
)
def test_a_limit_must_be_positive(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be positive"):
        EndpointConfig(**{name: 0})


ADAPTIVE = EndpointConfig(
    min_silence_ms=200,
    max_silence_ms=1000,
    end_threshold=0.5,
    end_bias=2.0,
    end_silence=1.0,
    end_sentence=0.5,
)
"""With these weights an end is probable when ln(silence in s) + 0.5 ln p(end of sentence) is -2 or more."""


@pytest.mark.parametrize(
    ("sentence_end", "needed_ms"),
    [(0.0, 200), (-1.0, 240), (-2.0, 380), (-3.0, 620), (-4.0, 1000), (-50.0, 1000)],
)
def test_the_silence_depends_on_how_probable_the_end_of_the_sentence_is(
    sentence_end: float, needed_ms: int
) -> None:
    rules = endpoint_rules(ADAPTIVE, 20.0)
    decisions = [rules.decide(200, silence, True, True, sentence_end) for silence in range(1, 60)]
    first = decisions.index(EndpointDecision.END)
    assert set(decisions[:first]) == {EndpointDecision.CONTINUE}
    assert set(decisions[first:]) == {EndpointDecision.END}
    assert (first + 1) * 20 == needed_ms


def test_a_probable_end_waits_for_a_frame_of_silence() -> None:
    rules = endpoint_rules(ADAPTIVE, 20.0)
    assert rules.decide(200, 12, True, False, 0.0) is EndpointDecision.CONTINUE
    assert rules.decide(200, None, True, True, 0.0) is EndpointDecision.CONTINUE


def test_the_length_of_a_frame_does_not_change_the_probability_of_an_end() -> None:
    short, long = (endpoint_rules(ADAPTIVE, frame_ms).end_odds for frame_ms in (20.0, 80.0))
    assert short.log_odds(40, -1.5) == pytest.approx(long.log_odds(10, -1.5))
    assert short.log_odds(50, -1.5) == pytest.approx(2.0 + 0.0 - 0.75)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_silence_ms": 300}, "min_silence_ms needs max_silence_ms"),
        ({"max_silence_ms": 300}, "max_silence_ms needs min_silence_ms"),
        ({"min_silence_ms": 0, "max_silence_ms": 9}, "min_silence_ms must be positive, got 0"),
        ({"min_silence_ms": 300, "max_silence_ms": 299}, r"at most max_silence_ms \(299\), got 300"),
        ({"end_threshold": 1.0}, "end_threshold must be between 0 and 1, got 1"),
    ],
)
def test_bounds_of_the_silence_are_checked(values: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EndpointConfig(**values)  # type: ignore[arg-type]
