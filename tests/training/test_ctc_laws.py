"""Test the training loss against an enumeration of all paths, and its gradient against the token occupancy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from streamasr.decoding.tokens import collapse
from streamasr.training import losses
from tests.training.ctc_oracle import backward, forward, loss_and_occupancy, states_of

BLANK = 0


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, list[int]]:
    """Draw logits of up to 5 frames and 4 tokens, and a text of up to 4 tokens, often too long for the frames."""
    frames, tokens = draw(st.integers(1, 5)), draw(st.integers(2, 4))
    value = st.floats(-6, 6, allow_nan=False)
    logits = draw(
        st.lists(st.lists(value, min_size=tokens, max_size=tokens), min_size=frames, max_size=frames)
    )
    text = draw(st.lists(st.integers(1, tokens - 1), max_size=4))
    return torch.tensor(logits, dtype=torch.float64), text


def loss_by_enumeration(log_probs_TV: Tensor, text: list[int]) -> float:
    """Return the negative log of the summed probabilities of all paths that collapse to ``text``."""
    frames, tokens = log_probs_TV.shape
    total = sum(
        math.exp(sum(float(log_probs_TV[t, token]) for t, token in enumerate(path)))
        for path in itertools.product(range(tokens), repeat=frames)
        if collapse(path, BLANK) == text
    )
    return -math.log(total) if total else math.inf


def ctc(logits_BTV: Tensor, frames: list[int], texts: list[list[int]]) -> Tensor:
    return losses.ctc(
        logits_BTV.log_softmax(-1),
        torch.tensor(frames),
        torch.tensor([token for text in texts for token in text], dtype=torch.long),
        torch.tensor([len(text) for text in texts]),
        BLANK,
    )


@settings(deadline=None)
@given(cases())
def test_the_loss_is_the_sum_over_all_paths(case: tuple[Tensor, list[int]]) -> None:
    logits_TV, text = case
    expected = loss_by_enumeration(logits_TV.log_softmax(-1), text)
    by_recursion, _ = loss_and_occupancy(logits_TV.log_softmax(-1).numpy(), text, BLANK)
    assert by_recursion == pytest.approx(expected, abs=1e-9)
    counted = 0.0 if math.isinf(expected) else expected
    assert float(ctc(logits_TV[None], [len(logits_TV)], [text])) == pytest.approx(counted, abs=1e-9)


@settings(deadline=None)
@given(cases())
def test_the_gradient_is_softmax_minus_occupancy(case: tuple[Tensor, list[int]]) -> None:
    logits_TV, text = case
    logits_BTV = logits_TV[None].clone().requires_grad_()
    ctc(logits_BTV, [len(logits_TV)], [text]).backward()
    loss, occupancy_TV = loss_and_occupancy(logits_TV.log_softmax(-1).numpy(), text, BLANK)
    expected_TV = logits_TV.softmax(-1).numpy() - occupancy_TV
    if math.isinf(loss):
        expected_TV = np.zeros_like(expected_TV)
    assert logits_BTV.grad is not None
    np.testing.assert_allclose(logits_BTV.grad[0].numpy(), expected_TV, atol=1e-9)


@settings(deadline=None)
@given(cases(), cases())
def test_rows_of_a_batch_and_their_padding_do_not_mix(
    one: tuple[Tensor, list[int]], two: tuple[Tensor, list[int]]
) -> None:
    frames = [len(one[0]), len(two[0])]
    padded_BTV = torch.full((2, max(frames), 4), 3.0, dtype=torch.float64)
    alone = 0.0
    for row, (logits_TV, text) in enumerate((one, two)):
        wide_TV = torch.nn.functional.pad(logits_TV, (0, 4 - logits_TV.shape[1]), value=-9.0)
        padded_BTV[row, : len(wide_TV)] = wide_TV
        alone += float(ctc(wide_TV[None], [len(wide_TV)], [text]))
    padded_BTV.requires_grad_()
    both = ctc(padded_BTV, frames, [one[1], two[1]])
    both.backward()
    assert float(both.detach()) == pytest.approx(alone, abs=1e-9)
    assert padded_BTV.grad is not None
    for row, length in enumerate(frames):
        assert not padded_BTV.grad[row, length:].any()


@given(cases())
def test_forward_and_backward_agree_at_every_frame(case: tuple[Tensor, list[int]]) -> None:
    logits_TV, text = case
    log_probs_TV = logits_TV.log_softmax(-1).numpy()
    states = states_of(text, BLANK)
    both_TS = forward(log_probs_TV, states, BLANK) + backward(log_probs_TV, states, BLANK)
    totals_T = np.logaddexp.reduce(both_TS, axis=1)
    np.testing.assert_allclose(totals_T, np.full_like(totals_T, totals_T[0]), atol=1e-9)
