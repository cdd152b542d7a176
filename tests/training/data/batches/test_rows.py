"""Test rows: each utterance once per epoch, complete, with its transcript, in an order that can be resumed."""

from __future__ import annotations

from itertools import islice

import numpy as np
import torch

from streamasr.training.data.audio.corpus import AudioCorpus
from streamasr.training.data.batches.rows import BucketPlan, RowBuilder, RowPlan, Segment

LENGTHS = np.random.default_rng(1).integers(100, 2_000, 57)
PLAN = RowPlan(LENGTHS, row_samples=3_000, max_gap_samples=200, rows_per_batch=4, seed=9)


def test_an_epoch_has_each_utterance_once() -> None:
    rows = PLAN._epoch(0)
    assert sorted(segment.index for row in rows for segment in row) == list(range(len(LENGTHS)))


def test_utterances_of_a_row_do_not_overlap_and_fit() -> None:
    for row in PLAN._epoch(1):
        end = 0
        for segment in row:
            assert 0 <= segment.start - end <= PLAN.max_gap_samples
            end = segment.start + int(LENGTHS[segment.index])
        assert end <= PLAN.row_samples


def test_the_order_resumes_anywhere_and_epochs_differ() -> None:
    batches = list(islice(PLAN.batches(), 40))
    assert list(islice(PLAN.batches(skip=23), 17)) == batches[23:]
    assert PLAN._epoch(0) != PLAN._epoch(1)


def test_untranscribed_utterances_have_separate_rows() -> None:
    plan = RowPlan(
        LENGTHS, row_samples=3_000, max_gap_samples=200, rows_per_batch=4, seed=9, untranscribed=20
    )
    kinds = [{segment.index < len(LENGTHS) - 20 for segment in row} for row in plan._epoch(0)]
    assert all(len(kind) == 1 for kind in kinds)
    assert {True} in kinds
    assert {False} in kinds


def test_a_corpus_smaller_than_a_batch_fills_a_batch() -> None:
    plan = RowPlan(LENGTHS[:2], row_samples=100, max_gap_samples=0, rows_per_batch=8, seed=0)
    assert [len(batch) for batch in islice(plan.batches(), 3)] == [8, 8, 8]


def test_a_row_has_the_samples_and_the_joined_transcript() -> None:
    samples = np.arange(1, 61, dtype=np.int16)
    corpus = AudioCorpus(samples, np.array([0, 20, 60]), ("ab", "c"), ("first", "second"))
    builder = RowBuilder(corpus, [[2, 3], [4]], 1, torch.device("cpu"))
    batch = builder.build([(Segment(1, 5), Segment(0, 50)), (Segment(0, 0),)])
    pcm_BS = batch.pcm_BS * 32768
    assert batch.lengths_B.tolist() == [70, 20]
    assert pcm_BS[0, :5].tolist() == [0] * 5
    assert pcm_BS[0, 5:45].tolist() == samples[20:].tolist()
    assert pcm_BS[0, 50:70].tolist() == samples[:20].tolist()
    assert batch.targets.tolist() == [4, 1, 2, 3, 2, 3]
    assert batch.target_lengths_B.tolist() == [4, 2]
    assert batch.names == ("second + first", "first")


def test_a_batch_knows_which_rows_have_a_transcript() -> None:
    samples = np.zeros(30, dtype=np.int16)
    corpus = AudioCorpus(samples, np.array([0, 10, 20, 30]), ("ab", "", "?"), ("x", "y", "z"))
    builder = RowBuilder(corpus, [[2, 3], [], None], 1, torch.device("cpu"))
    batch = builder.build([(Segment(2, 0),), (Segment(0, 0),), (Segment(1, 0),)])
    assert batch.transcribed_B.tolist() == [False, True, True]
    assert batch.target_lengths_B.tolist() == [0, 2, 0]
    assert batch.needed_frames == (0, 2, 0)


def test_texts_can_be_taken_from_some_rows() -> None:
    samples = np.zeros(40, dtype=np.int16)
    corpus = AudioCorpus(samples, np.array([0, 10, 20, 30, 40]), ("aa", "b", "", "?"), ("w", "x", "y", "z"))
    builder = RowBuilder(corpus, [[2, 2], [3], [], None], 1, torch.device("cpu"))
    batch = builder.build([(Segment(index, 0),) for index in range(4)])
    empty = batch.without_texts(torch.tensor([True, False, False, True]))
    assert empty.targets.tolist() == [3]
    assert empty.target_lengths_B.tolist() == [0, 1, 0, 0]
    assert empty.transcribed_B.tolist() == [True, True, True, True]
    assert empty.needed_frames == (0, 1, 0, 0)
    assert torch.equal(empty.pcm_BS, batch.pcm_BS)


def test_a_batch_knows_how_many_frames_ctc_needs() -> None:
    samples = np.zeros(30, dtype=np.int16)
    corpus = AudioCorpus(samples, np.array([0, 10, 20, 30]), ("aab", "bb", ""), ("x", "y", "z"))
    builder = RowBuilder(corpus, [[2, 2, 3], [3, 3], []], None, torch.device("cpu"))
    batch = builder.build([(Segment(0, 0), Segment(1, 10)), (Segment(2, 0),)])
    assert batch.needed_frames == (5 + 3, 0)  # a a b b b: three pairs of equal neighbours


BUCKETS = BucketPlan(np.array([100, 10, 12, 50, 11, 9, 500]), batch_samples=100, seed=3)


def test_buckets_have_each_utterance_once_per_epoch_and_similar_lengths_together() -> None:
    batches = [[row[0].index for row in batch] for batch in islice(BUCKETS.batches(), 4)]
    assert sorted(index for batch in batches for index in batch) == list(range(7))
    assert sorted(map(sorted, batches)) == [[0], [1, 2, 4, 5], [3], [6]]


def test_buckets_are_filled_to_the_limit_padding_included() -> None:
    lengths = np.random.default_rng(0).integers(10, 1000, size=500)
    plan = BucketPlan(lengths, batch_samples=4000, seed=1)
    batches = list(islice(plan.batches(), 60))
    padded = [max(lengths[row[0].index] for row in batch) * len(batch) for batch in batches]
    lengths_of_batch = [sum(lengths[row[0].index] for row in batch) for batch in batches]
    assert max(padded) <= 4000
    assert sum(lengths_of_batch) / sum(padded) > 0.9


def test_buckets_can_start_anywhere() -> None:
    whole = list(islice(BUCKETS.batches(), 12))
    assert list(islice(BUCKETS.batches(skip=5), 7)) == whole[5:]
