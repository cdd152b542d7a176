"""Test the parts of the loss against brute force, and on inputs for which they must be zero."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from streamasr.training import losses


def test_ctc_is_the_negative_log_probability_of_all_paths_of_the_text() -> None:
    torch.manual_seed(2)
    frames, tokens, text = 5, 3, [1, 1]
    log_probs_BTV = torch.randn(1, frames, tokens).log_softmax(-1)
    total = 0.0
    for path in product(range(tokens), repeat=frames):
        kept = [token for token, before in zip(path, (None, *path), strict=False) if token != before]
        if [token for token in kept if token] == text:
            path_log_probs = log_probs_BTV[0, torch.arange(frames), torch.tensor(path)]
            total += float(path_log_probs.sum().exp())
    loss = losses.ctc(log_probs_BTV, torch.tensor([frames]), torch.tensor(text), torch.tensor([2]), blank=0)
    assert float(loss) == pytest.approx(-torch.log(torch.tensor(total)).item(), abs=1e-5)


def test_a_text_too_long_for_its_row_does_not_affect_the_other_rows() -> None:
    log_probs_BTV = torch.randn(2, 6, 4).log_softmax(-1)
    frames_B, targets = torch.tensor([6, 2]), torch.tensor([1, 2, 1, 1, 1])
    both = losses.ctc(log_probs_BTV, frames_B, targets, torch.tensor([2, 3]), blank=0)
    alone = losses.ctc(log_probs_BTV[:1], frames_B[:1], targets[:2], torch.tensor([2]), blank=0)
    torch.testing.assert_close(both, alone)


def test_a_row_without_a_transcript_counts_as_zero() -> None:
    log_probs_BTV = torch.randn(2, 6, 4).log_softmax(-1).requires_grad_()
    frames_B, targets = torch.tensor([6, 6]), torch.tensor([1, 2])
    known_B = torch.tensor([True, False])
    both = losses.ctc(log_probs_BTV, frames_B, targets, torch.tensor([2, 0]), blank=0, transcribed_B=known_B)
    alone = losses.ctc(log_probs_BTV[:1], frames_B[:1], targets, torch.tensor([2]), blank=0)
    torch.testing.assert_close(both, alone)
    both.backward()
    assert log_probs_BTV.grad is not None
    assert log_probs_BTV.grad[0].abs().sum() > 0
    assert log_probs_BTV.grad[1].abs().sum() == 0


def test_consistency_is_zero_for_equal_views_and_ignores_padding() -> None:
    view = torch.randn(2, 5, 4).log_softmax(-1)
    mask_BT = torch.ones(4, 5)
    assert float(losses.consistency(torch.cat((view, view)), mask_BT)) == pytest.approx(0, abs=1e-6)
    other = view.clone()
    other[:, 3:] = torch.randn(2, 2, 4).log_softmax(-1)
    assert float(losses.consistency(torch.cat((view, other)), mask_BT)) > 0.1
    mask_BT[:, 3:] = 0
    assert float(losses.consistency(torch.cat((view, other)), mask_BT)) == pytest.approx(0, abs=1e-6)


def test_consistency_has_the_weight_of_the_paper_relative_to_ctc() -> None:
    """Divided by the frames of both views, half of the CTC losses and half of the divergences remain."""
    torch.manual_seed(3)
    log_probs_BTV = torch.randn(2, 5, 4).log_softmax(-1)
    first_TV, second_TV = log_probs_BTV
    there = (second_TV.exp() * (second_TV - first_TV)).sum()
    back = (first_TV.exp() * (first_TV - second_TV)).sum()
    both_views = losses.consistency(log_probs_BTV, torch.ones(2, 5)) / 10
    torch.testing.assert_close(both_views, 0.5 * (there + back) / 5)


def test_smoothing_is_least_for_equally_probable_tokens_and_ignores_padding() -> None:
    uniform = torch.zeros(2, 5, 4).log_softmax(-1)
    mask_BT = torch.ones(2, 5)
    assert float(losses.smoothing(uniform, mask_BT)) == pytest.approx(
        10 * torch.log(torch.tensor(4.0)).item()
    )
    confident = torch.tensor([9.0, 0.0, 0.0, 0.0]).expand(2, 5, 4).log_softmax(-1)
    assert float(losses.smoothing(confident, mask_BT)) > float(losses.smoothing(uniform, mask_BT))
    mask_BT[:, 3:] = 0
    assert float(losses.smoothing(uniform, mask_BT)) == pytest.approx(6 * torch.log(torch.tensor(4.0)).item())


def test_distillation_is_zero_for_states_of_the_same_direction() -> None:
    student_BTD = torch.randn(2, 4, 8)
    mask_BT = torch.ones(2, 4)
    assert float(losses.distillation(student_BTD, 3 * student_BTD, mask_BT)) == pytest.approx(0, abs=1e-5)
    assert float(losses.distillation(student_BTD, -student_BTD, mask_BT)) == pytest.approx(16, abs=1e-4)
