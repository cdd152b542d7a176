"""Recognise speech as a stream, for live captions.

The names below are imported on first use, so that importing this package is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamasr.recognition.api import (
        Stream,
        Transcript,
        options,
        read_hotwords,
        transcribe,
        transcribe_batch,
    )
    from streamasr.recognition.model import load_model

__all__ = ["Stream", "Transcript", "load_model", "options", "read_hotwords", "transcribe", "transcribe_batch"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "model" if name == "load_model" else "api"
    return getattr(importlib.import_module(f"streamasr.recognition.{module}"), name)
