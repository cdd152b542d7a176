"""The scheduler admits sessions, bounds their backlog and picks batches; tested without threads or waiting."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from streamasr.engine.config import EngineConfig
from streamasr.engine.schedule import ChunkJob, QueuedSession, Scheduler
from streamasr.errors import ConfigError, OverloadedError
from streamasr.frontend.pcm import Samples
from streamasr.recognition.batch import StepTimes
from streamasr.recognition.chunking import ChunkQueue, FinalizeMark, HotwordsMark, StopMark

RATE = 1_000
CHUNK = 100
CONFIG = EngineConfig(
    max_sessions=4,
    max_batch=2,
    low_backlog_ms=200,
    high_backlog_ms=500,
    hard_backlog_ms=1_000,
    max_waiting_marks=3,
    retry_after_ms=750,
)


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def scheduler(clock: _Clock) -> Scheduler:
    return Scheduler(CONFIG, RATE, clock)


def _admit(scheduler: Scheduler, name: str, chunk_frames: int = 8) -> QueuedSession:
    return scheduler.admit(name, chunk_frames, ChunkQueue(CHUNK))


def _ms(count: int) -> Samples:
    return np.zeros(count, dtype=np.float32)


def _batch(scheduler: Scheduler) -> list[ChunkJob]:
    batch = scheduler.next_batch()
    assert batch is not None
    return batch


def _names(batch: list[ChunkJob]) -> list[str]:
    return [job.queued.id for job in batch]


def test_a_refused_session_gets_the_time_to_try_again(scheduler: Scheduler) -> None:
    sessions = [_admit(scheduler, str(i)) for i in range(4)]
    assert sorted(session.slot for session in sessions) == [0, 1, 2, 3]
    with pytest.raises(OverloadedError, match="all 4 sessions are taken; try again in 750 ms") as caught:
        _admit(scheduler, "5")
    assert (caught.value.code, caught.value.retry_after_ms) == ("overloaded", 750)
    scheduler.release(sessions[2])
    scheduler.release(sessions[2])
    assert _admit(scheduler, "6").slot == sessions[2].slot
    with pytest.raises(OverloadedError):
        _admit(scheduler, "7")
    assert scheduler.stats().sessions_refused == 2


def test_no_admission_while_draining(scheduler: Scheduler) -> None:
    session = _admit(scheduler, "a")
    scheduler.begin_drain()
    with pytest.raises(OverloadedError) as caught:
        _admit(scheduler, "b")
    assert caught.value.code == "shutting_down"
    assert not scheduler.wait_idle(timeout_s=0)
    scheduler.release(session)
    assert scheduler.wait_idle(timeout_s=0)


def test_longest_ready_first_and_no_more_than_a_batch(scheduler: Scheduler) -> None:
    sessions = {name: _admit(scheduler, name) for name in "abc"}
    for name in "cab":
        scheduler.append(sessions[name], _ms(CHUNK))
    assert _names(_batch(scheduler)) == ["c", "a"]
    assert _names(_batch(scheduler)) == ["b"]


def test_a_batch_has_one_chunk_size(scheduler: Scheduler) -> None:
    for name, frames in (("a", 8), ("b", 16), ("c", 8)):
        scheduler.append(_admit(scheduler, name, frames), _ms(CHUNK))
    assert _names(_batch(scheduler)) == ["a", "c"]
    assert _names(_batch(scheduler)) == ["b"]


def test_a_file_faster_than_real_time_does_not_starve_live_sessions(scheduler: Scheduler) -> None:
    for name in ("file1", "file2"):
        scheduler.append(_admit(scheduler, name), _ms(9 * CHUNK))
    live = _admit(scheduler, "live")
    first = _batch(scheduler)
    assert _names(first) == ["file1", "file2"]
    scheduler.append(live, _ms(CHUNK))
    for job in first:
        scheduler.finish(job)
    assert _names(_batch(scheduler)) == ["live", "file1"]


def test_a_session_is_in_one_step_at_a_time(scheduler: Scheduler) -> None:
    session = _admit(scheduler, "a")
    scheduler.append(session, _ms(2 * CHUNK))
    (job,) = _batch(scheduler)
    scheduler.append(session, _ms(CHUNK))
    assert scheduler.stats().queue_depth == 0
    scheduler.finish(job)
    assert scheduler.stats().queue_depth == 1


def test_congestion_begins_above_the_high_mark_and_ends_at_the_low_one(scheduler: Scheduler) -> None:
    session = _admit(scheduler, "a")
    scheduler.append(session, _ms(500))
    assert not session.congested
    scheduler.append(session, _ms(1))
    assert session.congested
    relieved = []
    while session.queue.ready:
        (job,) = _batch(scheduler)
        relieved.append((scheduler.finish(job), scheduler.backlog_ms(session)))
    assert relieved == [(False, 401), (False, 301), (False, 201), (True, 101), (False, 1)]
    assert not session.congested


def test_audio_beyond_the_hard_limit_is_refused_and_the_rest_kept(scheduler: Scheduler) -> None:
    session = _admit(scheduler, "a")
    scheduler.append(session, _ms(950))
    with pytest.raises(OverloadedError, match="more than 1000 ms of audio would wait"):
        scheduler.append(session, _ms(51))
    assert session.queue.waiting == 950
    scheduler.append(session, _ms(50))


def test_marks_are_bounded_but_stop_always_fits(scheduler: Scheduler) -> None:
    session = _admit(scheduler, "a")
    for mark in (FinalizeMark("1"), HotwordsMark(()), FinalizeMark("2")):
        scheduler.mark(session, mark)
    with pytest.raises(OverloadedError, match="3 finalize and configure messages wait already"):
        scheduler.mark(session, FinalizeMark("3"))
    scheduler.mark(session, StopMark())
    assert session.queue.waiting_marks == 4


def test_a_full_session_can_still_be_stopped_with_its_resamplers_last_samples(scheduler: Scheduler) -> None:
    session = _admit(scheduler, "a")
    scheduler.append(session, _ms(1_000))
    scheduler.mark(session, StopMark(), _ms(7))
    taken = []
    while session.queue.ready:
        taken.append(session.queue.take())
    assert sum(len(chunk.samples_S) for chunk in taken) == 1_007
    assert taken[-1].end == StopMark()


def test_a_released_session_queues_nothing_and_is_not_scheduled(scheduler: Scheduler) -> None:
    session = _admit(scheduler, "a")
    scheduler.append(session, _ms(3 * CHUNK))
    (job,) = _batch(scheduler)
    scheduler.release(session)
    scheduler.append(session, _ms(CHUNK))
    scheduler.mark(session, StopMark())
    assert not scheduler.finish(job)
    scheduler.close()
    assert scheduler.next_batch() is None


def test_asking_for_work_is_a_heartbeat(scheduler: Scheduler, clock: _Clock) -> None:
    scheduler.append(_admit(scheduler, "a"), _ms(CHUNK))
    clock.now = 42.0
    _batch(scheduler)
    assert scheduler.last_heartbeat == 42.0


def test_an_idle_worker_has_heartbeats() -> None:
    turns: list[int] = []

    def clock() -> float:
        turns.append(len(turns))
        if len(turns) == 4:
            idle.close()
        return float(len(turns))

    idle = Scheduler(EngineConfig(heartbeat_interval_s=0.001), RATE, clock)
    assert idle.next_batch() is None
    assert idle.last_heartbeat == 4.0


def test_statistics_add_up(scheduler: Scheduler, clock: _Clock) -> None:
    session = _admit(scheduler, "a")
    scheduler.append(session, _ms(2 * CHUNK + 20))
    (job,) = _batch(scheduler)
    clock.now = 0.3
    scheduler.count_step(1, StepTimes(0.004, 0.03))
    scheduler.count_decoding(0.015)
    scheduler.count_failure(step=True)
    scheduler.count_failure(step=False)
    scheduler.finish(job)
    stats = scheduler.stats()
    assert (stats.sessions, stats.queue_depth, stats.backlog_ms, stats.sessions_opened) == (1, 1, 120, 1)
    assert (stats.steps, stats.step_failures, stats.decode_failures) == (1, 1, 1)
    assert stats.audio_seconds == pytest.approx(0.1)
    assert stats.chunk_lag_s.sum == pytest.approx(0.3)
    assert stats.decoder_s.counts[stats.decoder_s.bounds.index(0.02)] == 1
    assert (stats.batch_size.count, stats.batch_size.counts[0]) == (1, 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_sessions": 0}, "^max_sessions must be positive, got 0"),
        ({"high_backlog_ms": 2_000}, "must rise, got 2000, 2000, 180000"),
        ({"threads": -1}, "^threads must be 0 \\(automatic\\) or more"),
    ],
)
def test_invalid_limits_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(EngineConfig(), **change)


def _admit_bulk(scheduler: Scheduler, name: str) -> QueuedSession:
    return scheduler.admit(name, 8, ChunkQueue(CHUNK), bulk=True)


def test_live_sessions_precede_uploads(scheduler: Scheduler, clock: _Clock) -> None:
    upload, live = _admit_bulk(scheduler, "upload"), _admit(scheduler, "live")
    scheduler.append(upload, _ms(5 * CHUNK))
    scheduler.append(live, _ms(2 * CHUNK))
    taken = []
    for _ in range(4):
        batch = _batch(scheduler)
        taken.append(_names(batch))
        for job in batch:
            scheduler.finish(job)
    assert taken == [["live"], ["live"], ["upload"], ["upload"]]


def test_one_upload_at_a_time_while_live_sessions_are_open(scheduler: Scheduler) -> None:
    uploads = [_admit_bulk(scheduler, name) for name in "ab"]
    live = _admit(scheduler, "live")
    for upload in uploads:
        scheduler.append(upload, _ms(2 * CHUNK))
    first = _batch(scheduler)
    assert _names(first) == ["a"]
    scheduler.finish(first[0])
    scheduler.release(live)
    assert _names(_batch(scheduler)) == ["b", "a"]


def test_an_upload_goes_on_under_any_load(scheduler: Scheduler, clock: _Clock) -> None:
    upload, live = _admit_bulk(scheduler, "upload"), _admit(scheduler, "live")
    scheduler.append(upload, _ms(2 * CHUNK))
    scheduler.append(live, _ms(2 * CHUNK))
    clock.now = CONFIG.bulk_wait_ms / 1_000
    assert _names(_batch(scheduler)) == ["upload", "live"]
