"""Test the page of a run: it shows all events and loads nothing from elsewhere."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from streamasr.cli import main
from streamasr.errors import DataError
from streamasr.report.evaluation_page import evaluation_page
from streamasr.report.results import Evaluation, RecognisedUtterance, measure
from streamasr.training.monitoring.events import DevReport, Event, RunStarted, StepReport
from streamasr.training.monitoring.log import EventLog
from streamasr.training.monitoring.run_page import run_page, write_page


@pytest.fixture
def evaluation() -> Evaluation:
    answers = [
        RecognisedUtterance(
            audio="1.wav", seconds=2.0, reference="tom & jerry", hypothesis="tom jelly", speaker="ann"
        ),
        RecognisedUtterance(
            audio="2.wav", seconds=1.0, reference="so be it", hypothesis="so be it", speaker="bob"
        ),
    ]
    measured = [
        measure(
            answers, [0.1, 0.1], manifest="dev-books", mode=mode, chunk_ms=chunk_ms, cpu_s=0.3, unit="word"
        )
        for chunk_ms in (160, 640, None)
        for mode in ("greedy", "beam")
    ]
    return Evaluation(
        model="tiny<1>",
        language="en",
        date="2026-11-21",
        machine="two cores",
        parameters=5,
        measurements=tuple(measured),
    )


class Balance(HTMLParser):
    """Fails on a closing tag that does not match; ``open`` holds the tags that are not closed."""

    VOID = frozenset({"meta"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag


def test_the_page_shows_all_events(events: list[Event], evaluation: Evaluation) -> None:
    page = run_page(events, evaluation)
    for expected in (
        "<h1>tiny&lt;1&gt;</h1>",
        "300 of 400 steps",
        "every frame is blank",
        "The rate is too high.",
        "Lower it.",
        "Learning rate",
        "Gradient norm",
        "Share of blank frames",
        "Throughput",
        "WER, dev-books",
        "160 ms chunks",
        "640 ms chunks",
        "step 300",
        "seed = 7",
        "Errors: dev-books, 640 ms, beam",
        "jerry → jelly",
        "<del>&amp;</del>",
        "By speaker",
        "offline",
        "<b>75%</b>",
    ):
        assert expected in page, f"{expected} is missing"
    balance = Balance()
    balance.feed(page)
    assert balance.open == []


def test_cer_is_the_main_rate_for_languages_without_spaces(events: list[Event]) -> None:
    run = RunStarted(step=0, steps=400, name="zh", frame_ms=20.0, unit="character")
    page = run_page([run, *events[1:]])
    assert "CER, dev-books, 640 ms, greedy" in page
    assert "WER, dev-books, 640 ms, greedy" not in page


def test_a_single_curve_is_named_in_the_title(events: list[Event]) -> None:
    steps = [event for event in events if isinstance(event, StepReport)]
    dev = [event for event in events if isinstance(event, DevReport) and event.chunk_frames == 32]
    page = run_page([events[0], *(replace(step, ctc=step.loss, consistency=0.0) for step in steps), *dev])
    assert "WER, dev-books, 640 ms chunks" in page
    assert "Curves: CTC" in page
    assert "Curves: total" not in page


def test_the_page_loads_nothing(events: list[Event], evaluation: Evaluation) -> None:
    page = run_page(events, evaluation)
    assert re.findall(r"(?:src|href)\s*=|@import|url\(|https?:", page) == []
    assert "prefers-color-scheme: dark" in page


def test_a_run_without_events_has_a_page() -> None:
    assert "No steps reported yet." in run_page([])


def test_an_evaluation_has_its_own_page(evaluation: Evaluation) -> None:
    page = evaluation_page(evaluation)
    assert "2026-11-21 · two cores" in page
    assert "Worst utterances" in page


def test_the_command_writes_the_page_again(
    tmp_path: Path, events: list[Event], evaluation: Evaluation, capsys: pytest.CaptureFixture[str]
) -> None:
    with EventLog(tmp_path / "events.jsonl") as log:
        for event in events:
            log(event)
    (tmp_path / "evaluation.json").write_text(evaluation.to_json())
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'report.html'}\n"
    assert (tmp_path / "report.html").read_text() == run_page(events, evaluation)
    other = tmp_path / "other.html"
    assert main(["report", str(tmp_path), "--out", str(other)]) == 0
    assert other.is_file()


def test_a_folder_without_a_log_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"events\.jsonl: no such file"):
        write_page(tmp_path)
