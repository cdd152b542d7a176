"""List the dialects that the daemon serves. They are imported when it starts to serve."""

from __future__ import annotations

from streamasr.dialects.base import Dialect
from streamasr.dialects.deepgram_flux import FluxDialect
from streamasr.dialects.deepgram_live import DeepgramLiveDialect
from streamasr.dialects.deepgram_prerecorded import PrerecordedDialect
from streamasr.dialects.openai_realtime import RealtimeDialect
from streamasr.dialects.openai_rest import ModelsDialect, TranscribeDialect, TranscriptionsDialect
from streamasr.dialects.vosk import VoskDialect
from streamasr.dialects.wyoming import WyomingDialect


def load_dialects() -> tuple[Dialect, ...]:
    """Return an instance of every dialect."""
    return (
        TranscriptionsDialect(),
        ModelsDialect(),
        TranscribeDialect(),
        DeepgramLiveDialect(),
        FluxDialect(),
        PrerecordedDialect(),
        RealtimeDialect(),
        VoskDialect(),
        WyomingDialect(),
    )
