"""Run ``streamasr data`` as a user does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamasr.cli import main
from streamasr.manifest import read_manifest
from tests.training.data import trees


def test_import_then_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out, skipped = trees.librispeech(tmp_path), tmp_path / "all.jsonl", tmp_path / "skipped.tsv"
    arguments = ["data", "import", "librispeech", str(source), str(out), "--skipped", str(skipped)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "3 utterances, 0.00 h, 2 speakers" in printed
    assert "1 × no such audio file, first" in printed
    assert skipped.read_text().endswith("84-9000-0000.flac\tno such audio file\n")

    picture = tmp_path / "histograms.png"
    arguments = ["data", "check", str(out), "--tokens", "en-small", "--png", str(picture)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "0 errors, 0 warnings" in printed
    assert "duration_s" in printed
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_import_selects_speakers_and_splits(tmp_path: Path) -> None:
    source, out = str(trees.fsdd(tmp_path)), tmp_path / "out.jsonl"
    assert main(["data", "import", "fsdd", source, str(out), "--exclude-speaker", "george"]) == 0
    assert {utterance.speaker for utterance in read_manifest(out)} == {"yweweler"}
    arguments = ["--split", "test", "--only-speaker", "george", "--workers", "1"]
    assert main(["data", "import", "fsdd", source, str(out), *arguments]) == 0
    assert len(read_manifest(out)) == 4


def test_import_language(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert main(["data", "import", "commonvoice", str(trees.commonvoice(tmp_path)), str(out)]) == 0
    assert read_manifest(out)[0].text == "größe sagte er"
    arguments = ["data", "import", "folder", str(trees.folder(tmp_path)), str(out), "--language", "zh"]
    assert main(arguments) == 0
    assert read_manifest(out)[0].text == "hellothere"


def test_a_wrong_layout_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "import", "aishell", str(tmp_path), str(tmp_path / "out.jsonl")]) == 1
    printed = capsys.readouterr().err
    assert "AISHELL-1 has transcript/aishell_transcript_v0.8.txt" in printed


def faulty(folder: Path, lines: int) -> Path:
    rows = [
        {"audio_filepath": f"{number}.wav", "duration": 1.0, "text": "no zeal"} for number in range(lines)
    ]
    return trees.text(folder / "faulty.jsonl", *map(json.dumps, rows))


def test_check_fails_and_names_the_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = faulty(tmp_path, 25)
    tokens = trees.text(tmp_path / "tokens.txt", "<blank>", "<space>", *"nolae")
    assert main(["data", "check", str(path), "--tokens", str(tokens)]) == 1
    printed = capsys.readouterr().out
    assert f"{path}:1: error: {tmp_path / '0.wav'}: no such file" in printed
    assert f"{path}:1: error: characters outside the tokens: ['z']" in printed
    assert "… and 5 more of the kind audio (--all prints them)" in printed
    assert f"{path}:25:" not in printed
    assert main(["data", "check", str(path), "--tokens", str(tokens), "--all"]) == 1
    assert f"{path}:25:" in capsys.readouterr().out


def test_check_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--frame-rate", "25", "--tolerance-s", "2", "--language", "de", "--workers", "1"]
    assert main(["data", "check", str(faulty(tmp_path, 1)), "--json", *arguments]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["utterances"], report["errors"], report["warnings"]) == (1, 1, 0)
    (finding,) = report["findings"]
    assert (finding["line"], finding["kind"], finding["error"]) == (1, "audio", True)
    assert report["values"]["duration_s"] is None


def test_shard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, listed, out = trees.fsdd(tmp_path), tmp_path / "digits.jsonl", tmp_path / "shards"
    assert main(["data", "import", "fsdd", str(source), str(listed)]) == 0
    listed.write_text(listed.read_text() + '{"audio_filepath": "gone.wav", "duration": 1, "text": "one"}\n')
    arguments = ["--shard-mb", "0.05", "--seed", "3", "--workers", "1"]
    assert main(["data", "shard", str(listed), str(out), *arguments]) == 0
    printed = capsys.readouterr().out
    assert f"left out: {tmp_path / 'gone.wav'}: no such file" in printed
    assert f"{out}: {len(list(out.glob('*.tar')))} shards, 16 utterances, 0.00 h" in printed
    assert main(["data", "shard", str(listed), str(out)]) == 1
    assert "exists and is not an empty folder" in capsys.readouterr().err


def test_preview(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, listed, out = trees.fsdd(tmp_path), tmp_path / "digits.jsonl", tmp_path / "preview"
    assert main(["data", "import", "fsdd", str(source), str(listed)]) == 0
    recipe = trees.text(
        tmp_path / "recipe.toml", 'name = "x"', "[data]", 'manifests = ["digits.jsonl"]', "rows_per_batch = 2"
    )
    capsys.readouterr()
    arguments = ["--recipe", str(recipe), "--data", str(tmp_path), "--out", str(out)]
    assert main(["data", "preview", str(listed), *arguments, "--count", "3", "--seed", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [Path(line.split(":")[0]).name for line in lines[:3]] == [
        f"{number:03d}-augmented.wav" for number in range(3)
    ]
    assert lines[3] == str(out / "mels.png")
    assert sorted(path.name for path in out.iterdir()) == [
        *(f"{number:03d}-{what}.wav" for number in range(3) for what in ("augmented", "clean")),
        "mels.png",
    ]
    assert main(["data", "preview", str(listed), *arguments, "--count", "0"]) == 1
    assert "at least one utterance" in capsys.readouterr().err
