"""Test importers on small copies of each published layout, and on the real digits if they are available."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from streamasr.errors import DataError
from streamasr.manifest import read_manifest
from streamasr.training.data.importers import DATASETS, importer
from streamasr.training.data.importers.layout import Selection
from streamasr.training.data.importers.manifest_writer import ImportResult, relative_to_folder, write_manifest
from tests.conftest import SharedData
from tests.training.data import trees


def run(
    dataset: str, source: Path, out: Path, *, language: str | None = None, **selected: Any
) -> tuple[list[dict[str, Any]], ImportResult]:
    module, selection = importer(dataset), Selection(**selected)
    imported = write_manifest(
        module.find(source, selection),
        out,
        language=language or module.LANGUAGE or source.name,
        selection=selection,
        workers=1,
    )
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()], imported


def reasons(imported: ImportResult) -> dict[str, int]:
    return {reason: count for reason, count, _ in imported.reasons()}


def test_librispeech(tmp_path: Path) -> None:
    rows, imported = run("librispeech", trees.librispeech(tmp_path), tmp_path / "all.jsonl")
    assert [row["text"] for row in rows] == ["it's spoken"] * 3
    assert rows[0] == {
        "audio_filepath": "LibriSpeech/dev-clean/84/7021/84-7021-0000.flac",
        "duration": 1.5,
        "speaker": "84",
        "text": "it's spoken",
        "language": "en",
    }
    assert (imported.utterances, imported.speakers) == (3, 2)
    assert imported.hours == pytest.approx(4.5 / 3600)
    assert reasons(imported) == {"no such audio file": 1}
    assert imported.skipped[0].what.endswith("84-9000-0000.flac")


def test_librispeech_subsets(tmp_path: Path) -> None:
    source = trees.librispeech(tmp_path)
    rows, _ = run("librispeech", source, tmp_path / "test.jsonl", split="test-clean")
    assert [row["speaker"] for row in rows] == ["61"]
    same, _ = run("librispeech", source / "test-clean", tmp_path / "same.jsonl")
    assert same == rows
    with pytest.raises(DataError, match="the folder has the subsets dev-clean, test-clean"):
        run("librispeech", source, tmp_path / "none.jsonl", split="train-clean-100")


def test_commonvoice_takes_its_language_from_the_folder(tmp_path: Path) -> None:
    rows, imported = run("commonvoice", trees.commonvoice(tmp_path), tmp_path / "de.jsonl")
    assert [(row["text"], row["speaker"], row["language"]) for row in rows] == [
        ("größe sagte er", "ab12", "de")
    ]
    assert rows[0]["duration"] == pytest.approx(1.0, abs=0.1)
    assert reasons(imported) == {
        "digits or symbols, not written as spoken": 1,
        "no such audio file": 1,
        "row with too few columns": 1,
    }


def test_aishell_keeps_mandarin_without_spaces(tmp_path: Path) -> None:
    source = trees.aishell(tmp_path)
    rows, imported = run("aishell", source, tmp_path / "train.jsonl")
    assert [(row["text"], row["speaker"], row["language"]) for row in rows] == [
        ("而对楼市成交", "S0002", "zh")
    ]
    assert reasons(imported) == {"no transcript": 1}
    rows, _ = run("aishell", source, tmp_path / "dev.jsonl", split="dev")
    assert [row["text"] for row in rows] == ["抑制作用最大"]


def test_aishell_with_packed_archives_is_an_error(tmp_path: Path) -> None:
    source = trees.aishell(tmp_path)
    for audio in (source / "wav" / "train").rglob("*.wav"):
        audio.unlink()
    (source / "wav" / "S0002.tar.gz").touch()
    with pytest.raises(DataError, match=r"unpack the 1 \.tar\.gz archives in wav/ first"):
        run("aishell", source, tmp_path / "train.jsonl")


def test_ljspeech_takes_numbers_as_spelt_out(tmp_path: Path) -> None:
    rows, imported = run("ljspeech", trees.ljspeech(tmp_path), tmp_path / "lj.jsonl")
    assert [(row["text"], row["speaker"]) for row in rows] == [("printing in fourteen fifty", "LJ")]
    assert reasons(imported) == {"no such audio file": 1, "no | in the line": 1}


@pytest.mark.parametrize(("split", "speaker"), [(None, "0001"), ("train", "0001"), ("test", "0003")])
def test_speechocean762(tmp_path: Path, split: str | None, speaker: str) -> None:
    rows, imported = run("speechocean762", trees.speechocean762(tmp_path), tmp_path / "x.jsonl", split=split)
    assert [(row["text"], row["speaker"]) for row in rows] == [("we call it bear", speaker)]
    assert reasons(imported) == {"no such audio file": 1}


@pytest.mark.parametrize(("flat", "suffix"), [(False, ".wav"), (True, ".wav"), (True, ".flac")])
def test_fsdd_can_be_split_by_recording_or_speaker(tmp_path: Path, flat: bool, suffix: str) -> None:
    source = trees.fsdd(tmp_path, flat=flat, suffix=suffix)
    rows, imported = run("fsdd", source, tmp_path / "all.jsonl")
    assert Counter(row["text"] for row in rows) == {"zero": 8, "seven": 8}
    assert reasons(imported) == {"name is not DIGIT_SPEAKER_INDEX": 1}
    train, _ = run("fsdd", source, tmp_path / "train.jsonl", split="train")
    test, _ = run("fsdd", source, tmp_path / "test.jsonl", split="test")
    names = [{Path(row["audio_filepath"]).stem for row in part} for part in (train, test)]
    assert all(name.endswith(("_5", "_12")) for name in names[0])
    assert all(name.endswith(("_0", "_4")) for name in names[1])
    assert len(names[0]) == len(names[1]) == 8
    without, _ = run("fsdd", source, tmp_path / "without.jsonl", exclude_speakers=("george",))
    only, _ = run("fsdd", source, tmp_path / "only.jsonl", only_speakers=("george",))
    assert {row["speaker"] for row in without} == {"yweweler"}
    assert {row["speaker"] for row in only} == {"george"}
    with pytest.raises(
        DataError, match=r"16 recordings of speakers that are not selected \(george, yweweler"
    ):
        run("fsdd", source, tmp_path / "none.jsonl", only_speakers=("nobody",))


def test_the_real_fsdd(tmp_path: Path, shared_data: SharedData) -> None:
    source = shared_data("data/fsdd") / "audio"
    test, _ = run("fsdd", source, tmp_path / "test.jsonl", split="test")
    train, imported = run("fsdd", source, tmp_path / "train.jsonl", split="train")
    assert len(test) == 300
    assert len(train) + len(test) == 3000
    assert imported.speakers == 6
    assert not imported.skipped
    assert set(Counter(row["text"] for row in test).values()) == {30}


def test_folder(tmp_path: Path) -> None:
    rows, imported = run("folder", trees.folder(tmp_path), tmp_path / "mine.jsonl")
    assert [(row["audio_filepath"], row["text"], row["speaker"]) for row in rows] == [
        ("mine/ann/a.ogg", "hello there", "ann")
    ]
    assert reasons(imported) == {"no .txt beside it": 1, "no audio file beside it": 1, "empty transcript": 1}


def test_audio_that_cannot_be_opened_or_is_empty_is_skipped(tmp_path: Path) -> None:
    source = trees.librispeech(tmp_path)
    (source / "dev-clean" / "84" / "7021" / "84-7021-0000.flac").unlink()
    trees.sound(source / "dev-clean" / "84" / "7021" / "84-7021-0000.wav", 0.0)
    (source / "dev-clean" / "84" / "7021" / "84-7021-0001.flac").write_bytes(b"fLaC, cut off")
    rows, imported = run("librispeech", source, tmp_path / "out.jsonl")
    assert [row["speaker"] for row in rows] == ["61"]
    assert reasons(imported) == {
        "no such audio file": 1,
        "no samples in the file": 1,
        "audio cannot be opened": 1,
    }


def test_the_manifest_can_move_with_its_audio(tmp_path: Path) -> None:
    source = trees.librispeech(tmp_path / "here")
    run("librispeech", source, tmp_path / "here" / "manifests" / "all.jsonl")
    (tmp_path / "here").rename(tmp_path / "there")
    utterances = read_manifest(tmp_path / "there" / "manifests" / "all.jsonl")
    assert all(utterance.audio.is_file() for utterance in utterances)


def test_paths_that_share_only_the_root_are_absolute() -> None:
    assert relative_to_folder(Path("/data/a.wav"), Path("/lists")) == "/data/a.wav"
    assert relative_to_folder(Path("/data/x/a.wav"), Path("/data/lists")) == "../x/a.wav"


def test_links_keep_their_names_and_linked_folders_are_followed(tmp_path: Path) -> None:
    stored = trees.sound(tmp_path / "store" / "by-content-1234.flac")
    chapter = tmp_path / "set" / "84" / "7021"
    chapter.mkdir(parents=True)
    (chapter / "84-7021-0000.flac").symlink_to(stored)
    trees.text(chapter / "84-7021.trans.txt", "84-7021-0000 HELLO")
    (tmp_path / "deep" / "lists").mkdir(parents=True)
    (tmp_path / "lists").symlink_to(tmp_path / "deep" / "lists")
    rows, _ = run("librispeech", tmp_path / "set", tmp_path / "lists" / "all.jsonl")
    assert rows[0]["audio_filepath"] == "../../set/84/7021/84-7021-0000.flac"
    assert read_manifest(tmp_path / "lists" / "all.jsonl")[0].audio.is_file()


def test_nothing_is_written_without_usable_utterances(tmp_path: Path) -> None:
    source = trees.librispeech(tmp_path)
    out = tmp_path / "out.jsonl"
    out.write_text("from an earlier import")
    with pytest.raises(DataError, match=r"no usable utterances.*1 × no such audio file"):
        run("librispeech", source / "dev-clean" / "84" / "9000", out)
    assert out.read_text() == "from an earlier import"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["LibriSpeech", "out.jsonl"]


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_wrong_folder_is_an_error_with_the_expected_layout(tmp_path: Path, dataset: str) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for source in (empty, tmp_path / "missing"):
        with pytest.raises(DataError) as refused:
            run(dataset, source, tmp_path / "out.jsonl", language="en")
        assert importer(dataset).LAYOUT in refused.value.message
        assert str(source) in refused.value.message


@pytest.mark.parametrize(
    ("dataset", "tree"),
    [
        ("aishell", trees.aishell),
        ("ljspeech", trees.ljspeech),
        ("speechocean762", trees.speechocean762),
        ("fsdd", trees.fsdd),
    ],
)
def test_an_unknown_split_is_an_error_with_the_known_ones(tmp_path: Path, dataset: str, tree: Any) -> None:
    with pytest.raises(DataError, match=r"has the splits .*, got 'evaluation'"):
        run(dataset, tree(tmp_path), tmp_path / "out.jsonl", split="evaluation")


def test_commonvoice_names_the_tables_it_has(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the folder has the tables train"):
        run("commonvoice", trees.commonvoice(tmp_path), tmp_path / "out.jsonl", split="validated")
    trees.text(tmp_path / "cv-corpus" / "de" / "train.tsv", "path\tsentence")
    with pytest.raises(DataError, match="no column client_id"):
        run("commonvoice", tmp_path / "cv-corpus" / "de", tmp_path / "out.jsonl")
