"""Read one line of a file with a JSON object on each line, whatever the line contains."""

from __future__ import annotations

import json
from typing import Any

from streamasr.errors import DataError


def parse_object(line: str, where: str) -> dict[str, Any]:
    """Return the object in ``line``.

    Args:
        line: the line.
        where: the file and the line's number, which begin every message.

    Raises:
        DataError: no JSON, JSON nested too deeply, a number with thousands of digits, or no object.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not valid JSON: {error}") from None
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected a JSON object, got {type(row).__name__}")
    return row
