"""Describe how a server read the hotwords of a session."""

from __future__ import annotations

from collections.abc import Iterable

from streamasr.protocol.messages import HotwordReading


def describe_readings(readings: Iterable[HotwordReading]) -> str:
    """Return one sentence about the hotwords that are read as other words than they are written; empty if none is."""
    changed = [
        f"{reading.text!r} as {reading.read_as!r}"
        for reading in readings
        if reading.read_as is not None and reading.read_as != " ".join(reading.text.lower().split())
    ]
    return f"hotwords are read as spoken: {', '.join(changed)}" if changed else ""
