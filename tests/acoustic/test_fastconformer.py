"""Test FastConformer: streaming against whole utterances, rows against each other, positions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from streamasr.acoustic.fastconformer import FastConformerEncoder, FastConformerState
from streamasr.acoustic.fastconformer.layers import distance_sinusoids, relative_shift
from streamasr.config import FastConformerEncoderConfig
from streamasr.errors import ConfigError

CONFIG = FastConformerEncoderConfig(
    n_mels=20,
    dim=32,
    heads=4,
    layers=2,
    subsampling_channels=6,
    left_context_frames=12,
    chunk_frames=(1, 3, 4),
    conv_kernel=5,
)
VARIANTS = {
    "usual": CONFIG,
    "4x, bare": replace(CONFIG, subsampling=4, bias=False, scale_input=False),
    "16x, wide": replace(CONFIG, subsampling=16, feed_forward_factor=2, conv_kernel=1),
}
VOCAB = 7
TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=VARIANTS)
def encoder(request: pytest.FixtureRequest) -> FastConformerEncoder:
    torch.manual_seed(3)
    encoder = FastConformerEncoder(VARIANTS[request.param], VOCAB).eval()
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return encoder.requires_grad_(False)


def stream(
    encoder: FastConformerEncoder, mels: list[Tensor], chunk_frames: int, pauses: int = 0
) -> tuple[list[Tensor], FastConformerState]:
    """Log-probs of streams stepped together; a row has no frame in every ``pauses``-th step.

    Every stream ends where its frames do; a row that has ended stays in the batch without frames.
    """
    chunk = chunk_frames * encoder.subsampling
    lines = [torch.cat((torch.full((encoder.left_padding_frames, mel.shape[1]), 9.0), mel)) for mel in mels]
    at, state, turn = [0] * len(mels), encoder.initial_state(len(mels)), 0
    out: list[list[Tensor]] = [[] for _ in mels]
    while any(place < len(line) for place, line in zip(at, lines, strict=True)):
        rows, lengths = [], []
        for row, (place, line) in enumerate(zip(at, lines, strict=True)):
            resting = pauses and (turn + row) % pauses == 0
            piece = line[place : place + (0 if resting else chunk)]
            rows.append(torch.nn.functional.pad(piece, (0, 0, 0, chunk - len(piece)), value=7.0))
            lengths.append(len(piece))
            at[row] += len(piece)
        result = encoder.step(state, torch.stack(rows), torch.tensor(lengths))
        for row_log_probs, log_probs_TV, count in zip(
            out, result.log_probs_BTV, result.lengths_B, strict=True
        ):
            row_log_probs.append(log_probs_TV[:count])
        state, turn = result.state, turn + 1
    return [torch.cat(rows) for rows in out], state


def run_whole(encoder: FastConformerEncoder, mel_TM: Tensor, chunk_frames: int | None) -> Tensor:
    log_probs_BTV, frames_B = encoder.forward(mel_TM[None], torch.tensor([len(mel_TM)]), chunk_frames)
    return log_probs_BTV[0, : int(frames_B)]


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 150), min_size=1, max_size=4),
    chunk_frames=st.sampled_from(CONFIG.chunk_frames),
    pauses=st.sampled_from([0, 2, 3]),
    seed=st.integers(0, 99),
)
def test_streams_in_a_batch_equal_whole_utterances_alone(
    encoder: FastConformerEncoder, lengths: list[int], chunk_frames: int, pauses: int, seed: int
) -> None:
    torch.manual_seed(seed)
    mels = [torch.randn(length, CONFIG.n_mels) for length in lengths]
    streamed, _ = stream(encoder, mels, chunk_frames, pauses)
    for streamed_TV, mel_TM in zip(streamed, mels, strict=True):
        torch.testing.assert_close(
            streamed_TV, run_whole(encoder, mel_TM, chunk_frames), atol=TOLERANCE, rtol=0
        )


@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(0, 120), min_size=2, max_size=4), seed=st.integers(0, 99))
def test_padding_and_other_rows_change_no_utterance(
    encoder: FastConformerEncoder, lengths: list[int], seed: int
) -> None:
    torch.manual_seed(seed)
    mel_BTM = torch.randn(len(lengths), max(*lengths, 1), CONFIG.n_mels)
    log_probs_BTV, frames_B = encoder(mel_BTM, torch.tensor(lengths), 3)
    for row, length in enumerate(lengths):
        assert bool(length) == bool(frames_B[row])
        if length:
            alone_TV = run_whole(encoder, mel_BTM[row, :length], 3)
            assert len(alone_TV) == frames_B[row]
            torch.testing.assert_close(log_probs_BTV[row, : frames_B[row]], alone_TV, atol=TOLERANCE, rtol=0)


def test_a_row_may_have_its_own_chunk_size(encoder: FastConformerEncoder) -> None:
    mel_BTM = torch.randn(3, 130, CONFIG.n_mels)
    lengths_B = torch.tensor([130, 100, 77])
    sizes = [1, 4, 3]
    encoded = encoder.encode(mel_BTM, lengths_B, torch.tensor(sizes), tap_layer=2)
    log_probs_BTV = encoder.log_probs(encoded.hidden_BTD)
    torch.testing.assert_close(encoded.tapped_BTD, encoded.hidden_BTD)
    for row, size in enumerate(sizes):
        alone_TV = run_whole(encoder, mel_BTM[row, : lengths_B[row]], size)
        torch.testing.assert_close(log_probs_BTV[row, : len(alone_TV)], alone_TV, atol=TOLERANCE, rtol=0)


def test_no_frame_looks_past_its_chunk(encoder: FastConformerEncoder) -> None:
    frames, sub = 4, encoder.subsampling
    newest = (frames - 1) * sub
    torch.manual_seed(3)
    mel_TM = torch.randn(10 * sub, CONFIG.n_mels)
    changed_TM = mel_TM.clone()
    changed_TM[newest + 1 :] = 10.0 * torch.randn_like(changed_TM[newest + 1 :])
    before_TV, after_TV = run_whole(encoder, mel_TM, frames), run_whole(encoder, changed_TM, frames)
    torch.testing.assert_close(before_TV[:frames], after_TV[:frames], atol=1e-5, rtol=0)
    assert not torch.allclose(before_TV[frames:], after_TV[frames:], atol=1e-3)


def _gradient(weight: torch.nn.Parameter) -> Tensor:
    assert weight.grad is not None
    return weight.grad


def test_checkpointing_gives_the_same_gradients() -> None:
    torch.manual_seed(1)
    encoder = FastConformerEncoder(CONFIG, VOCAB)
    mel_BTM, lengths_B = torch.randn(2, 90, CONFIG.n_mels), torch.tensor([90, 60])
    gradients = []
    for checkpoint_layers in (False, True):
        encoder.zero_grad()
        hidden_BTD = encoder.encode(mel_BTM, lengths_B, 3, checkpoint_layers=checkpoint_layers).hidden_BTD
        encoder.log_probs(hidden_BTD).square().sum().backward()
        gradients.append([_gradient(weight).clone() for weight in encoder.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_an_hour_leaves_the_state_as_large_as_a_minute_does(encoder: FastConformerEncoder) -> None:
    mel_BTM = torch.randn(1, 4 * encoder.subsampling, CONFIG.n_mels)
    lengths_B = torch.tensor([mel_BTM.shape[1]])
    state = encoder.initial_state(1)
    sizes = [leaf.shape for leaf in state]
    for _ in range(60):
        state = encoder.step(state, mel_BTM, lengths_B).state
    assert [leaf.shape for leaf in state] == sizes
    assert int(state.cached_B) == CONFIG.left_context_frames


def test_position_keys_are_kept_until_the_weights_change() -> None:
    encoder = FastConformerEncoder(CONFIG, VOCAB).eval()
    first = encoder.position_keys(3)
    assert encoder.position_keys(3).data_ptr() == first.data_ptr()
    one, largest = encoder.position_keys(1), encoder.position_keys(4)
    assert (one.shape[2], first.shape[2], largest.shape[2]) == (13, 17, 19)
    assert torch.equal(one, largest[:, :, 3:-3])
    assert encoder.position_keys(6).shape[2] == 23
    with torch.no_grad():
        encoder.layers[0].attention.position.weight.mul_(2.0)
    torch.testing.assert_close(encoder.position_keys(3)[0], 2.0 * first[0])
    encoder.load_state_dict(FastConformerEncoder(CONFIG, VOCAB).state_dict())
    assert not torch.allclose(encoder.position_keys(3), first)


def test_position_keys_from_inference_serve_training_afterwards() -> None:
    encoder = FastConformerEncoder(CONFIG, VOCAB)
    mel_BTM, lengths_B = torch.randn(1, 8, CONFIG.n_mels), torch.tensor([8])
    with torch.inference_mode():
        encoder.eval().step(encoder.initial_state(1), mel_BTM, lengths_B)
    log_probs_BTV = encoder.step(encoder.initial_state(1), mel_BTM, lengths_B).log_probs_BTV
    log_probs_BTV.sum().backward()


@given(frames=st.integers(1, 6), older=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_scores_by_distance_are_lined_up_by_key(frames: int, older: int) -> None:
    keys = older + frames
    distances = torch.arange(keys - 1, -frames, -1)
    scores = distances.float().expand(2, frames, -1)
    shifted = relative_shift(scores)
    query, key = torch.arange(frames) + older, torch.arange(keys)
    assert torch.equal(shifted[0], (query[:, None] - key).float())


def test_sinusoids_alternate_sine_and_cosine() -> None:
    table_ND = distance_sinusoids(5, -3, torch.zeros(1), 8)
    assert table_ND.shape == (9, 8)
    radians = 10_000.0 ** (-2 * torch.arange(4) / 8)
    torch.testing.assert_close(table_ND[1, 0::2], (4 * radians).sin())
    torch.testing.assert_close(table_ND[1, 1::2], (4 * radians).cos())
    torch.testing.assert_close(table_ND[5], torch.tensor([0.0, 1.0]).repeat(4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subsampling": 6}, "^subsampling must be a power of two, at least 2, got 6"),
        ({"subsampling": 1}, "^subsampling must be a power of two, at least 2, got 1"),
        ({"dim": 30}, r"^dim must be even and a multiple of heads \(4\), got 30"),
        (
            {"chunk_frames": (1, 5)},
            "left_context_frames must be a multiple .* got 12, which is no multiple of 5",
        ),
        ({"chunk_frames": (4, 1)}, "chunk_frames must be in ascending order"),
        ({"dropout": 1.0}, "^dropout must be from 0 to below 1, got 1.0"),
        ({"conv_kernel": 0}, "conv_kernel must be positive, got 0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(CONFIG, **change)
