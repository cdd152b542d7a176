"""Run the parts of the decoder's benchmark that need no model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import pytest
from rich.console import Console

from streamasr.config import DecoderConfig
from tests.decoding.synthetic import TOKENS

INPUTS = SimpleNamespace(tokens=TOKENS, lm=None, config=DecoderConfig(beam_width=4))
CONSOLE = Console(width=160, quiet=True)


@pytest.fixture(scope="module")
def speed(load_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return load_benchmark("decoder_speed")


def test_sessions_report_cpu_time_wall_time_and_speed_up(
    speed: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "SESSIONS", (1, 2))
    figures = speed.many_sessions(INPUTS, [speed.noise(100, len(TOKENS))], 2, CONSOLE)
    assert list(figures) == ["1 sessions", "2 sessions"]
    for row in figures.values():
        assert list(row) == ["cpu_us_1", "wall_us_1", "cpu_us_2", "wall_us_2", "speed_up"]
        assert all(figure > 0 for figure in row.values())


def test_a_minute_of_noise_reports_the_largest_state_of_every_beam(
    speed: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "NOISE_BEAMS", (2, 8))
    figures = speed.endless_noise(INPUTS, 1, CONSOLE)
    assert figures["minutes"] == 1
    assert 0 < figures["beam 2"]["largest_state_kib"] < figures["beam 8"]["largest_state_kib"] < 1000


def test_unknown_parts_are_refused(
    speed: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["decoder_speed", "--manifest", "none.jsonl", "--only", "session"])
    with pytest.raises(SystemExit):
        speed.main()
    assert "invalid choice: 'session'" in capsys.readouterr().err
