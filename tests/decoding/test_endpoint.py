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
    return RULES.decide(utterance_frames, trailing_silence, at_word_boundary, silence)


def test_limits_are_counted_in_frames() -> None:
    limits = (
        RULES.silence_frames,
        RULES.start_silence_frames,
        RULES.max_utterance_frames,
        RULES.max_overrun_frames,
        RULES.pause_frames,
    )
    assert limits == (40, 250, 1000, 150, 10)
    assert endpoint_rules(CONFIG, 80.0).silence_frames == 10
    assert endpoint_rules(EndpointConfig(silence_ms=1), 20.0).silence_frames == 1


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
