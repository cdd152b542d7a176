"""The terminal, TensorBoard, and everybody together."""

from __future__ import annotations

import builtins
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from streamasr.errors import ConfigError
from streamasr.training.report.events import Event, RunStarted
from streamasr.training.report.listeners import listeners
from streamasr.training.report.live import LiveView
from streamasr.training.report.log import read_events
from streamasr.training.report.tensorboard import TensorBoardWriter


def shown(events: list[Event], *, terminal: bool) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120, height=60, color_system=None)
    with LiveView(console) as view:
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


def test_characters_are_shown_where_words_are_not_spaced(events: list[Event]) -> None:
    run = RunStarted(step=0, steps=400, name="zh", frame_ms=20.0, unit="character")
    spoken = replace(events[2], samples=(("你好世界", "你好间"),))  # type: ignore[type-var]
    screen = shown([run, spoken], terminal=True)
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
        with listeners(tmp_path, console=Console(file=out, width=120)) as tell:
            for event in events:
                tell(event)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crash()
    assert read_events(tmp_path / "events.jsonl") == events
    assert list((tmp_path / "tensorboard").iterdir())
    assert "every frame says blank" in (tmp_path / "report.html").read_text()
    assert "TROUBLE" in out.getvalue()


def test_tensorboard_and_the_terminal_can_be_left_out(tmp_path: Path, events: list[Event]) -> None:
    with listeners(tmp_path, tensorboard=False, live=False) as tell:
        tell(events[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.jsonl", "report.html"]
