"""An hour of audio through one session of the engine: memory and time per chunk stay flat."""

import statistics
import threading
import time

import psutil
import pytest

from streamasr.engine import Engine, EngineConfig
from streamasr.protocol.messages import Done, ServerMessage, Start
from streamasr.recognition.model import LoadedModel
from tests.recognition.tiny import noise, s16

MINUTES = 60
MESSAGE_S = 0.5
WARM_UP_MINUTES = 6


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_hour_is_as_cheap_at_its_end_as_at_its_beginning(model: LoadedModel) -> None:
    minute = s16(noise(60.0, seed=1))
    message_bytes = round(MESSAGE_S * 16_000) * 2
    may_feed, done = threading.Event(), threading.Event()
    last: list[ServerMessage] = []

    def sink(message: ServerMessage) -> None:
        last[:] = [message]
        if message.type in ("done", "error"):
            done.set()
            may_feed.set()

    seconds, resident = [], []
    config = EngineConfig(max_sessions=1, high_backlog_ms=2_000, low_backlog_ms=500)
    with Engine(model, config) as engine:
        session = engine.open(Start(latency_ms=320), sink, may_feed.set)
        for _ in range(MINUTES):
            before = time.process_time()
            for offset in range(0, len(minute), message_bytes):
                may_feed.clear()
                session.feed(minute[offset : offset + message_bytes])
                if session.congested:
                    assert may_feed.wait(timeout=60)
            seconds.append(time.process_time() - before)
            resident.append(psutil.Process().memory_info().rss)
        session.stop()
        assert done.wait(timeout=60)
    assert last == [Done(audio_ms=MINUTES * 60_000)]
    assert resident[-1] <= resident[WARM_UP_MINUTES] * 1.05
    # Processor time, and medians of ten minutes: what else runs on the machine should not decide this.
    early, late = (statistics.median(some) for some in (seconds[WARM_UP_MINUTES:][:10], seconds[-10:]))
    assert late <= 1.4 * early
