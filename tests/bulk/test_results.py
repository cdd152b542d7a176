"""Test the manifest's index and the file of results: repair, resuming, locks, order."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from streamasr.bulk.results import ResultsFile
from streamasr.bulk.rows import Rows
from streamasr.errors import ConfigError, DataError

SETTINGS = {"model": "m", "latency_ms": 640, "format": "plain"}


def manifest(tmp_path: Path, count: int = 4) -> Rows:
    path = tmp_path / "in.jsonl"
    path.write_text(
        "".join(json.dumps({"audio_filepath": f"{i}.wav", "duration": i}) + "\n" for i in range(count))
    )
    return Rows(path)


def result(rows: Rows, index: int, **fields: Any) -> dict[str, Any]:
    return {
        "line": rows[index].line,
        "audio_filepath": rows[index].audio,
        "text": f"text {index}",
        **fields,
    }


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_are_found_again_by_number_and_by_line(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    text = '\ufeff {"audio_filepath": "ä.wav", "duration": 2.5}\r\n\n{"audio_filepath": "/b.flac", "speaker": "x"}'
    path.write_bytes(text.encode())
    rows = Rows(path)
    assert [(rows[i].line, rows[i].audio, rows[i].duration_s) for i in range(len(rows))] == [
        (1, "ä.wav", 2.5),
        (3, "/b.flac", 0.0),
    ]
    assert [rows.index_of_line(line) for line in range(5)] == [None, 0, None, 1, None]
    assert rows.audio_path(rows[0]) == str(tmp_path / "ä.wav")
    assert rows.audio_path(rows[1]) == "/b.flac"
    assert list(rows.longest_first(iter([0, 1]))) == [1, 0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "in.jsonl:2: not valid JSON"),
        ("[" * 100_000, "in.jsonl:2: not valid JSON"),
        ("[]", "in.jsonl:2: expected a JSON object, got list"),
        ('{"duration": 1' + "0" * 5_000 + "}", "in.jsonl:2: not valid JSON"),
        ('{"duration": 1}', "in.jsonl:2: 'audio_filepath' must be the path of an audio file, got None"),
        (
            '{"audio_filepath": "a", "duration": "1"}',
            "in.jsonl:2: 'duration' must be a number of seconds, got '1'",
        ),
        (
            '{"audio_filepath": "a", "duration": NaN}',
            "in.jsonl:2: 'duration' must be a number of seconds, got nan",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"audio_filepath": "a.wav"}\n' + line + "\n")
    with pytest.raises(DataError, match=message.replace("[", r"\[")):
        Rows(path)


def test_a_manifest_without_rows_or_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match="contains no rows"):
        Rows(tmp_path / "in.jsonl")
    with pytest.raises(DataError, match="no such file"):
        Rows(tmp_path / "none.jsonl")


@pytest.mark.parametrize("cut", [1, 2, 40])
def test_an_incomplete_last_line_is_dropped(tmp_path: Path, cut: int) -> None:
    rows, out = manifest(tmp_path), tmp_path / "out.jsonl"
    with ResultsFile(out, rows, SETTINGS) as results:
        results.write(2, result(rows, 2))
        results.write(0, result(rows, 0))
    out.write_bytes(out.read_bytes()[:-cut])
    with ResultsFile(out, rows, SETTINGS) as results:
        assert list(results.finished) == [0, 0, 1, 0]
        results.write(0, result(rows, 0))
        results.sort()
    assert [line["line"] for line in lines(out)] == [1, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_every_place_of_a_cut_can_be_repaired(tmp_path: Path) -> None:
    rows, out = manifest(tmp_path), tmp_path / "out.jsonl"
    with ResultsFile(out, rows, SETTINGS) as results:
        for index in range(4):
            results.write(index, result(rows, index))
    whole = out.read_bytes()
    for size in range(len(whole)):
        out.write_bytes(whole[:size])
        with ResultsFile(out, rows, SETTINGS) as results:
            assert sum(results.finished) == whole[:size].count(b"\n")
            for index in (index for index, done in enumerate(list(results.finished)) if not done):
                results.write(index, result(rows, index))
        assert out.read_bytes() == whole


def test_failed_rows_are_tried_again_and_a_second_result_is_dropped(tmp_path: Path) -> None:
    rows, out = manifest(tmp_path), tmp_path / "out.jsonl"
    with ResultsFile(out, rows, SETTINGS) as results:
        results.write(1, {"line": 2, "audio_filepath": "1.wav", "error": "broken"})
        results.write(3, result(rows, 3))
    out.write_bytes(out.read_bytes() + out.read_bytes().splitlines(keepends=True)[1])
    with ResultsFile(out, rows, SETTINGS) as results:
        assert list(results.finished) == [0, 0, 0, 1]
    assert lines(out) == [{**result(rows, 3), **SETTINGS}]


def test_sorting_puts_results_in_the_order_of_the_manifest(tmp_path: Path) -> None:
    rows, out = manifest(tmp_path), tmp_path / "out.jsonl"
    with ResultsFile(out, rows, SETTINGS) as results:
        for index in (3, 0, 2):
            results.write(index, result(rows, index))
        results.sort()
        results.write(1, result(rows, 1))
        assert [line["line"] for line in lines(out)] == [1, 3, 4, 2]
        results.sort()
    assert [line["line"] for line in lines(out)] == [1, 2, 3, 4]


def test_two_runs_cannot_write_one_file(tmp_path: Path) -> None:
    rows, out = manifest(tmp_path), tmp_path / "out.jsonl"
    with ResultsFile(out, rows, SETTINGS) as results:
        results.write(1, result(rows, 1))
        results.write(0, result(rows, 0))
        results.sort()  # the lock moves to the new file
        with pytest.raises(ConfigError, match="another process is writing this file"):
            ResultsFile(out, rows, SETTINGS)
    ResultsFile(out, rows, SETTINGS).close()


def test_results_of_something_else_are_refused_and_kept(tmp_path: Path) -> None:
    rows, out = manifest(tmp_path), tmp_path / "out.jsonl"
    good = json.dumps({**result(rows, 0), **SETTINGS}) + "\n"
    for text, message in (
        ("words\n" + good, "out.jsonl:1: not a result; name another file, or remove the line"),
        ('{"a": 1}\n', "out.jsonl:1: not a result"),
        (
            good + good.replace("0.wav", "other.wav"),
            "out.jsonl:2: the result of 'other.wav', which is not in line 1",
        ),
        (good.replace('"line": 1', '"line": 9'), "which is not in line 9"),
        (good.replace("640", "320"), "made with latency_ms 320, this run has 640"),
    ):
        out.write_text(text)
        with pytest.raises((ConfigError, DataError), match=message):
            ResultsFile(out, rows, SETTINGS)
        assert out.read_text() == text


def test_unusable_places_are_refused(tmp_path: Path) -> None:
    rows = manifest(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match="is the manifest itself"):
        ResultsFile(rows.path, rows, SETTINGS)
    with pytest.raises(ConfigError, match="is not a regular file"):
        ResultsFile(tmp_path / "folder", rows, SETTINGS)
    with pytest.raises(ConfigError, match="cannot be written"):
        ResultsFile(rows.path / "out.jsonl", rows, SETTINGS)


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, out = manifest(tmp_path), tmp_path / "out.jsonl"
    write = os.write

    def half(file: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(28, "No space left on device")
        return write(file, data[: len(data) // 2])

    with ResultsFile(out, rows, SETTINGS) as results:
        results.write(0, result(rows, 0))
        monkeypatch.setattr(os, "write", half)
        with pytest.raises(ConfigError, match=r"out.jsonl: cannot be written: No space left on device"):
            results.write(1, result(rows, 1))
        assert list(results.finished) == [1, 0, 0, 0]
        monkeypatch.undo()
    assert [line["line"] for line in lines(out)] == [1]
