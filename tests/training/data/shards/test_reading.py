"""Test shards: packing, sharing among readers, resuming, and reporting damaged ones."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from streamasr.errors import ConfigError, DataError
from streamasr.training.data.shards import reading as shards_module
from streamasr.training.data.shards.packing import INDEX, write_shards
from streamasr.training.data.shards.reading import ShardedSpeech, find_shards
from streamasr.training.data.shards.rows import StreamedRow, stream_rows
from tests.training.data import trees

RATE = 16_000
COUNT = 40
SUFFIXES = (".wav", ".flac", ".opus", ".mp3")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Utterances in four formats, at two rates, with their number in letters as the transcript."""
    folder = tmp_path_factory.mktemp("speech")
    rows = []
    for number in range(COUNT):
        name, seconds = f"{number}{SUFFIXES[number % 4]}", 0.2 + 0.01 * number
        trees.sound(folder / name, seconds, 8_000 if number % 3 == 0 else RATE, seed=number)
        rows.append({"audio_filepath": name, "duration": seconds, "text": spelt(number), "speaker": "ann"})
    return trees.text(folder / "manifest.jsonl", *map(json.dumps, rows))


def spelt(number: int) -> str:
    return " ".join("abcdefghij"[int(digit)] for digit in str(number))


ALL = {spelt(number) for number in range(COUNT)}


@pytest.fixture(scope="module")
def packed(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same utterances in a few shards."""
    out = tmp_path_factory.mktemp("packed") / "shards"
    sharded = write_shards([manifest], out, shard_mb=0.06, workers=1)
    assert len(sharded.shards) >= 5
    return out


def speech(*patterns: Path | str, **options: Any) -> ShardedSpeech:
    return ShardedSpeech(patterns, **{"sample_rate": RATE, "seed": 1, **options})


def texts(reader: ShardedSpeech, epoch: int = 0, skip: int = 0) -> list[str]:
    return [utterance.text for utterance in reader.utterances(epoch, skip)]


def test_webdataset_can_read_a_shard(packed: Path, manifest: Path) -> None:
    import webdataset

    samples = list(
        webdataset.WebDataset(str(next(packed.glob("*.tar"))), shardshuffle=False, empty_check=False)
    )
    assert samples
    for sample in samples:
        metadata = json.loads(sample["json"])
        (suffix,) = {"flac", "opus", "mp3"} & set(sample)
        audio = soundfile.info(io.BytesIO(sample[suffix]))
        assert (audio.frames, audio.samplerate) == (metadata["frames"], metadata["sample_rate"])
        assert metadata["text"] in ALL
        assert metadata["speaker"] == "ann"


def test_compressed_files_are_stored_unchanged(packed: Path, manifest: Path) -> None:
    stored = set()
    for shard in packed.glob("*.tar"):
        with tarfile.open(shard) as tar:
            stored |= {tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]
    files = {path.suffix: path for path in manifest.parent.iterdir()}
    assert all(files[suffix].read_bytes() in stored for suffix in (".flac", ".opus", ".mp3"))


def test_the_index_lists_the_shards(packed: Path) -> None:
    listed = json.loads((packed / INDEX).read_text())["shards"]
    assert sorted(path.name for path in packed.glob("*.tar")) == [entry["name"] for entry in listed]
    assert sum(entry["utterances"] for entry in listed) == COUNT
    assert all((packed / entry["name"]).stat().st_size < 80_000 for entry in listed)


def test_the_same_seed_gives_the_same_bytes(packed: Path, manifest: Path, tmp_path: Path) -> None:
    write_shards([manifest], tmp_path / "again", shard_mb=0.06, workers=1)
    write_shards([manifest], tmp_path / "other", shard_mb=0.06, workers=1, seed=2)
    first, again, other = (
        [path.read_bytes() for path in sorted(folder.glob("*.tar"))]
        for folder in (packed, tmp_path / "again", tmp_path / "other")
    )
    assert first == again != other


def test_samples_are_those_of_the_files(packed: Path, manifest: Path) -> None:
    numbers = {spelt(number): number for number in range(COUNT)}
    for utterance in speech(packed).utterances(0):
        number = numbers[utterance.text]
        assert utterance.samples_S.dtype == np.int16
        assert len(utterance.samples_S) == pytest.approx((0.2 + 0.01 * number) * RATE, abs=400)
        if SUFFIXES[number % 4] == ".wav" and number % 3:
            samples_S, _ = soundfile.read(manifest.parent / f"{number}.wav", dtype="int16")
            assert np.abs(utterance.samples_S.astype(int) - samples_S).max() <= 1


@pytest.mark.parametrize(("world_size", "workers"), [(1, 1), (2, 1), (2, 2), (3, 7)])
@pytest.mark.parametrize("epoch", [0, 1])
def test_readers_share_all_utterances_without_overlap(
    packed: Path, world_size: int, workers: int, epoch: int
) -> None:
    read = [
        texts(speech(packed, rank=rank, world_size=world_size, worker=worker, workers=workers), epoch)
        for rank in range(world_size)
        for worker in range(workers)
    ]
    assert Counter(text for part in read for text in part) == Counter(ALL)
    assert all(read)


def test_the_order_depends_on_seed_and_epoch(packed: Path) -> None:
    orders = [texts(speech(packed, seed=seed), epoch) for seed, epoch in ((1, 0), (1, 0), (1, 1), (2, 0))]
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) == 3
    unshuffled = speech(packed, shuffle_utterances=1)
    assert texts(unshuffled) != orders[0]
    assert Counter(texts(unshuffled)) == Counter(ALL)


def test_skipped_utterances_are_not_decoded(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(speech(packed).utterances(3))
    decoded: list[str] = []
    decode = ShardedSpeech.decode

    def counting(self: ShardedSpeech, utterance: shards_module.PackedUtterance) -> Any:
        decoded.append(utterance.text)
        return decode(self, utterance)

    monkeypatch.setattr(ShardedSpeech, "decode", counting)
    rest = list(speech(packed).utterances(3, skip=whole[24].position + 1))
    assert [utterance.text for utterance in rest] == [utterance.text for utterance in whole[25:]]
    assert rest[0].position == 25
    assert len(decoded) == COUNT - 25


def copy_of(packed: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in packed.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def replaced_by_garbage(shard: Path) -> None:
    shard.write_bytes(b"no tar at all" * 100)


def truncated(shard: Path) -> None:
    data = shard.read_bytes()
    shard.write_bytes(data[: len(data) // 2])


def header_overwritten(shard: Path) -> None:
    with tarfile.open(shard) as tar:
        at = tar.getmembers()[4].offset
    data = shard.read_bytes()
    shard.write_bytes(data[:at] + b"\xff" * 512 + data[at + 512 :])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (replaced_by_garbage, "the tar file is broken"),
        (truncated, "the tar file is broken"),
        (header_overwritten, "only 2 of"),
    ],
)
def test_a_damaged_shard_is_named_and_the_others_are_read(
    packed: Path, tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    folder = copy_of(packed, tmp_path)
    shard = folder / "shard-000001.tar"
    lost = set(texts(speech(shard)))
    damage(shard)
    reader = speech(folder)
    read = set(texts(reader))
    assert ALL - lost <= read < ALL
    assert reader.problem_count == len(reader.problems) == 1
    assert reader.problems[0].shard == str(shard)
    assert reason in reader.problems[0].reason


def rewrite(shard: Path, change: dict[str, bytes | None]) -> None:
    """Replace the data of some members, named by position and kind as in ``0.json``; ``None`` removes a member."""
    with tarfile.open(shard) as tar:
        members = [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    places = {name.split(".")[0]: str(number // 2) for number, (name, _) in enumerate(members)}
    with tarfile.open(shard, "w") as tar:
        for name, data in members:
            key, suffix = name.split(".")
            place = f"{places[key]}.{'json' if suffix == 'json' else 'audio'}"
            new = change.get(place, data)
            if new is not None:
                info = tarfile.TarInfo(name)
                info.size = len(new)
                tar.addfile(info, io.BytesIO(new))


def test_damaged_utterances_are_named_and_left_out(packed: Path, tmp_path: Path) -> None:
    folder = copy_of(packed, tmp_path)
    shard = folder / "shard-000000.tar"
    rewrite(shard, {"0.audio": b"no sound", "1.json": b"{", "2.audio": None})
    reader = speech(folder)
    read = list(reader.utterances(0))
    assert len(read) == COUNT - 3
    assert sorted(problem.reason.split(":")[0].split(";")[0] for problem in reader.problems) == [
        "audio cannot be decoded",
        "no audio",
        "no usable .json with text, sample_rate and frames",
    ]
    assert {problem.shard for problem in reader.problems} == {str(shard)}
    positions = [utterance.position for utterance in read]
    assert sorted(set(range(COUNT - 2)) - set(positions)) != []
    rest = speech(folder).utterances(0, skip=positions[9] + 1)
    assert [u.text for u in rest] == [u.text for u in read[10:]]


def test_all_problems_are_counted_but_only_some_kept(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shards_module, "PROBLEMS_NAMED", 2)
    folder = copy_of(packed, tmp_path)
    rewrite(folder / "shard-000000.tar", {f"{place}.json": b"" for place in range(3)})
    reader = speech(folder)
    for epoch in range(2):
        texts(reader, epoch)
    assert (reader.problem_count, len(reader.problems)) == (6, 2)
    assert len(caplog.messages) == 3
    assert "no usable .json" in caplog.messages[0]
    assert "counted, not named" in caplog.messages[2]


@pytest.mark.parametrize("what", ["tar", "audio"])
def test_shards_without_usable_utterances_are_an_error(packed: Path, tmp_path: Path, what: str) -> None:
    folder = copy_of(packed, tmp_path)
    for shard in folder.glob("*.tar"):
        if what == "tar":
            shard.write_bytes(b"broken" * 1000)
        else:
            rewrite(shard, {f"{place}.audio": b"no sound" for place in range(COUNT)})
    with pytest.raises(DataError, match="no usable utterance for reader 0 of 1"):
        texts(speech(folder))
    with pytest.raises(DataError, match="no usable utterance for reader 0 of 1"):
        next(stream_rows(speech(folder), row_samples=RATE, max_gap_samples=0))


def test_more_readers_than_utterances_is_an_error(packed: Path) -> None:
    shard = next(packed.glob("*.tar"))
    with pytest.raises(DataError, match="more readers than utterances"):
        texts(speech(shard, rank=99, world_size=100))


def test_patterns(packed: Path) -> None:
    shards = find_shards([packed])
    assert shards == sorted(packed.glob("*.tar"))
    assert find_shards([str(packed / "shard-*.tar")]) == shards
    assert find_shards([f"{packed}/shard-{{000000..000002}}.tar", shards[1]]) == shards[:3]
    for nothing in (packed / "none", "pipe:cat nothing", f"{packed}/x-*.tar"):
        with pytest.raises(DataError, match="no shards"):
            find_shards([nothing])


@pytest.mark.parametrize(
    "options", [{"rank": 2, "world_size": 2}, {"worker": 1}, {"shuffle_utterances": 0}], ids=str
)
def test_invalid_readers_are_refused(packed: Path, options: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        speech(packed, **options)


def test_a_damaged_index_is_refused(packed: Path, tmp_path: Path) -> None:
    folder = copy_of(packed, tmp_path)
    (folder / INDEX).write_text("[]")
    with pytest.raises(DataError, match="not an index of shards"):
        speech(folder)


def test_packing_is_atomic_and_skips_unreadable_files(manifest: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in manifest.read_text().splitlines()[:3]]
    rows[1]["audio_filepath"] = "none.flac"
    partly = trees.text(manifest.parent / "partly.jsonl", *map(json.dumps, rows))
    sharded = write_shards([partly], tmp_path / "out", workers=1)
    assert sharded.unreadable == (f"{manifest.parent / 'none.flac'}: no such file",)
    assert sum(shard.utterances for shard in sharded.shards) == 2
    with pytest.raises(ConfigError, match="not an empty folder"):
        write_shards([partly], tmp_path / "out", workers=1)
    none = trees.text(manifest.parent / "none.jsonl", json.dumps(rows[1]))
    with pytest.raises(DataError, match=r"no audio file could be read; first problem: .*none\.flac"):
        write_shards([none], tmp_path / "nothing", workers=1)
    with pytest.raises(ConfigError, match="must be positive"):
        write_shards([partly], tmp_path / "nothing", shard_mb=0, workers=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def rows_of(reader: ShardedSpeech, count: int, **options: Any) -> list[StreamedRow]:
    return list(
        islice(stream_rows(reader, row_samples=2 * RATE, max_gap_samples=RATE // 4, **options), count)
    )


def test_rows_have_each_utterance_of_an_epoch_once(packed: Path) -> None:
    rows = [row for row in rows_of(speech(packed), 40) if row.epoch == 0]
    assert Counter(text for row in rows for text in row.texts) == Counter(ALL)
    assert [row.number for row in rows] == list(range(len(rows)))
    assert all(len(row.samples_S) <= 2 * RATE for row in rows)


def test_rows_have_the_audio_at_the_stated_positions(packed: Path) -> None:
    sounds = {utterance.text: utterance.samples_S for utterance in speech(packed).utterances(0)}
    for row in rows_of(speech(packed), 5):
        end = 0
        for text, start in zip(row.texts, row.starts, strict=True):
            assert 0 <= start - end <= RATE // 4
            assert not row.samples_S[end:start].any()
            end = start + len(sounds[text])
            assert np.array_equal(row.samples_S[start:end], sounds[text])
        assert end == len(row.samples_S)


def test_more_open_rows_leave_less_room(packed: Path) -> None:
    def filled(open_rows: int) -> float:
        rows = [row for row in rows_of(speech(packed), 40, open_rows=open_rows) if row.epoch == 0]
        return float(np.mean([len(row.samples_S) for row in rows[: -open_rows or None]]))

    assert filled(6) > filled(1)


@pytest.mark.parametrize("at", [0, 3, 12])
def test_rows_can_be_resumed(packed: Path, at: int) -> None:
    whole = rows_of(speech(packed), 24)
    stopped = whole[at]
    rest = rows_of(speech(packed), 24 - at - 1, epoch=stopped.epoch, skip=stopped.number + 1)
    assert [row.texts for row in rest] == [row.texts for row in whole[at + 1 :]]
    for one, other in zip(rest, whole[at + 1 :], strict=True):
        assert np.array_equal(one.samples_S, other.samples_S)


def test_an_utterance_longer_than_a_row_has_its_own_row(packed: Path) -> None:
    rows = list(islice(stream_rows(speech(packed), row_samples=100, max_gap_samples=0), COUNT))
    assert {len(row.texts) for row in rows} == {1}
    assert Counter(text for row in rows for text in row.texts) == Counter(ALL)


def test_a_damaged_utterance_becomes_silence_and_other_rows_do_not_change(
    packed: Path, tmp_path: Path
) -> None:
    folder = copy_of(packed, tmp_path)
    rewrite(folder / "shard-000000.tar", {"0.audio": b"no sound"})
    whole, broken = rows_of(speech(packed), 10), rows_of(speech(folder), 10)
    changed = [(one, other) for one, other in zip(whole, broken, strict=True) if one.texts != other.texts]
    assert len(changed) == 1
    one, other = changed[0]
    (lost,) = set(one.texts) - set(other.texts)
    assert len(one.samples_S) == len(other.samples_S)
    start = one.starts[one.texts.index(lost)]
    assert not other.samples_S[start : start + 3_200].any()


@pytest.mark.parametrize("options", [{"row_samples": 0}, {"max_gap_samples": -1}, {"open_rows": 0}], ids=str)
def test_invalid_row_options_are_refused(packed: Path, options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        next(stream_rows(speech(packed), **{"row_samples": RATE, "max_gap_samples": 0, **options}))
