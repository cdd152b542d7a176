"""Test the results of an evaluation: scoring, and writing and reading JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamasr.errors import DataError
from streamasr.report.results import (
    Evaluation,
    Measurement,
    RecognisedUtterance,
    measure,
    read_evaluation,
    select_measurement,
)


def answer(reference: str, hypothesis: str) -> RecognisedUtterance:
    return RecognisedUtterance(
        audio="a.wav", seconds=2.0, reference=reference, hypothesis=hypothesis, speaker="7"
    )


def measurement(chunk_ms: int | None = 640, mode: str = "greedy") -> Measurement:
    answers = [answer("the cat sat", "the cat"), answer("a dog", "a fog")]
    return measure(answers, [0.2, 0.4], manifest="dev", mode=mode, chunk_ms=chunk_ms, cpu_s=1.0, unit="word")


def test_utterances_are_scored() -> None:
    measured = measurement()
    assert measured.wer.value == pytest.approx(2 / 5)
    assert measured.cer.value == pytest.approx(5 / 16)
    assert (measured.words.deletions, measured.words.substitutions, measured.words.length) == (1, 1, 5)
    assert measured.rtf.value == pytest.approx(0.15)
    assert measured.cpu == pytest.approx(0.25)
    assert (measured.utterances, measured.audio_s) == (2, 4.0)
    assert measured.headline("word") == measured.wer


def test_spaces_do_not_count_for_languages_without_spaces() -> None:
    answers = [answer("你 好 世 界", "你好世间")]
    measured = measure(
        answers, [0.1], manifest="m", mode="greedy", chunk_ms=None, cpu_s=0.1, unit="character"
    )
    assert measured.headline("character").value == pytest.approx(1 / 4)


def test_an_evaluation_is_read_back_from_json(tmp_path: Path) -> None:
    evaluation = Evaluation(
        model="tiny",
        language="zh",
        date="2026-11-21",
        machine="two cores",
        parameters=5,
        measurements=(measurement(None), measurement(160)),
    )
    path = tmp_path / "evaluation.json"
    path.write_text(evaluation.to_json(), encoding="utf-8")
    assert read_evaluation(path) == evaluation
    assert evaluation.unit == "character"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"no such file; write the output of `streamasr evaluate … --json` to it"),
        ("nothing", "not valid JSON"),
        ("{}", "not an evaluation that `streamasr evaluate --json` has printed: model: missing"),
        ("[]", "expected names with values, got list"),
    ],
)
def test_a_file_that_is_not_an_evaluation_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "e.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_evaluation(path)


def test_errors_are_analysed_at_the_streamed_chunk_size_nearest_to_640_ms() -> None:
    offline, short, middle = measurement(None), measurement(160), measurement(600)
    beam = measurement(600, "beam+lm")
    assert select_measurement([offline, short, middle, beam]) is beam
    assert select_measurement([offline]) is offline
