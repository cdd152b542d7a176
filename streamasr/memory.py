"""Return freed memory to the operating system."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Protocol


class _MallocTrim(Protocol):
    def __call__(self, pad: int, /) -> int: ...


def release_freed_memory() -> None:
    """Return the free pages of the C heap to the system, where the C library can (glibc's ``malloc_trim``).

    Tensors of many different sizes leave gaps in glibc's heap, so a process that works on utterances of all lengths
    would grow for hours. A call takes a few milliseconds per gigabyte.
    """
    if (trim := _malloc_trim()) is not None:
        trim(0)


@cache
def _malloc_trim() -> _MallocTrim | None:
    if not sys.platform.startswith("linux"):
        return None
    trim: _MallocTrim | None = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl's C library has none
    return trim
