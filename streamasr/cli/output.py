"""Write results to standard output, and report clearly when it cannot take them."""

from __future__ import annotations

import contextlib
import io
import os
import sys

from streamasr.errors import ConfigError


def replace_unencodable() -> None:
    """Let standard output and standard error replace characters that their encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


def write_stdout(text: str) -> None:
    """Write and flush.

    Raises:
        ConfigError: standard output is closed or its disk is full.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        discard_stdout()
        raise ConfigError(f"standard output: cannot be written: {error.strerror}") from None


def discard_stdout() -> None:
    """Drop what could not be written, which Python would otherwise try, and report, once more when it exits."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
