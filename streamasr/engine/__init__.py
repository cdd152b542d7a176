"""Share one model among many live sessions: one batched step on the device at a time.

The names below are imported on first use, so that importing a light module of this package does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamasr.engine.config import EngineConfig
    from streamasr.engine.engine import Engine
    from streamasr.engine.session import Session
    from streamasr.engine.stats import EngineStats, HistogramSnapshot

__all__ = [
    "Engine",
    "EngineConfig",
    "EngineStats",
    "HistogramSnapshot",
    "Session",
]

_MODULES = {
    "Engine": "engine",
    "EngineConfig": "config",
    "EngineStats": "stats",
    "HistogramSnapshot": "stats",
    "Session": "session",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
