"""``streamasr evaluate`` as a user runs it."""

import json
from pathlib import Path

import pytest
import soundfile

from streamasr.cli import main
from tests.engine.tiny import noise, save_model


@pytest.fixture
def paths(tmp_path: Path) -> tuple[str, str]:
    """A model folder and a manifest of two utterances."""
    folder = save_model(tmp_path / "tiny")
    lines = []
    for index in range(2):
        soundfile.write(tmp_path / f"{index}.wav", noise(1.0, seed=index), 16_000)
        lines.append(json.dumps({"audio_filepath": f"{index}.wav", "duration": 1.0, "text": "a bad cab"}))
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines))
    return str(folder), str(tmp_path / "manifest.jsonl")


def test_json_holds_figures_intervals_and_texts(
    paths: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    model, manifest = paths
    assert main(["evaluate", "--model", model, "--manifest", manifest, "--chunk-ms", "160", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["model"], report["chunk_ms"], report["utterances"]) == ("tiny", 160, 2)
    for figure in ("wer", "cer", "rtf"):
        assert report[figure]["low"] <= report[figure]["value"] <= report[figure]["high"]
    assert [Path(text["audio_filepath"]).name for text in report["texts"]] == ["0.wav", "1.wav"]
    assert all(text["recognised"] for text in report["texts"])


def test_the_table_names_what_was_measured(
    paths: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    model, manifest = paths
    assert main(["evaluate", "--model", model, "--manifest", manifest, "--limit", "1", "--greedy"]) == 0
    out = capsys.readouterr().out
    for expected in ("WER", "CER", "RTF", "streaming, greedy", "1 utterances"):
        assert expected in out


@pytest.mark.parametrize(
    ("extra", "words"),
    [(["--limit", "0"], "--limit must be positive"), (["--batch", "0"], "must be positive")],
)
def test_bad_numbers_fail_with_their_name(
    paths: tuple[str, str], capsys: pytest.CaptureFixture[str], extra: list[str], words: str
) -> None:
    model, manifest = paths
    assert main(["evaluate", "--model", model, "--manifest", manifest, *extra]) == 1
    assert words in capsys.readouterr().err
