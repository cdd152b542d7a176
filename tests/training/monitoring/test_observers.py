"""Test the terminal view, the TensorBoard writer, and all observers together."""

from __future__ import annotations

import builtins
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from streamasr.errors import ConfigError
from streamasr.training.monitoring.events import DevReport, Event, PreparationProgress, RunStarted
from streamasr.training.monitoring.log import read_events
from streamasr.training.monitoring.observers import open_observers
from streamasr.training.monitoring.tensorboard import TensorBoardWriter
from streamasr.training.monitoring.terminal import TerminalView

RUNNING = RunStarted(step=0, steps=400, name="zh", frame_ms=20.0, unit="character")


def shown(
    events: Sequence[Event | PreparationProgress],
    *,
    terminal: bool,
    clock: Callable[[], float] = time.monotonic,
) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120, height=60, color_system=None)
    with TerminalView(console, clock) as view:
        for event in events:
            view(event)
    return out.getvalue()


def test_output_that_is_not_a_terminal_gets_plain_lines(events: list[Event]) -> None:
    lines = shown(events, terminal=False).splitlines()
    assert lines[0] == "tiny<1>: from step 0 to 400"
    assert lines[1].startswith("step 100  loss 1.0000 (ctc 0.800, consistency 0.200) · blank 75%")
    assert "3 rows with too few frames for their text" in lines[1]
    expected = "step 100  dev-books, 160 ms chunks: WER 59.20%  CER 19.73%  (7 sub, 2 ins, 1 del in 40 words)"
    assert lines[2] == expected
    assert lines[3:5] == ["  ref  tom & jerry ran", "  hyp  tom and jerry"]
    assert lines[-1] == (
        "step 200  PROBLEM: every frame is blank. Likely cause: The rate is too high. Remedy: Lower it."
    )
    assert "\x1b" not in "".join(lines)


def test_the_screen_shows_progress_figures_rates_samples_and_diagnoses(events: list[Event]) -> None:
    screen = shown(events, terminal=True)
    last = screen[screen.rindex("tiny<1>") :]
    for expected in (
        "300/400",
        "loss 0.3333",
        "160 ms",
        "640 ms",
        "19.2% ▼10.0%",
        "hyp  tom and jerry ·",
        "Likely cause: The rate is too high.",
        "Remedy: Lower it.",
    ):
        assert expected in last, expected


def preparation(seconds: int) -> list[PreparationProgress]:
    """Return one event per second; each has one more utterance of 36 seconds."""
    return [PreparationProgress(what="speech", done=n, total=60, hours=n / 100) for n in range(seconds + 1)]


def test_output_that_is_not_a_terminal_gets_a_line_every_ten_seconds_of_preparation() -> None:
    seconds = iter(range(1_000))
    lines = shown(
        [*preparation(60), RUNNING], terminal=False, clock=lambda: float(next(seconds))
    ).splitlines()
    assert lines[0] == "preparing speech: 10 of 60, 0.10 h, 0:00:50 left"
    assert lines[1:-2] == [
        f"preparing speech: {n} of 60, {n / 100:.2f} h, 0:00:{60 - n} left" for n in (20, 30, 40, 50)
    ]
    assert lines[-2:] == ["preparing speech: 60 of 60, 0.60 h", "zh: from step 0 to 400"]


def test_preparation_has_a_progress_bar_until_the_run_starts() -> None:
    rooms = PreparationProgress(what="noises and rooms", done=3, total=8, hours=0.0)
    screen = shown([*preparation(30), rooms], terminal=True)
    last = screen[screen.rindex("preparing speech") :]
    assert "30/60" in last
    assert "0.30 h" in last
    assert "preparing noises and rooms" in last
    assert "3/8" in last
    assert "left" in last
    started = shown([*preparation(30), RUNNING], terminal=True)
    assert "preparing" not in started[started.rindex("0/400") :]


def test_preparation_is_not_logged(tmp_path: Path, events: list[Event]) -> None:
    out = io.StringIO()
    with open_observers(tmp_path, console=Console(file=out, width=120)) as emit:
        for event in [*preparation(60), *events]:
            emit(event)
    assert read_events(tmp_path / "events.jsonl") == events
    assert "preparing speech: 60 of 60" in out.getvalue()


def test_an_interrupt_before_the_run_leaves_a_page(tmp_path: Path) -> None:
    def interrupted() -> None:
        with open_observers(tmp_path, tensorboard=False, live=False) as emit:
            emit(preparation(0)[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "No steps reported yet." in (tmp_path / "report.html").read_text()


def test_cer_is_shown_for_languages_without_spaces(events: list[Event]) -> None:
    report = events[2]
    assert isinstance(report, DevReport)
    report = replace(report, samples=(("你好世界", "你好间"),))
    screen = shown([RUNNING, report], terminal=True)
    assert "CER during training" in screen
    assert "hyp  你好间·" in screen or "hyp  你好·间" in screen


def test_tensorboard_gets_scalars_and_texts_of_one_run(tmp_path: Path, events: list[Event]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with TensorBoardWriter(tmp_path) as writer:
        for event in events:
            writer(event)
    with TensorBoardWriter(tmp_path) as writer:
        writer(RunStarted(step=100, steps=400, name="tiny", frame_ms=20.0))
        writer(events[4])
    accumulated = EventAccumulator(str(tmp_path))
    accumulated.Reload()
    assert [scalar.step for scalar in accumulated.Scalars("loss/ctc")] == [100, 200]
    assert accumulated.Scalars("dev/dev-books/wer/640ms")[0].value == pytest.approx(0.568)
    assert "train/learning_rate" in accumulated.Tags()["scalars"]
    assert "diagnosis/all_blank/text_summary" in accumulated.Tags()["tensors"]


def test_a_missing_tensorboard_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name.startswith(("tensorboard", "torch.utils.tensorboard")):
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install 'streamasr\[train\]'"):
        TensorBoardWriter(tmp_path)


def test_all_observers_get_the_events_and_the_page_is_written_after_a_crash(
    tmp_path: Path, events: list[Event]
) -> None:
    out = io.StringIO()

    def crash() -> None:
        with open_observers(tmp_path, console=Console(file=out, width=120)) as emit:
            for event in events:
                emit(event)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crash()
    assert read_events(tmp_path / "events.jsonl") == events
    assert list((tmp_path / "tensorboard").iterdir())
    assert "every frame is blank" in (tmp_path / "report.html").read_text()
    assert "PROBLEM" in out.getvalue()


def test_tensorboard_and_the_terminal_can_be_left_out(tmp_path: Path, events: list[Event]) -> None:
    with open_observers(tmp_path, tensorboard=False, live=False) as emit:
        emit(events[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.jsonl", "report.html"]
