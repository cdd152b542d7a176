"""Test the forecast of lag and the admission of live sessions by it, with a fake clock."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from streamasr.engine.config import EngineConfig
from streamasr.engine.headroom import MOST_UTILISATION, Headroom, Load, StepCost
from streamasr.engine.schedule import QueuedSession, Scheduler
from streamasr.errors import NoHeadroomError, OverloadedError
from streamasr.recognition.chunking import ChunkQueue

LOAD = Load(chunk_frames=32, hop_s=0.32)
COST = StepCost(chunk_frames=32, batch=8, alone_s=0.009, full_s=0.036, cpu_s=0.070)
RATE = 1_000
CONFIG = EngineConfig(max_batch=8, retry_after_ms=750, low_backlog_ms=60_000, high_backlog_ms=70_000)


def headroom(cost: StepCost = COST, max_lag_s: float = 0.5, cores: int = 2) -> Headroom:
    return Headroom(cost, LOAD, cores=cores, max_lag_s=max_lag_s)


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


def _simulated_lag(count: int, chunk_s: float, hop_s: float) -> float:
    """Return the 95th percentile of the lag with streams at random phases and one chunk in each step."""
    lags = []
    for phases in np.random.default_rng(7).uniform(0, hop_s, (200, count)):
        free_at = 0.0
        for due in np.sort(np.concatenate([phases + turn * hop_s for turn in range(4)])):
            free_at = max(free_at, due) + chunk_s
            if due >= 2 * hop_s:
                lags.append(free_at - due)
    return float(np.percentile(lags, 95))


@pytest.mark.parametrize("utilisation", [0.3, 0.6, 0.75])
@pytest.mark.parametrize("count", [4, 16, 40])
def test_the_forecast_is_the_lag_of_a_queue_of_periodic_streams(count: int, utilisation: float) -> None:
    chunk_s = utilisation * LOAD.hop_s / count
    cost = replace(COST, batch=1, alone_s=chunk_s, full_s=chunk_s, cpu_s=0.0)
    forecast = headroom(cost, cores=100).forecast([LOAD] * count)
    assert forecast.utilisation == pytest.approx(utilisation)
    simulated = _simulated_lag(count, chunk_s, LOAD.hop_s)
    assert 0.8 * simulated <= forecast.lag_s <= 1.6 * simulated + chunk_s


def test_utilisation_is_that_of_the_processors_or_of_the_worker() -> None:
    busy, _ = headroom(replace(COST, cpu_s=0.0)).forecast([LOAD] * 10)
    assert busy == pytest.approx(10 * 0.036 / 8 / 0.32)
    processors, _ = headroom(replace(COST, alone_s=0.0, full_s=0.0)).forecast([LOAD] * 10)
    assert processors == pytest.approx(10 * (0.070 / 8 / 0.32 + 0.012) / 2)


def test_more_work_than_time_is_an_endless_lag() -> None:
    assert headroom().forecast([LOAD] * 200).lag_s == math.inf
    assert headroom().forecast([]) == (0.0, 0.0)


def test_the_capacity_is_the_largest_number_that_fits() -> None:
    some = headroom()
    most = some.capacity()
    assert some.fits([LOAD] * most)
    assert not some.fits([LOAD] * (most + 1))
    assert some.forecast([LOAD] * most).utilisation <= MOST_UTILISATION


def test_a_tight_lag_admits_fewer_sessions_than_the_processors_could_serve() -> None:
    assert 1 <= headroom(max_lag_s=0.02).capacity() < headroom().capacity()


def test_shorter_chunks_and_slower_models_leave_room_for_fewer() -> None:
    assert (
        headroom(replace(COST, full_s=0.36, alone_s=0.09, cpu_s=0.7)).capacity() < headroom().capacity() / 5
    )
    assert headroom(replace(COST, full_s=36, alone_s=9, cpu_s=70)).capacity() == 1


def test_real_steps_correct_the_estimate() -> None:
    some = headroom()
    before = some.capacity()
    for _ in range(200):
        some.observe_step([LOAD] * 8, 0.072, 0.2)
    assert some.step_ratio == pytest.approx(2.0, rel=0.01)
    assert some.capacity() < 0.6 * before
    for _ in range(200):
        some.observe_step([LOAD] * 8, 0.036, 0.070 + 8 * 0.012 * 0.32)
    assert some.capacity() == before


def test_single_chunks_lower_the_estimate_but_do_not_raise_it() -> None:
    some = headroom()
    for _ in range(500):
        some.observe_step([LOAD], 0.018, 0.05)
    assert some.step_ratio == 1.0
    for _ in range(500):
        some.observe_step([LOAD], 0.0045, 0.005)
    assert some.step_ratio == pytest.approx(0.5, rel=0.01)


def test_a_disturbance_lowers_the_capacity_to_a_third_at_most() -> None:
    some = headroom()
    before = some.capacity()
    for _ in range(200):
        some.observe_step([LOAD] * 8, 3.6, 7.0)
    assert some.step_ratio == pytest.approx(3.0, rel=0.01)
    assert some.capacity() == pytest.approx(before / 3, abs=2)


def test_late_captions_are_noticed_and_forgotten() -> None:
    some = headroom()
    for number in range(40):
        some.observe_lag(float(number) / 10, 0.9 if number % 10 == 0 else 0.1)
    assert some.is_late(4.0)
    assert not some.is_late(20.0)
    for _ in range(100):
        some.observe_lag(20.0, 0.1)
    assert not some.is_late(20.0)


def test_a_few_lags_prove_nothing() -> None:
    some = headroom()
    some.observe_lag(0.0, 9.0)
    assert not some.is_late(0.0)


def _admit(scheduler: Scheduler, name: str, *, bulk: bool = False) -> QueuedSession:
    return scheduler.admit(name, 32, ChunkQueue(640, 320), bulk=bulk)


def _fill(scheduler: Scheduler, prefix: str = "s") -> list[QueuedSession]:
    """Admit live sessions until one is refused."""
    admitted: list[QueuedSession] = []
    with suppress(NoHeadroomError):
        while len(admitted) < 1_000:
            admitted.append(_admit(scheduler, f"{prefix}{len(admitted)}"))
    return admitted


def test_the_session_that_would_make_all_late_is_refused(clock: _Clock) -> None:
    scheduler = Scheduler(CONFIG, RATE, clock, headroom())
    admitted = _fill(scheduler)
    assert len(admitted) == headroom().capacity() == scheduler.stats().max_sessions
    with pytest.raises(OverloadedError) as refused:
        _admit(scheduler, "late")
    assert refused.value.message == (
        "with one more session, captions would be more than 500 ms late; try again in 750 ms"
    )
    assert (refused.value.code, refused.value.retry_after_ms) == ("overloaded", 750)
    assert scheduler.stats().sessions_refused == 2
    scheduler.release(admitted[0])
    _admit(scheduler, "next")


def test_uploads_and_silent_sessions_take_no_headroom(clock: _Clock) -> None:
    scheduler = Scheduler(CONFIG, RATE, clock, headroom())
    admitted = _fill(scheduler)
    _admit(scheduler, "upload", bulk=True)
    clock.now += 11
    for session in admitted[:3]:
        scheduler.append(session, np.zeros(40, dtype=np.float32))
    again = _fill(scheduler, "t")
    assert len(again) == len(admitted) - 3


def test_a_session_is_live_load_while_it_sends_audio(clock: _Clock) -> None:
    scheduler = Scheduler(CONFIG, RATE, clock, headroom())
    session, upload = _admit(scheduler, "a"), _admit(scheduler, "upload", bulk=True)
    assert (scheduler.is_live(session), scheduler.is_live(upload)) == (True, False)
    clock.now += 11
    assert not scheduler.is_live(session)
    scheduler.append(session, np.zeros(40, dtype=np.float32))
    assert scheduler.is_live(session)
    scheduler.release(session)
    assert not scheduler.is_live(session)


def test_late_captions_refuse_sessions_whatever_the_forecast(clock: _Clock) -> None:
    some = headroom()
    scheduler = Scheduler(CONFIG, RATE, clock, some)
    _admit(scheduler, "a")
    for _ in range(50):
        some.observe_lag(clock.now, 0.8)
    with pytest.raises(
        NoHeadroomError, match=r"^captions are more than 500 ms late; try again in 750 ms$"
    ) as refused:
        _admit(scheduler, "b")
    assert refused.value.late
    clock.now += 11
    _admit(scheduler, "b")


def test_one_session_is_always_admitted(clock: _Clock) -> None:
    hopeless = headroom(replace(COST, alone_s=9.0, full_s=72.0, cpu_s=70.0))
    scheduler = Scheduler(CONFIG, RATE, clock, hopeless)
    _admit(scheduler, "a")
    with pytest.raises(NoHeadroomError) as refused:
        _admit(scheduler, "b")
    assert not refused.value.late


def _recognise(scheduler: Scheduler, clock: _Clock, seconds: float) -> list[str]:
    """Run the steps of some time, each of 20 ms; return the names of the sessions in them."""
    names: list[str] = []
    end = clock.now + seconds
    while clock.now < end - 1e-6:
        clock.now += 0.02
        if scheduler.stats().queue_depth:
            batch = scheduler.next_batch()
            assert batch is not None
            for job in batch:
                names.append(job.queued.id)
                scheduler.finish(job)
    return names


def test_a_session_that_sends_faster_than_real_time_gives_way(clock: _Clock) -> None:
    scheduler = Scheduler(CONFIG, RATE, clock, headroom())
    fast, live = _admit(scheduler, "fast"), _admit(scheduler, "live")
    scheduler.append(fast, np.zeros(60_000, dtype=np.float32))
    scheduler.append(live, np.zeros(640, dtype=np.float32))
    # Both take part in the first step; soon the fast one is ahead of real time by more than burst_ms.
    assert _recognise(scheduler, clock, 1.0)[:2] == ["fast", "live"]
    scheduler.append(live, np.zeros(320, dtype=np.float32))
    batch = scheduler.next_batch()
    assert batch is not None
    assert [(job.queued.id, job.live) for job in batch] == [("live", True)]
    scheduler.finish(batch[0])
    batch = scheduler.next_batch()
    assert batch is not None
    assert [(job.queued.id, job.live) for job in batch] == [("fast", False)]


def test_only_the_lag_of_sessions_in_real_time_counts(clock: _Clock) -> None:
    scheduler = Scheduler(CONFIG, RATE, clock, headroom())
    fast, live = _admit(scheduler, "fast"), _admit(scheduler, "live")
    scheduler.append(fast, np.zeros(60_000, dtype=np.float32))
    counted: dict[str, list[bool]] = {"fast": [], "live": []}
    for _ in range(40):
        clock.now += 0.32
        scheduler.append(live, np.zeros(320, dtype=np.float32))
        for _ in range(4):  # steps in this time, most of them for the fast session alone
            batch = scheduler.next_batch()
            assert batch is not None
            for job in batch:
                counted[job.queued.id].append(job.in_real_time)
                scheduler.finish(job)
    assert counted["live"][-20:] == [True] * 20
    assert not counted["live"][0]
    assert not any(counted["fast"])


def test_a_session_in_real_time_never_gives_way(clock: _Clock) -> None:
    scheduler = Scheduler(CONFIG, RATE, clock, headroom())
    session = _admit(scheduler, "live")
    for turn in range(2_000):
        # The client's clock is 3 % fast, and it sends nothing in every tenth second, but twice as much afterwards.
        clock.now += 0.32 / 1.03
        blocks = 0 if turn % 30 < 3 else 2 if turn % 30 < 6 else 1
        for _ in range(blocks):
            scheduler.append(session, np.zeros(320, dtype=np.float32))
        while scheduler.stats().queue_depth:
            batch = scheduler.next_batch()
            assert batch is not None
            assert batch[0].live
            scheduler.finish(batch[0])
