"""Test the plan of a load test and the search for the limit, without a daemon."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import pytest

from streamasr.service import loadtest
from streamasr.service.emission import ReferenceWord
from streamasr.service.loadtest import LoadPlan, LoadReport, find_limit, keeps_lag

SECOND = bytes(32_000)
LAG_MS = {"p50": 20.0, "p95": 100.0, "p99": 200.0}


def plan(streams: int = 2, reference: tuple[ReferenceWord, ...] = ()) -> LoadPlan:
    return LoadPlan(
        url="ws://h/v1/stream",
        pcm=SECOND,
        streams=streams,
        latency_ms=640,
        duration_s=2.5,
        reference=reference,
    )


def report(streams: int, lag_ms: float | None, failed: int = 0, flush_ms: float = 300.0) -> LoadReport:
    none = dict.fromkeys(LAG_MS)
    return LoadReport(
        streams=streams,
        failed=failed,
        latency_ms=640,
        audio_s=1.0,
        partials=1,
        finals=1,
        partial_lag_ms={**LAG_MS, "p95": lag_ms},
        engine_lag_ms=none,
        final_lag_ms=none,
        first_partial_ms=none,
        flush_ms={**LAG_MS, "p95": flush_ms},
        emission_shown_ms=none,
        emission_committed_ms=none,
        speech_end_ms=none,
        reference_words=0,
        reference_words_found=0,
        changed_per_100_words=None,
        cpu_s_per_audio_s=None,
        batch_chunks=None,
        resident_mb=None,
        minutes=(),
        errors=(),
    )


def test_the_reference_follows_the_repeated_audio_of_each_stream() -> None:
    words = (ReferenceWord("one", 300), ReferenceWord("two", 800))
    some = plan(reference=words)
    assert some.reference_of(0) == [
        ReferenceWord("one", 300),
        ReferenceWord("two", 800),
        ReferenceWord("one", 1_300),
        ReferenceWord("two", 1_800),
        ReferenceWord("one", 2_300),
    ]
    # The second stream begins in the middle of the file, at its 13th message of 40 ms.
    assert some.first_message(1) == 12
    assert [(word.text, word.end_ms) for word in some.reference_of(1)] == [
        ("two", 320),
        ("one", 820),
        ("two", 1_320),
        ("one", 1_820),
        ("two", 2_320),
    ]


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        (report(1, 499.0), True),
        (report(1, 501.0), False),
        (report(1, 100.0, failed=1), False),
        (report(1, None), False),
        (report(1, 100.0, flush_ms=5_000.0), False),
    ],
)
def test_the_lag_is_kept_if_nothing_fails_and_nothing_is_late(found: LoadReport, kept: bool) -> None:
    assert keeps_lag(found, 500.0) is kept


def test_without_partials_the_daemons_own_lag_counts() -> None:
    assert keeps_lag(replace(report(1, None), engine_lag_ms={**LAG_MS, "p95": 499.0}), 500.0)
    assert not keeps_lag(replace(report(1, None), engine_lag_ms={**LAG_MS, "p95": 501.0}), 500.0)


def test_quantiles_of_the_daemons_histogram_are_interpolated() -> None:
    counts = [(0.1, 40.0), (0.2, 80.0), (0.5, 99.0), (math.inf, 100.0)]
    assert loadtest._quantile(counts, 0.5) == pytest.approx(125.0)
    assert loadtest._quantile(counts, 0.95) == pytest.approx(436.8)
    assert loadtest._quantile(counts, 0.995) == pytest.approx(500.0)
    assert loadtest._quantile([(0.1, 0.0), (math.inf, 0.0)], 0.5) is None
    assert loadtest._quantile([], 0.5) is None


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 7, 8, 29, 100])
@pytest.mark.parametrize("first", [1, 8])
def test_the_limit_is_found_to_an_eighth(monkeypatch: pytest.MonkeyPatch, limit: int, first: int) -> None:
    async def run_load(some: LoadPlan) -> LoadReport:
        return report(some.streams, 100.0 if some.streams <= limit else 900.0)

    monkeypatch.setattr(loadtest, "run_load", run_load)
    seen: list[LoadReport] = []
    found = asyncio.run(find_limit(plan(streams=first), 500.0, seen.append))
    assert found.streams <= limit <= found.streams + found.streams // 8
    assert list(found.reports) == seen
    assert len(seen) < 16
