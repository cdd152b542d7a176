"""Run a model: samples in, protocol messages out.

The names below are imported on first use, so that importing a light module of this package does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamasr.recognition.model import LoadedModel, load_model, packaged_models, resolve_model

__all__ = [
    "LoadedModel",
    "load_model",
    "packaged_models",
    "resolve_model",
]

_MODULES = {
    "LoadedModel": "model",
    "load_model": "model",
    "packaged_models": "model",
    "resolve_model": "model",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
