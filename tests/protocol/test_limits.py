"""Test ranges, and limits that are too small for the protocol."""

import pytest

from streamasr.errors import ConfigError
from streamasr.protocol.limits import Limits, Range


def test_a_range_includes_its_ends() -> None:
    assert [value in Range(1, 2) for value in (0.9, 1, 2, 2.1, float("nan"))] == [
        False,
        True,
        True,
        False,
        False,
    ]
    assert str(Range(-20, 0.5)) == "-20 to 0.5"


def test_too_small_limits_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^audio_bytes must be at least 1024, got 10"):
        Limits(audio_bytes=10)
