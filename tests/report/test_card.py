"""Test the measured block of a model card: it is written and replaced, and other text is not changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from streamasr.cli import main
from streamasr.errors import DataError
from streamasr.report.card import BEGIN, END, write_card
from streamasr.report.results import Evaluation, Measurement, RecognisedUtterance, measure
from tests.recognition.tiny import save_model


def measurement(
    chunk_ms: int | None, mode: str = "beam+lm", manifest: str = "dev", wrong: int = 1
) -> Measurement:
    words = ["one", "two", "three", "four"]
    answer = RecognisedUtterance(
        audio="a.wav", seconds=60.0, reference=" ".join(words), hypothesis=" ".join(words[wrong:])
    )
    return measure([answer], [6.0], manifest=manifest, mode=mode, chunk_ms=chunk_ms, cpu_s=4.8, unit="word")


def evaluation(*measurements: Measurement, language: str = "en", date: str = "2026-11-21") -> Evaluation:
    return Evaluation(
        model="tiny",
        language=language,
        date=date,
        machine="AMD EPYC, 2 cores, 2 threads",
        parameters=20_600_000,
        measurements=measurements,
    )


def test_a_missing_card_is_created(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x" * 1_500_000)
    rows = [
        measurement(640),
        measurement(160),
        measurement(None, wrong=0),
        measurement(640, "greedy", wrong=2),
    ]
    path = write_card(tmp_path, [evaluation(*rows, measurement(640, manifest="phone"))], "tiny")
    text = path.read_text()
    assert text.startswith(f"# tiny\n\n{BEGIN}\n\n## Measured\n")
    assert text.endswith(f"{END}\n")
    for line in (
        "| Beam search with the language model | dev (1 utterances, 1 min) | phone (1 utterances, 1 min) |",
        "| 160 ms chunks | 25.0 % (25.0 – 25.0) |  |",
        "| 640 ms chunks | 25.0 % (25.0 – 25.0) | 25.0 % (25.0 – 25.0) |",
        "| offline (whole utterances) | 0.0 % (0.0 – 0.0) |  |",
        "| 640 ms chunks | 50.0 % (50.0 – 50.0) |",
        "| CPU seconds per second of audio | beam+lm | greedy |",
        "| 640 ms chunks | 0.080 | 0.080 |",
        "| encoder | 20.6 M parameters |",
        "| weights | 1.5 MB |",
        "Measured 2026-11-21: AMD EPYC, 2 cores, 2 threads.",
    ):
        assert f"\n{line}\n" in text, f"{line} is missing"
    assert "language model |" not in text.partition("| size |")[2]


def test_text_outside_the_markers_is_kept(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text(f"# Mine\n\nbefore \n\n{BEGIN}\nold\n{END}\n\n## Licence\n\nafter\n")
    write_card(tmp_path, [evaluation(measurement(640))], "tiny")
    text = card.read_text()
    assert text.startswith(f"# Mine\n\nbefore \n\n{BEGIN}\n\n## Measured")
    assert text.endswith(f"{END}\n\n## Licence\n\nafter\n")
    assert "old" not in text
    write_card(tmp_path, [evaluation(measurement(640))], "tiny")
    assert card.read_text() == text


def test_the_last_measurement_of_the_same_thing_counts(tmp_path: Path) -> None:
    older = evaluation(measurement(640, wrong=3), measurement(160), date="2026-11-20")
    text = write_card(tmp_path, [older, evaluation(measurement(640))], "tiny").read_text()
    assert "75.0 %" not in text
    assert "| 160 ms chunks |" in text
    assert "2026-11-20: AMD EPYC, 2 cores, 2 threads; 2026-11-21" in text


def test_the_card_has_character_error_rates_for_languages_without_spaces(tmp_path: Path) -> None:
    text = write_card(tmp_path, [evaluation(measurement(640), language="zh")], "tiny").read_text()
    assert "Character error rates" in text


@pytest.mark.parametrize("text", [f"{BEGIN}\n", f"{END}\n", f"{END}\n{BEGIN}\n"])
def test_a_missing_marker_is_an_error_and_nothing_is_written(tmp_path: Path, text: str) -> None:
    (tmp_path / "README.md").write_text(text)
    with pytest.raises(DataError, match="must have both markers or none"):
        write_card(tmp_path, [evaluation(measurement(640))], "tiny")
    assert (tmp_path / "README.md").read_text() == text


def test_an_evaluation_of_another_model_is_refused(tmp_path: Path) -> None:
    other = replace(evaluation(measurement(640)), model="other")
    with pytest.raises(DataError, match="an evaluation of 'other' does not belong in the card of 'tiny'"):
        write_card(tmp_path, [other], "tiny")


def test_the_command_writes_the_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_model(tmp_path / "tiny")
    measured = tmp_path / "e.json"
    measured.write_text(evaluation(measurement(640)).to_json())
    assert main(["model", "card", str(folder), "--from", str(measured)]) == 0
    assert capsys.readouterr().out == f"{folder / 'README.md'}\n"
    assert "25.0 %" in (folder / "README.md").read_text()
    assert main(["model", "card", str(folder), "--from", str(tmp_path / "gone.json")]) == 1
    assert "gone.json: no such file" in capsys.readouterr().err
