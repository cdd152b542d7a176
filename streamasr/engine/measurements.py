"""Keep measurements of this machine in files of the user's cache folder.

A file that cannot be read or written only costs another measurement.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any


def cache_file(name: str) -> Path | None:
    """Return a file in ``$XDG_CACHE_HOME`` or ``~/.cache``; ``None`` without a home."""
    root = os.environ.get("XDG_CACHE_HOME")
    with suppress(RuntimeError):
        return (Path(root) if root else Path.home() / ".cache") / "streamasr" / name
    return None


def read_measurement(cache: Path | None, key: str) -> Any:
    """Return the measurement that is kept under ``key``; ``None`` if there is none."""
    return _read(cache).get(key)


def keep_measurement(cache: Path | None, key: str, measurement: Any) -> None:
    """Keep a measurement, which JSON can hold, beside those of other keys."""
    if cache is not None:
        with suppress(OSError):
            cache.parent.mkdir(parents=True, exist_ok=True)
            cache.write_text(json.dumps({**_read(cache), key: measurement}))


def _read(cache: Path | None) -> dict[str, Any]:
    if cache is not None:
        with suppress(OSError, ValueError):
            kept = json.loads(cache.read_text())
            return kept if isinstance(kept, dict) else {}
    return {}
