"""Check that a string can be the name of a file: a manifest or a message may hold any string."""

from __future__ import annotations

import os

from streamasr.errors import DataError


def check_file_name(name: str) -> None:
    """Refuse a name that the system would not take.

    Raises:
        DataError: it has a zero byte, or half of a surrogate pair.
    """
    try:
        if b"\0" not in os.fsencode(name):
            return
    except UnicodeEncodeError:
        pass
    raise DataError(f"{name!a}: not the name of a file")
