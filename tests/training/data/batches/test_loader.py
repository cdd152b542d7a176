"""Test batches: each goes to one process, and both planned and streamed ones can be resumed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from streamasr.training.config import DataConfig, TrainConfig
from streamasr.training.data.batches.prepare import FRAME_MULTIPLE, FeatureBatch
from streamasr.training.data.shards.packing import write_shards
from streamasr.training.distributed import ProcessGroup
from streamasr.training.speech_data import SpeechData
from streamasr.training.tokenizer import build_tokenizer
from tests.training.beeping import ALONE, recipe, run, same_weights


def speech(config: TrainConfig, folder: Path, group: ProcessGroup = ALONE) -> SpeechData:
    return SpeechData(config, folder, build_tokenizer(config), group)


def texts(batches: Iterator[FeatureBatch], count: int) -> list[list[int]]:
    return [batch.targets.tolist() for batch in islice(batches, count)]


@pytest.fixture
def sharded(beep_manifest: Path, tmp_path: Path) -> TrainConfig:
    """A recipe that streams the beeps from shards."""
    write_shards([beep_manifest], tmp_path / "shards", shard_mb=0.2)
    assert len(list((tmp_path / "shards").glob("*.tar"))) > 3
    data = DataConfig(
        shards=(str(tmp_path / "shards"),), row_seconds=2.0, max_gap_seconds=0.2, rows_per_batch=2,
        shuffle_utterances=8,
    )  # fmt: skip
    return replace(recipe(beep_manifest, 6), data=data)


def test_ranks_share_the_batches_of_one_process(beep_manifest: Path, tmp_path: Path) -> None:
    config = recipe(beep_manifest, 1)
    config = replace(config, data=replace(config.data, cache=tmp_path / "cache"))
    data_of_run = speech(config, tmp_path)
    expected = texts(data_of_run.batches(0, {}), 12)
    for rank in range(3):
        data_of_run.group = replace(ALONE, rank=rank, size=3)
        assert texts(data_of_run.batches(0, {}), 4) == expected[rank::3]
        assert texts(data_of_run.batches(2, {}), 2) == expected[6 + rank :: 3]


def test_batches_report_their_duration_and_padding(beep_manifest: Path, tmp_path: Path) -> None:
    config = replace(recipe(beep_manifest, 1), chunk_weights=(0.0, 1.0, 0.0, 0.0))
    for batch in islice(speech(config, tmp_path).batches(0, {}), 5):
        rows, frames, _ = batch.mel_BTM.shape
        assert frames % (2 * FRAME_MULTIPLE) == 0
        assert batch.chunk_B.tolist() == [16] * rows
        assert batch.seconds == pytest.approx(int(batch.lengths_B.sum()) / 100)
        assert batch.padding_share == pytest.approx(1 - batch.seconds * 100 / (rows * frames))


def test_rows_of_noise_alone_have_an_empty_transcript(beep_manifest: Path, tmp_path: Path) -> None:
    config = recipe(beep_manifest, 1)
    usual = list(islice(speech(config, tmp_path / "usual").batches(0, {}), 12))
    some = replace(config, augment=replace(config.augment, noise_only_probability=0.3))
    batches = list(islice(speech(some, tmp_path / "some").batches(0, {}), 12))
    counts = torch.cat([batch.target_lengths_B for batch in batches])
    expected = torch.cat([batch.target_lengths_B for batch in usual])
    emptied = counts == 0
    assert 0.1 < emptied.float().mean() < 0.5
    assert torch.equal(counts[~emptied], expected[~emptied])
    assert all(len(batch.targets) == int(batch.target_lengths_B.sum()) for batch in batches)
    assert all(bool(batch.transcribed_B.all()) for batch in batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_streams_of_shards_can_be_resumed(sharded: TrainConfig, tmp_path: Path, workers: int) -> None:
    config = replace(sharded, data=replace(sharded.data, workers=workers))
    data_of_run = speech(config, tmp_path)
    whole = list(islice(data_of_run.batches(0, {}), 9))
    positions = {batch.position.reader: batch.position for batch in whole[:4] if batch.position}
    assert len(positions) == max(1, workers)
    resumed = list(islice(data_of_run.batches(4, positions), 5))
    for one, other in zip(whole[4:], resumed, strict=True):
        assert one.targets.tolist() == other.targets.tolist()
        torch.testing.assert_close(one.mel_BTM, other.mel_BTM)


def test_a_run_on_shards_resumes_to_the_same_weights(sharded: TrainConfig, tmp_path: Path) -> None:
    whole, _ = run(sharded, tmp_path / "whole")
    steps = iter(range(100))
    run(sharded, tmp_path / "stopped", until=lambda: next(steps) == 3)
    resumed, _ = run(sharded, tmp_path / "stopped")
    same_weights(whole, resumed)
