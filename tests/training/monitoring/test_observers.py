"""The terminal, TensorBoard, and everybody together."""

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


def test_plain_lines_where_there_is_no_terminal(events: list[Event]) -> None:
    lines = shown(events, terminal=False).splitlines()
    assert lines[0] == "tiny<1>: from step 0 to 400"
    assert lines[1].startswith("step 100  loss 1.0000 (ctc 0.800, consistency 0.200) · blank 75%")
    assert "3 rows too short for their text" in lines[1]
    expected = "step 100  dev-books, 160 ms chunks: WER 59.20%  CER 19.73%  (7 sub, 2 ins, 1 del in 40 words)"
    assert lines[2] == expected
    assert lines[3:5] == ["  said   tom & jerry ran", "  heard  tom and jerry"]
    assert lines[-1] == (
        "step 200  TROUBLE: every frame says blank. Likely: The rate is too high. Remedy: Lower it."
    )
    assert "\x1b" not in "".join(lines)


def test_the_screen_holds_progress_figures_rates_samples_and_troubles(events: list[Event]) -> None:
    screen = shown(events, terminal=True)
    last = screen[screen.rindex("tiny<1>") :]
    for expected in (
        "300/400",
        "loss 0.3333",
        "160 ms",
        "640 ms",
        "19.2% ▼10.0%",
        "heard  tom and jerry ·",
        "Likely cause: The rate is too high.",
        "Remedy: Lower it.",
    ):
        assert expected in last, expected


def opening(seconds: int) -> list[PreparationProgress]:
    """An utterance a second, each of 36 seconds."""
    return [PreparationProgress(what="speech", done=n, total=60, hours=n / 100) for n in range(seconds + 1)]


def test_decoding_is_told_of_every_ten_seconds_where_there_is_no_terminal() -> None:
    seconds = iter(range(1_000))
    lines = shown([*opening(60), RUNNING], terminal=False, clock=lambda: float(next(seconds))).splitlines()
    assert lines[0] == "decoding speech: 10 of 60, 0.10 h, 0:00:50 left"
    assert lines[1:-2] == [
        f"decoding speech: {n} of 60, {n / 100:.2f} h, 0:00:{60 - n} left" for n in (20, 30, 40, 50)
    ]
    assert lines[-2:] == ["decoding speech: 60 of 60, 0.60 h", "zh: from step 0 to 400"]


def test_decoding_has_a_bar_until_the_run_begins() -> None:
    rooms = PreparationProgress(what="noises and rooms", done=3, total=8, hours=0.0)
    screen = shown([*opening(30), rooms], terminal=True)
    last = screen[screen.rindex("decoding speech") :]
    assert "30/60" in last
    assert "0.30 h" in last
    assert "decoding noises and rooms" in last
    assert "3/8" in last
    assert "left" in last
    begun = shown([*opening(30), RUNNING], terminal=True)
    assert "decoding" not in begun[begun.rindex("0/400") :]


def test_no_log_keeps_what_came_before_the_run(tmp_path: Path, events: list[Event]) -> None:
    out = io.StringIO()
    with open_observers(tmp_path, console=Console(file=out, width=120)) as emit:
        for event in [*opening(60), *events]:
            emit(event)
    assert read_events(tmp_path / "events.jsonl") == events
    assert "decoding speech: 60 of 60" in out.getvalue()


def test_an_interrupt_before_the_run_leaves_a_page_that_says_so(tmp_path: Path) -> None:
    def interrupted() -> None:
        with open_observers(tmp_path, tensorboard=False, live=False) as emit:
            emit(opening(0)[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "no step has been reported yet" in (tmp_path / "report.html").read_text()


def test_characters_are_shown_where_words_are_not_spaced(events: list[Event]) -> None:
    report = events[2]
    assert isinstance(report, DevReport)
    spoken = replace(report, samples=(("你好世界", "你好间"),))
    screen = shown([RUNNING, spoken], terminal=True)
    assert "CER while training" in screen
    assert "heard  你好间·" in screen or "heard  你好·间" in screen


def test_tensorboard_gets_scalars_texts_and_no_fork(tmp_path: Path, events: list[Event]) -> None:
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
    with pytest.raises(ConfigError, match=r"pip install streamasr\[train\]"):
        TensorBoardWriter(tmp_path)


def test_everybody_hears_and_the_page_is_written_even_after_a_crash(
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
    assert "every frame says blank" in (tmp_path / "report.html").read_text()
    assert "TROUBLE" in out.getvalue()


def test_tensorboard_and_the_terminal_can_be_left_out(tmp_path: Path, events: list[Event]) -> None:
    with open_observers(tmp_path, tensorboard=False, live=False) as emit:
        emit(events[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.jsonl", "report.html"]
