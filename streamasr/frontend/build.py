"""Build the front end that a configuration describes."""

from __future__ import annotations

from streamasr.config import AnyFrontendConfig, NemoFrontendConfig
from streamasr.frontend.base import AnyFrontEnd
from streamasr.frontend.mel import LogMel
from streamasr.frontend.nemo import NemoLogMel


def build_frontend(config: AnyFrontendConfig) -> AnyFrontEnd:
    """Build the front end of the family that ``config`` names."""
    if isinstance(config, NemoFrontendConfig):
        return NemoLogMel(config)
    return LogMel(config)
