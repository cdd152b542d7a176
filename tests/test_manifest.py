"""Test the reading of manifests and the errors that name a line."""

import json
from pathlib import Path

import pytest

from streamasr.errors import DataError
from streamasr.manifest import Utterance, manifest_names, read_manifest

GOOD = {"audio_filepath": "clips/a.flac", "duration": 1.5, "text": "hello there"}


def _write(folder: Path, *lines: object) -> Path:
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_paths_are_relative_to_the_manifest_and_extra_fields_pass(tmp_path: Path) -> None:
    absolute = {**GOOD, "audio_filepath": "/data/b.wav", "duration": 2, "speaker": "7"}
    path = _write(tmp_path, GOOD, "", absolute)
    assert read_manifest(path) == [
        Utterance(tmp_path / "clips/a.flac", 1.5, "hello there"),
        Utterance(Path("/data/b.wav"), 2.0, "hello there", "7"),
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not valid JSON"),
        ([1], "expected a JSON object, got list"),
        ({"duration": 1, "text": ""}, "'audio_filepath' is missing"),
        ({**GOOD, "duration": "1"}, "'duration' must be a number, got '1'"),
        ({**GOOD, "duration": True}, "'duration' must be a number, got True"),
        ({**GOOD, "duration": -1}, "duration must be 0 to 1e+09 seconds, got -1"),
        ({**GOOD, "duration": 10**400}, "duration must be 0 to 1e+09 seconds"),
        ('{"audio_filepath": "a", "duration": NaN, "text": ""}', "duration must be 0 to 1e+09 seconds"),
        ('{"audio_filepath": "a", "duration": Infinity, "text": ""}', "duration must be 0 to 1e+09 seconds"),
        ('{"audio_filepath": "a", "duration": 1' + "0" * 5_000 + "}", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ({**GOOD, "audio_filepath": "a\0b"}, r"'audio_filepath' is 'a\x00b': not the name of a file"),
        ({**GOOD, "audio_filepath": "\ud800"}, r"'audio_filepath' is '\ud800': not the name of a file"),
        ({**GOOD, "text": None}, "'text' must be a string"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: object, words: str) -> None:
    path = _write(tmp_path, GOOD, line)
    with pytest.raises(DataError, match=r"manifest\.jsonl:2: ") as caught:
        read_manifest(path)
    assert words in caught.value.message


def test_missing_and_empty_manifests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_manifest(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="contains no utterance"):
        read_manifest(_write(tmp_path, ""))


def test_two_manifests_have_different_names() -> None:
    paths = [Path("a/dev.jsonl"), Path("b/dev.jsonl"), Path("a/other.jsonl"), Path("c/manifest.jsonl")]
    assert manifest_names(paths) == ["a/dev.jsonl", "b/dev.jsonl", "other", "c"]
