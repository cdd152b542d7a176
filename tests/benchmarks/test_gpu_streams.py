"""Rehearse the benchmark of streams on a GPU with a tiny model on the CPU."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from streamasr.config import WhisperEncoderConfig

TINY = WhisperEncoderConfig(dim=32, heads=2, layers=1, left_context_frames=16, chunk_frames=(8, 32))
AUDIO = Path(__file__).parents[1] / "data" / "librispeech" / "3607-135982-0000.flac"


@pytest.fixture(scope="module")
def script(load_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return load_benchmark("gpu_streams")


def test_the_rehearsal_finds_that_a_few_streams_are_served(
    script: ModuleType,
    load_benchmark: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(load_benchmark("encoder_cost").SIZES, "tiny", lambda: TINY)
    flags = ["--model", "tiny", "--device", "cpu", "--latency-ms", "640", "--duration", "2"]
    monkeypatch.setattr(
        sys, "argv", ["gpu_streams", "--audio", str(AUDIO), *flags, "--first", "3", "--most", "3"]
    )
    assert script.main() == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    (trial,) = report["trials"]
    assert trial["streams"] == 3
    # Three streams of 2 s in hops of 640 ms.
    assert 6 <= trial["chunks"] <= 12
    assert 0 < trial["encoder_ms"] < 1_000
    assert trial["chunks_per_step"] >= 1


def test_the_limit_is_approached_from_both_sides(script: ModuleType) -> None:
    def measure(streams: int) -> object:
        return script.Trial(
            latency_ms=560,
            streams=streams,
            chunks=1,
            late_share=0.0 if streams <= 300 else 0.5,
            feeding_late_s=0.0,
            chunks_per_step=1.0,
            frontend_ms=1.0,
            encoder_ms=1.0,
            decoder_ms=1.0,
            step_share=0.5,
        )

    trials = script.find_limit(measure, 64, 4096)
    best = max(trial.streams for trial in trials if trial.passed)
    assert 300 - 300 // 16 <= best <= 300
    assert [trial.streams for trial in script.find_limit(measure, 64, 128)] == [64, 128]
    assert all(not trial.passed for trial in script.find_limit(lambda _: measure(1000), 4, 8))
