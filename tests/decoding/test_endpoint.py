"""The endpoint rules, one frame at a time."""

from __future__ import annotations

import pytest

from streamasr.config import EndpointConfig
from streamasr.decoding.endpoint import Verdict, endpoint_rules
from streamasr.errors import ConfigError

CONFIG = EndpointConfig(
    silence_ms=800, start_silence_ms=5000, max_utterance_ms=20_000, max_overrun_ms=3000, pause_ms=200
)
RULES = endpoint_rules(CONFIG, 20.0)


def verdict(frames, silent, *, between=False, quiet=True):
    return RULES.judge(frames, silent, between_words=between, quiet=quiet)


def test_limits_are_counted_in_frames():
    limits = (RULES.silence, RULES.start_silence, RULES.max_utterance, RULES.max_overrun, RULES.pause)
    assert limits == (40, 250, 1000, 150, 10)
    assert endpoint_rules(CONFIG, 80.0).silence == 10
    assert endpoint_rules(EndpointConfig(silence_ms=1), 20.0).silence == 1


@pytest.mark.parametrize(
    ("frames", "silent", "between", "quiet", "expected"),
    [
        (100, 39, True, True, Verdict.GOES_ON),
        (100, 40, True, True, Verdict.ENDS),
        (100, 40, False, True, Verdict.ENDS),
        (100, 40, True, False, Verdict.GOES_ON),
        (249, None, True, True, Verdict.GOES_ON),
        (250, None, True, True, Verdict.HEARD_NOTHING),
        (250, None, True, False, Verdict.GOES_ON),
        (400, None, True, False, Verdict.HEARD_NOTHING),
        (999, 20, True, True, Verdict.GOES_ON),
        (1000, 0, True, True, Verdict.SPLITS),
        (1000, 0, True, False, Verdict.GOES_ON),
        (1000, 9, False, True, Verdict.GOES_ON),
        (1000, 10, False, True, Verdict.SPLITS),
        (1000, 40, False, True, Verdict.ENDS),
        (1149, 0, False, False, Verdict.GOES_ON),
        (1150, 0, False, False, Verdict.SPLITS),
    ],
)
def test_rules(frames, silent, between, quiet, expected):
    assert verdict(frames, silent, between=between, quiet=quiet) is expected


@pytest.mark.parametrize(
    "name", ["silence_ms", "start_silence_ms", "max_utterance_ms", "max_overrun_ms", "pause_ms"]
)
def test_a_limit_must_be_positive(name):
    with pytest.raises(ConfigError, match=f"{name} must be positive"):
        EndpointConfig(**{name: 0})
