"""Many sessions, one batched step on the device."""

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
