"""Many sessions, one batched step on the device.

The names below are loaded when they are first asked for: whoever needs ``engine.config`` or ``engine.stats``
alone, to print a help text or to check a flag, does not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamasr.engine.config import EngineConfig
    from streamasr.engine.engine import Engine
    from streamasr.engine.model import LoadedModel, load_model, packaged_models, resolve_model
    from streamasr.engine.session import Session
    from streamasr.engine.stats import EngineStats, HistogramSnapshot

__all__ = [
    "Engine",
    "EngineConfig",
    "EngineStats",
    "HistogramSnapshot",
    "LoadedModel",
    "Session",
    "load_model",
    "packaged_models",
    "resolve_model",
]

_MODULES = {
    "Engine": "engine",
    "EngineConfig": "config",
    "EngineStats": "stats",
    "HistogramSnapshot": "stats",
    "LoadedModel": "model",
    "Session": "session",
    "load_model": "model",
    "packaged_models": "model",
    "resolve_model": "model",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
