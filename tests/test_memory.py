"""Check that freed memory goes back to the operating system."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from streamasr.memory import release_freed_memory

MIB = 1 << 20


def resident() -> int:
    """Resident memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_gaps_in_the_heap_are_returned() -> None:
    blocks = [bytes([1]) * 100_000 for _ in range(2_000)]  # too small for a mapping of their own
    kept = blocks[-1]
    full = resident()
    blocks.clear()
    release_freed_memory()
    assert full - resident() > 150 * MIB
    assert kept[0] == 1
