"""Encode log-mel frames into CTC log-probs, with a rolling state.

The names below are imported on first use, so that the native step can be used without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamasr.acoustic.base import AnyEncoder, Encoder, ParameterGroup
    from streamasr.acoustic.build import (
        build_encoder,
        load_encoder,
        save_encoder,
        translate_original_names,
    )
    from streamasr.acoustic.interface import AnyStreamingEncoder, StepOutput

__all__ = [
    "AnyEncoder",
    "AnyStreamingEncoder",
    "Encoder",
    "ParameterGroup",
    "StepOutput",
    "build_encoder",
    "load_encoder",
    "save_encoder",
    "translate_original_names",
]

_MODULES = {
    "AnyEncoder": "base",
    "AnyStreamingEncoder": "interface",
    "Encoder": "base",
    "ParameterGroup": "base",
    "StepOutput": "interface",
    "build_encoder": "build",
    "load_encoder": "build",
    "save_encoder": "build",
    "translate_original_names": "build",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
