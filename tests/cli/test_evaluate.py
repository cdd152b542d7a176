"""Run ``streamasr evaluate`` as a user does."""

import json
from pathlib import Path

import pytest
import soundfile

from streamasr.cli import main
from streamasr.report.results import read_evaluation
from tests.recognition.tiny import noise, save_model


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


def test_json_holds_every_measurement_and_its_texts(
    paths: tuple[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model, manifest = paths
    asked = [
        "--chunk-ms",
        "80",
        "--chunk-ms",
        "160",
        "--offline",
        "--decode",
        "greedy,beam,pyctcdecode",
        "--json",
    ]
    assert main(["evaluate", "--model", model, "--manifest", manifest, *asked]) == 0
    (tmp_path / "e.json").write_text(capsys.readouterr().out)
    evaluation = read_evaluation(tmp_path / "e.json")
    assert evaluation.model == "tiny"
    expected = [(ms, mode) for ms in (80, 160, None) for mode in ("greedy", "beam", "pyctcdecode")]
    assert [(m.chunk_ms, m.mode) for m in evaluation.measurements] == expected
    for m in evaluation.measurements:
        assert m.wer.low <= m.wer.value <= m.wer.high
        assert [Path(answer.audio).name for answer in m.answers] == ["0.wav", "1.wav"]
        assert all(answer.hypothesis for answer in m.answers)


def test_the_table_names_the_measurements(
    paths: tuple[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model, manifest = paths
    page = tmp_path / "errors.html"
    flags = ["--limit", "1", "--greedy", "--html", str(page)]
    assert main(["evaluate", "--model", model, "--manifest", manifest, *flags]) == 0
    out = capsys.readouterr().out
    for expected in (
        "WER",
        "CER",
        "RTF",
        "CPU s / audio s",
        "320 ms",
        "greedy",
        "1 utterances, 0.0 min",
        "tiny on ",
    ):
        assert expected in out
    assert "Worst utterances" in page.read_text()


@pytest.mark.parametrize(
    ("flags", "measured"),
    [
        ([], [(320, "beam")]),
        (["--no-lm"], [(320, "beam")]),
        (["--offline"], [(None, "beam")]),
        (["--offline", "--chunk-ms", "100", "--greedy"], [(80, "greedy"), (None, "greedy")]),
        (["--chunk-ms", "all", "--greedy"], [(80, "greedy"), (160, "greedy"), (320, "greedy")]),
    ],
)
def test_flags_select_the_measurements(
    paths: tuple[str, str],
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    measured: list[tuple[int | None, str]],
) -> None:
    model, manifest = paths
    assert main(["evaluate", "--model", model, "--manifest", manifest, "--limit", "1", "--json", *flags]) == 0
    found = json.loads(capsys.readouterr().out)["measurements"]
    assert [(m["chunk_ms"], m["mode"]) for m in found] == measured


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--limit", "0"], "--limit must be positive"),
        (["--batch", "0"], "must be positive"),
        (["--chunk-ms", "all", "--chunk-ms", "80"], "--chunk-ms all already measures every size"),
        (["--decode", "beam+lm"], "tiny has no language model"),
    ],
)
def test_bad_values_fail_with_their_name(
    paths: tuple[str, str], capsys: pytest.CaptureFixture[str], extra: list[str], words: str
) -> None:
    model, manifest = paths
    assert main(["evaluate", "--model", model, "--manifest", manifest, *extra]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--chunk-ms", "long"], "expected milliseconds or all, got 'long'"),
        (
            ["--decode", "magic"],
            "expected one or more of greedy, beam, beam+lm, pyctcdecode, joined by commas, got 'magic'",
        ),
        (["--decode", "beam", "--greedy"], "not allowed with"),
    ],
)
def test_wrong_usage_is_refused(
    paths: tuple[str, str], capsys: pytest.CaptureFixture[str], extra: list[str], words: str
) -> None:
    model, manifest = paths
    with pytest.raises(SystemExit):
        main(["evaluate", "--model", model, "--manifest", manifest, *extra])
    assert words in capsys.readouterr().err
