"""Test the measurement of steps, and the cache that keeps it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamasr.engine import Engine, EngineConfig, step_cost
from streamasr.engine.step_cost import default_load, measure_step_cost
from streamasr.recognition.batch import BatchStep
from tests.recognition.tiny import tiny_model


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "streamasr" / "step-cost.json"


def test_a_step_is_measured_alone_and_full() -> None:
    model = tiny_model()
    cost = measure_step_cost(model, EngineConfig(max_batch=4))
    assert (cost.batch, cost.chunk_frames) == (4, default_load(model).chunk_frames)
    assert 0 < cost.alone_s <= cost.full_s
    assert cost.cpu_s > 0


def test_a_batch_of_one(cache: Path) -> None:
    cost = measure_step_cost(tiny_model(), EngineConfig(max_batch=1))
    assert cost.step_s(cost.chunk_frames, 3) == pytest.approx(3 * cost.alone_s)


def test_the_measurement_is_kept_for_each_model_and_setting(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, config = tiny_model(), EngineConfig(max_batch=2)
    first = step_cost.step_cost(model, config)
    (key,) = json.loads(cache.read_text())
    assert "batch 2" in key
    step_cost.step_cost(model, EngineConfig(max_batch=3))
    assert len(json.loads(cache.read_text())) == 2

    def measured_again(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(step_cost, "measure_step_cost", measured_again)
    assert step_cost.step_cost(model, config) == first


@pytest.mark.parametrize("content", ["", "[]", "{}", "no JSON", '{"key": 1}'])
def test_a_damaged_cache_costs_only_another_measurement(cache: Path, content: str) -> None:
    cache.parent.mkdir()
    cache.write_text(content)
    model, config = tiny_model(), EngineConfig(max_batch=2)
    cost = step_cost.step_cost(model, config)
    assert step_cost.step_cost(model, config) == cost


def test_an_engine_estimates_how_many_sessions_fit(cache: Path) -> None:
    with Engine(tiny_model(), EngineConfig(max_sessions="auto", max_batch=2)) as engine:
        assert engine.stats().max_sessions > 2
        assert engine.stats().step_cost_ratio == 1.0
    with Engine(tiny_model(), EngineConfig(max_sessions=5)) as engine:
        assert engine.stats().max_sessions == 5
    assert len(json.loads(cache.read_text())) == 1


def test_an_engine_whose_steps_fail_starts_without_a_forecast(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*_: object) -> None:
        raise RuntimeError("CUDA error")

    monkeypatch.setattr(BatchStep, "run", failing)
    with Engine(tiny_model(), EngineConfig(max_sessions="auto")) as engine:
        assert engine.stats().max_sessions == engine.config.slots
    assert "sessions are admitted without a forecast" in caplog.text
