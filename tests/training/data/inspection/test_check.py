"""Test each finding of ``data check`` with a manifest that has it, and the statistics of a clean manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from streamasr.decoding.tokens import TokenList
from streamasr.errors import ConfigError, DataError
from streamasr.text import text_rules
from streamasr.training.data.audio.header import read_header
from streamasr.training.data.audio.processes import map_in_processes
from streamasr.training.data.inspection.check import CheckOptions, CheckResult, check_manifests, frames_needed
from streamasr.training.tokenizer import Tokenizer
from tests.training.data import trees

LETTERS = Tokenizer(TokenList.of_characters("abcdefgh"), text_rules("en"))


def manifest(folder: Path, *rows: dict[str, Any] | str, name: str = "manifest.jsonl") -> Path:
    """Write a manifest of good rows of one second, with the changes of ``rows``; a string is a line as it is."""
    lines = []
    for number, row in enumerate(rows):
        if isinstance(row, str):
            lines.append(row)
            continue
        file = f"{name}-{number}.wav"
        trees.sound(folder / file, seed=number)
        lines.append(json.dumps({"audio_filepath": file, "duration": 1.0, "text": "a bad cab", **row}))
    return trees.text(folder / name, *lines)


def check(*manifests: Path, tokenizer: Tokenizer | None = None, **options: Any) -> CheckResult:
    return check_manifests(manifests, CheckOptions(workers=1, **options), tokenizer)


def found(checked: CheckResult) -> list[tuple[int, str]]:
    return [(finding.line, finding.kind) for finding in checked.findings]


def test_a_clean_manifest_has_statistics_and_no_findings(tmp_path: Path) -> None:
    path = manifest(tmp_path, {"speaker": "ann"}, {"speaker": "bob", "text": "a"})
    checked = check(path, tokenizer=LETTERS)
    assert checked.findings == []
    summary = checked.summary()
    assert summary["utterances"] == summary["speakers"] == 2
    assert summary["hours"] == pytest.approx(2 / 3600)
    assert summary["sample_rates"] == {"16000": 2}
    assert summary["characters"] == {" ": 2, "a": 4, "b": 2, "c": 1, "d": 1}
    assert checked.values.characters_per_second == [9.0, 1.0]
    assert checked.values.frames_per_needed == [50 / 9, 50.0]
    assert checked.values.level_db == pytest.approx([-26.0, -26.0], abs=0.2)


def test_a_transcript_without_words_is_empty(tmp_path: Path) -> None:
    checked = check(manifest(tmp_path, {"text": " … "}, {"text": ""}, {}), tokenizer=LETTERS)
    assert found(checked) == [(1, "empty"), (2, "empty")]
    assert "the transcript '…' is empty after normalisation" in checked.findings[0].message


def test_files_that_are_missing_unreadable_or_empty(tmp_path: Path) -> None:
    path = manifest(tmp_path, {"audio_filepath": "none.wav"}, {}, {"duration": 0.0})
    (tmp_path / "manifest.jsonl-1.wav").write_bytes(b"RIFF nonsense")
    trees.sound(tmp_path / "manifest.jsonl-2.wav", 0.0)
    checked = check(path)
    assert found(checked) == [(1, "audio"), (2, "audio"), (3, "audio")]
    for finding, words in zip(
        checked.findings, ("no such file", "not an audio file", "has no samples"), strict=True
    ):
        assert words in finding.message


def test_digits_are_found_without_tokens(tmp_path: Path) -> None:
    path = manifest(tmp_path, {"text": "a 5 % cab"}, {})
    for tokenizer in (None, LETTERS):
        (finding,) = check(path, tokenizer=tokenizer).findings
        assert (finding.line, finding.kind) == (1, "tokens")
        assert "['%', '5'] in 'a 5 % cab': write numbers and symbols as they are spoken" in finding.message


def test_lines_that_are_not_utterances(tmp_path: Path) -> None:
    path = manifest(tmp_path, "{not json", "", '{"audio_filepath": "x.wav", "duration": 1}', {})
    checked = check(path)
    assert found(checked) == [(1, "line"), (3, "line")]
    assert str(checked.findings[1]) == f"{path}:3: error: 'text' is missing"


def test_durations_within_the_tolerance_pass(tmp_path: Path) -> None:
    path = manifest(tmp_path, {"duration": 1.04}, {"duration": 1.3})
    assert found(check(path)) == [(2, "duration")]
    assert found(check(path, tolerance_s=0.01)) == [(1, "duration"), (2, "duration")]
    assert "1.30 s but the file has 1.00 s (tolerance 0.1 s)" in check(path).findings[0].message


def test_transcripts_that_are_empty_or_not_in_the_tokens(tmp_path: Path) -> None:
    path = manifest(tmp_path, {"text": " "}, {"text": "a zebra"}, {"text": "2 cabs"})
    checked = check(path, tokenizer=LETTERS)
    assert found(checked) == [(1, "empty"), (2, "tokens"), (3, "tokens")]
    assert "['r', 'z']" in checked.findings[1].message
    assert found(check(path)) == [(1, "empty"), (3, "tokens")]


def test_labels_that_ctc_cannot_align(tmp_path: Path) -> None:
    fits, repeats = "ab" * 25, "aa" + "ab" * 24
    path = manifest(tmp_path, {"text": fits}, {"text": repeats}, {"text": fits + "a"})
    checked = check(path, tokenizer=LETTERS)
    assert found(checked) == [(2, "unalignable"), (3, "unalignable")]
    message = checked.findings[0].message
    assert message == ("50 labels with 2 repeats need 52 frames, the audio has 50: CTC cannot align it")
    assert found(check(path, frame_rate=25)) == [(line, "unalignable") for line in (1, 2, 3)]
    assert found(check(path, frame_rate=100)) == []


def test_frames_that_ctc_needs() -> None:
    assert [frames_needed(labels) for labels in ("", "a", "ab", "aa", "aaa", "abba")] == [0, 1, 2, 3, 5, 5]
    assert frames_needed([3, 3, 4]) == 4


@pytest.mark.parametrize("labels", [[1], [1, 2], [1, 1], [2, 2, 2], [1, 2, 2, 1, 1]], ids=str)
def test_with_a_frame_less_the_loss_is_infinite(labels: list[int]) -> None:
    def loss(frames: int) -> float:
        log_probs_TBV = torch.full((frames, 1, 3), 1 / 3).log()
        lengths = torch.tensor([frames]), torch.tensor([len(labels)])
        return float(torch.nn.functional.ctc_loss(log_probs_TBV, torch.tensor([labels]), *lengths))

    needed = frames_needed(labels)
    assert np.isfinite(loss(needed))
    assert needed == 1 or np.isinf(loss(needed - 1))


def test_text_that_fits_only_at_normal_speed_is_a_warning(tmp_path: Path) -> None:
    checked = check(manifest(tmp_path, {"text": "ab" * 24}), fastest=1.1)
    assert found(checked) == [(1, "tight")]
    assert checked.errors == []


def test_duplicates_are_found_within_and_across_manifests(tmp_path: Path) -> None:
    first = manifest(tmp_path, {}, {"audio_filepath": "./manifest.jsonl-0.wav"})
    second = manifest(tmp_path, {}, {"audio_filepath": "manifest.jsonl-0.wav"}, name="dev.jsonl")
    checked = check(first, second)
    assert [(finding.manifest.name, finding.line, finding.kind) for finding in checked.findings] == [
        ("manifest.jsonl", 2, "duplicate"),
        ("dev.jsonl", 2, "duplicate"),
    ]
    assert f"{first}:1" in checked.findings[1].message


def test_silent_and_clipped_files_are_warnings(tmp_path: Path) -> None:
    path = manifest(tmp_path, {}, {})
    soundfile.write(tmp_path / "manifest.jsonl-0.wav", np.zeros(16_000), 16_000)
    loud = np.clip(np.sin(np.arange(16_000) * 0.1) * 2, -1, 1)
    soundfile.write(tmp_path / "manifest.jsonl-1.wav", loud, 16_000)
    checked = check(path)
    assert found(checked) == [(1, "silent"), (2, "clipped")]
    assert checked.errors == []


def test_a_manifest_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        check(tmp_path / "none.jsonl")


@pytest.mark.parametrize("options", [{"frame_rate": 0}, {"fastest": -1}, {"tolerance_s": -0.1}])
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        CheckOptions(**options)


def test_several_processes_read_files_in_order(tmp_path: Path) -> None:
    paths = [trees.sound(tmp_path / f"{number}.wav", 0.01 * (number + 1)) for number in range(8)]
    reported: list[tuple[int, int]] = []
    headers = map_in_processes(
        read_header, paths, workers=2, few=0, progress=lambda done, total: reported.append((done, total))
    )
    assert [header.frames for header in headers] == [160 * (number + 1) for number in range(8)]
    assert reported == [(number + 1, 8) for number in range(8)]
