"""Test CTC-CRF against sums over all paths, and that training with it works."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from streamasr.errors import ConfigError, DataError
from streamasr.training import _native
from streamasr.training.config import CrfConfig, DataConfig, LossConfig, TrainConfig
from streamasr.training.crf import CrfLoss, Denominator, build_crf, log_partitions
from streamasr.training.monitoring.events import StepReport
from streamasr.training.token_ngram import TokenNgram, estimate_ngram
from streamasr.training.tokenizer import build_tokenizer
from tests.training.beeping import recipe, run


def ngram_of(order: int, tokens: int = 3, blank: int = 0) -> TokenNgram:
    others = [token for token in range(tokens) if token != blank]
    texts = np.random.default_rng(order).choice(others, size=(12, 5)).tolist()
    return estimate_ngram(texts, order=order, tokens=tokens, blank=blank)


def denominator(ngram: TokenNgram, prune: float) -> Denominator:
    return Denominator.of(ngram, lm_weight=1.0, prune=prune)


def paths(log_probs_TV: Tensor, blank: int) -> Iterator[tuple[tuple[int, ...], list[int], float]]:
    """Yield each path with its text and its probability."""
    frames, tokens = log_probs_TV.shape
    for path in product(range(tokens), repeat=frames):
        kept = [token for token, before in zip(path, (None, *path), strict=False) if token != before]
        prob = float(log_probs_TV[torch.arange(frames), torch.tensor(path)].sum().exp())
        yield path, [token for token in kept if token != blank], prob


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("blank", [0, 2])
def test_the_partition_function_is_a_sum_over_all_paths(order: int, blank: int) -> None:
    torch.manual_seed(order)
    ngram = ngram_of(order, blank=blank)
    log_probs_BTV = torch.randn(1, 6, 3).mul(2).log_softmax(-1).requires_grad_()
    total, expected_TV = 0.0, torch.zeros(6, 3)
    for path, text, prob in paths(log_probs_BTV[0].detach(), blank):
        weighted = prob * float(np.exp(ngram.log_prob(text)))
        total += weighted
        expected_TV[torch.arange(6), torch.tensor(path)] += weighted
    sums_B = log_partitions(log_probs_BTV, torch.tensor([6]), denominator(ngram, 0.0))
    assert sums_B.item() == pytest.approx(np.log(total), abs=1e-5)
    sums_B.sum().backward()
    assert log_probs_BTV.grad is not None
    torch.testing.assert_close(log_probs_BTV.grad[0], expected_TV / total, atol=1e-5, rtol=1e-4)


def test_a_row_has_the_same_sum_alone_and_in_a_batch_and_with_any_number_of_threads() -> None:
    torch.manual_seed(1)
    ngram = ngram_of(3, tokens=6)
    log_probs_BTV = torch.randn(5, 40, 6).log_softmax(-1)
    frames_B = torch.tensor([40, 7, 0, 39, 22])
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 3):
            torch.set_num_threads(count)
            rows_BTV = log_probs_BTV.clone().requires_grad_()
            sums_B = log_partitions(rows_BTV, frames_B, denominator(ngram, 1e-5))
            sums_B.sum().backward()
            results.append((sums_B.detach(), rows_BTV.grad))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0][0], results[1][0])
    gradient_BTV, other_BTV = results[0][1], results[1][1]
    assert gradient_BTV is not None
    assert other_BTV is not None
    assert torch.equal(gradient_BTV, other_BTV)
    for row, frames in enumerate(frames_B.tolist()):
        alone = log_probs_BTV[row : row + 1, :frames].clone().requires_grad_()
        sums_B = log_partitions(alone, torch.tensor([frames]), denominator(ngram, 1e-5))
        sums_B.sum().backward()
        assert sums_B.item() == results[0][0][row].item()
        assert alone.grad is not None
        assert torch.equal(alone.grad[0], gradient_BTV[row, :frames])
        assert not gradient_BTV[row, frames:].any()
        torch.testing.assert_close(alone.grad[0].sum(-1), torch.ones(frames), atol=1e-4, rtol=0)


def test_pruning_leaves_out_little_of_the_sum() -> None:
    torch.manual_seed(2)
    ngram = ngram_of(4, tokens=8)
    log_probs_BTV = torch.randn(2, 60, 8).mul(3).log_softmax(-1)
    frames_B = torch.tensor([60, 60])
    whole_B = log_partitions(log_probs_BTV, frames_B, denominator(ngram, 0.0))
    pruned_B = log_partitions(log_probs_BTV, frames_B, denominator(ngram, 1e-5))
    assert (pruned_B <= whole_B).all()
    torch.testing.assert_close(pruned_B, whole_B, atol=0.05, rtol=0)
    # The best history of each frame always remains.
    assert log_partitions(log_probs_BTV, frames_B, denominator(ngram, 0.99)).isfinite().all()


@pytest.mark.parametrize("value", [float("nan"), -float("inf")])
def test_a_row_without_a_possible_text_is_not_a_number_and_leaves_the_others_alone(value: float) -> None:
    ngram = ngram_of(3)
    log_probs_BTV = torch.zeros(2, 4, 3).log_softmax(-1)
    log_probs_BTV[0, 2] = value
    rows_BTV = log_probs_BTV.requires_grad_()
    first, second = log_partitions(rows_BTV, torch.tensor([4, 4]), denominator(ngram, 0.0))
    assert first.isnan()
    assert second.isfinite()


def test_the_native_core_refuses_arguments_that_do_not_fit() -> None:
    log_probs_BTV, weights = np.zeros((2, 5, 3), np.float32), np.zeros(27, np.float32)
    occupancies_BTV = np.zeros_like(log_probs_BTV)
    with pytest.raises(ValueError, match="n-gram weights"):
        _native.log_partitions(log_probs_BTV, [5, 5], weights[1:], 3, 0, 0.0, occupancies_BTV, 1)
    with pytest.raises(ValueError, match="n-gram weights"):
        _native.log_partitions(log_probs_BTV, [5, 5], weights, 3, 3, 0.0, occupancies_BTV, 1)
    with pytest.raises(ValueError, match="longer than the batch"):
        _native.log_partitions(log_probs_BTV, [5, 6], weights, 3, 0, 0.0, occupancies_BTV, 1)
    with pytest.raises(ValueError, match="differ in rows"):
        _native.log_partitions(log_probs_BTV, [5], weights, 3, 0, 0.0, occupancies_BTV, 1)


@pytest.mark.parametrize(("lm_weight", "temperature"), [(1.0, 1.0), (0.7, 2.0), (0.0, 1.0)])
def test_the_probabilities_of_all_texts_add_up_to_one(lm_weight: float, temperature: float) -> None:
    torch.manual_seed(3)
    ngram = ngram_of(3)
    loss = CrfLoss(ngram, lm_weight=lm_weight, temperature=temperature, prune=0.0)
    log_probs_BTV = torch.randn(1, 5, 3).log_softmax(-1)
    texts = {tuple(text) for _, text, _ in paths(log_probs_BTV[0], 0)}
    total = 0.0
    for text in texts:
        value = loss(
            log_probs_BTV,
            torch.tensor([5]),
            torch.tensor(text, dtype=torch.long),
            torch.tensor([len(text)]),
            transcribed_B=torch.tensor([True]),
        )
        total += float((-value).exp())
    assert total == pytest.approx(1, abs=1e-5)


def test_rows_without_a_transcript_or_an_alignment_count_as_zero() -> None:
    torch.manual_seed(4)
    loss = CrfLoss(ngram_of(3), lm_weight=1.0, temperature=1.0, prune=0.0)
    log_probs_BTV = torch.randn(3, 6, 3).log_softmax(-1).requires_grad_()
    frames_B = torch.tensor([6, 6, 2])
    both = loss(
        log_probs_BTV,
        frames_B,
        torch.tensor([1, 2, 1, 1, 2]),
        torch.tensor([2, 0, 3]),
        transcribed_B=torch.tensor([True, False, True]),
    )
    alone = loss(
        log_probs_BTV[:1],
        frames_B[:1],
        torch.tensor([1, 2]),
        torch.tensor([2]),
        transcribed_B=torch.tensor([True]),
    )
    torch.testing.assert_close(both, alone)
    both.backward()
    assert log_probs_BTV.grad is not None
    assert log_probs_BTV.grad[0].abs().sum() > 0
    assert not log_probs_BTV.grad[1:].any()


def test_descending_the_loss_makes_the_transcript_the_most_probable_text() -> None:
    torch.manual_seed(5)
    loss = CrfLoss(ngram_of(3, tokens=5), lm_weight=0.7, temperature=2.0, prune=1e-5)
    logits_BTV = torch.randn(1, 12, 5).requires_grad_()
    optimizer = torch.optim.Adam([logits_BTV], lr=0.3)
    arguments = torch.tensor([12]), torch.tensor([3, 1, 1, 4]), torch.tensor([4])
    values = []
    for _ in range(60):
        value = loss(logits_BTV.log_softmax(-1), *arguments, transcribed_B=torch.tensor([True]))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert values[0] > 2
    assert 0 <= values[-1] < 0.1


def test_a_run_reports_the_loss_and_learns(beep_manifest: Path, tmp_path: Path) -> None:
    config = replace(recipe(beep_manifest, 60), loss=LossConfig(consistency=0.0, crf=0.5), log_every_steps=20)
    _, events = run(config, tmp_path)
    reports = [event for event in events if isinstance(event, StepReport)]
    assert reports[-1].crf < reports[0].crf
    assert all(report.loss > 0 for report in reports)
    for report in reports:
        assert report.loss == pytest.approx(0.5 * report.ctc + 0.5 * report.crf, rel=1e-4)


def test_the_language_model_is_of_the_texts_that_the_recipe_names(
    beep_manifest: Path, tmp_path: Path
) -> None:
    base = replace(recipe(beep_manifest, 1), loss=LossConfig(consistency=0.0, crf=0.5))
    tokenizer = build_tokenizer(base)
    (tmp_path / "text.txt").write_text("cab cab\nword that the tokens cannot spell\n\ncab\n")
    named = build_crf(
        replace(base, crf=CrfConfig(text=(Path("text.txt"),), order=3)).rooted(tmp_path), tokenizer
    )
    transcripts = build_crf(base, tokenizer)
    cab = tokenizer.encode("cab")
    assert named.ngram.order == 3
    assert transcripts.ngram.order == 4
    assert named.ngram.log_prob(cab) > transcripts.ngram.log_prob(cab)
    lines = [json.loads(line)["text"] for line in beep_manifest.read_text().splitlines()]
    known = tokenizer.encode(max(lines, key=len))
    assert transcripts.ngram.log_prob(known) > named.ngram.log_prob(known)


def test_a_missing_text_is_named(beep_manifest: Path, tmp_path: Path) -> None:
    config = replace(recipe(beep_manifest, 1), loss=LossConfig(consistency=0.0, crf=0.5))
    config = replace(config, crf=CrfConfig(text=(tmp_path / "none.txt",)))
    with pytest.raises(DataError, match=r"none\.txt: no such file"):
        run(config, tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"order": 1}, r"crf\.order must be at least 2, got 1"),
        ({"lm_weight": -0.1}, r"crf\.lm_weight must be a number from 0, got -0\.1"),
        ({"temperature": 0.0}, r"crf\.temperature must be a number above 0, got 0\.0"),
        ({"prune": 1.0}, r"crf\.prune must be a share from 0 to below 1, got 1\.0"),
    ],
)
def test_settings_out_of_range_are_refused(fields: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CrfConfig(**fields)  # type: ignore[arg-type]


def test_recipes_whose_parts_do_not_fit_are_refused() -> None:
    data = DataConfig(manifests=(Path("train.jsonl"),))
    with pytest.raises(ConfigError, match=r"loss\.crf must be a share from 0 to 1, got 1\.5"):
        TrainConfig(name="x", data=data, loss=LossConfig(crf=1.5))
    with pytest.raises(ConfigError, match=r"crf\.text .* loss\.crf must be above 0"):
        TrainConfig(name="x", data=data, crf=CrfConfig(text=(Path("text.txt"),)))
    with pytest.raises(ConfigError, match=r"with shards, crf\.text must name texts"):
        TrainConfig(name="x", data=DataConfig(shards=("*.tar",)), loss=LossConfig(crf=0.5))
