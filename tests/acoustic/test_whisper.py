"""Compare the encoder with Whisper's own arithmetic, and streaming with whole utterances."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from streamasr.acoustic.rolling import streaming_mask
from streamasr.acoustic.whisper import WhisperEncoder, WhisperState, periodic_positions
from streamasr.config import WhisperEncoderConfig
from streamasr.errors import ModelError
from streamasr.training.pretrained import load_pretrained
from tests.acoustic.whisper_weights import whisper_weights

CONFIG = WhisperEncoderConfig(dim=32, heads=4, layers=2, left_context_frames=24)
VOCAB = 7


KINDS = {
    "plain": CONFIG,
    "stem kernel 9": replace(CONFIG, stem_kernel=9),
    "merging": replace(CONFIG, layers=3, merge_after_layers=1),
}


@pytest.fixture(scope="module", params=KINDS)
def encoder(request: pytest.FixtureRequest) -> WhisperEncoder:
    torch.manual_seed(3)
    return WhisperEncoder(KINDS[request.param], VOCAB).eval().requires_grad_(False)


def stream(
    encoder: WhisperEncoder, mel_BTM: Tensor, lengths_B: Tensor, sizes: list[int]
) -> tuple[list[Tensor], WhisperState]:
    """Log-probs of each row, fed in chunks of ``sizes`` encoder frames, the last size repeated."""
    state, start = encoder.initial_state(len(mel_BTM)), 0
    out: list[list[Tensor]] = [[] for _ in mel_BTM]
    while start < mel_BTM.shape[1]:
        size = encoder.subsampling * (sizes.pop(0) if len(sizes) > 1 else sizes[0])
        chunk = mel_BTM[:, start : start + size]
        result = encoder.step(state, chunk, (lengths_B - start).clamp(0, chunk.shape[1]))
        for rows, log_probs_TV, frames in zip(out, result.log_probs_BTV, result.lengths_B, strict=True):
            rows.append(log_probs_TV[:frames])
        state, start = result.state, start + size
    return [torch.cat(rows) for rows in out], state


@pytest.mark.parametrize("chunk_frames", CONFIG.chunk_frames)
def test_streaming_equals_the_whole_utterance(encoder: WhisperEncoder, chunk_frames: int) -> None:
    mel_BTM = torch.randn(3, 300, 80)
    lengths_B = torch.tensor([300, 220, 40])
    whole_BTV, frames_B = encoder(mel_BTM, lengths_B, chunk_frames)
    streamed, _ = stream(encoder, mel_BTM, lengths_B, [chunk_frames])
    for row, (streamed_TV, frames) in enumerate(zip(streamed, frames_B, strict=True)):
        assert len(streamed_TV) == frames
        torch.testing.assert_close(streamed_TV, whole_BTV[row, :frames], atol=1e-4, rtol=0)


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(1, 60), min_size=2, max_size=4), seed=st.integers(0, 99))
def test_a_row_does_not_depend_on_its_neighbours(
    encoder: WhisperEncoder, lengths: list[int], seed: int
) -> None:
    torch.manual_seed(seed)
    mel_BTM = torch.randn(len(lengths), encoder.subsampling * max(lengths), 80)
    lengths_B = encoder.subsampling * torch.tensor(lengths)
    together, _ = stream(encoder, mel_BTM, lengths_B, [16])
    for row, length in enumerate(lengths_B):
        (alone,), _ = stream(encoder, mel_BTM[row : row + 1, :length], length[None], [16])
        torch.testing.assert_close(together[row], alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize("chunk_frames", [8, 16])
@pytest.mark.parametrize("hops", [2, 4])
def test_look_ahead_streamed_equals_look_ahead_in_one_pass(
    encoder: WhisperEncoder, chunk_frames: int, hops: int
) -> None:
    """Streams that move on by a part of a chunk, against one pass in which every chunk has its own copy of it."""
    subsampling, hop = encoder.subsampling, chunk_frames // hops
    lengths = [73, 41, chunk_frames, 3]
    mel_BTM = torch.randn(4, max(lengths) * subsampling, 80)
    state, start_B = encoder.initial_state(4), torch.zeros(4, dtype=torch.long)
    streamed: list[list[Tensor]] = [[] for _ in lengths]
    left_B = torch.tensor(lengths)
    while left_B.any():
        heard_B = left_B.clamp(max=chunk_frames)
        kept_B = torch.where(left_B < chunk_frames, left_B, hop)
        windows = [
            mel_BTM[b, subsampling * at :][: subsampling * chunk_frames] for b, at in enumerate(start_B)
        ]
        window_BTM = torch.nn.utils.rnn.pad_sequence(
            [*windows, torch.zeros(subsampling * chunk_frames, 80)], batch_first=True
        )[:4]
        state, log_probs_BTV, frames_B = encoder.step(
            state, window_BTM, subsampling * heard_B, subsampling * kept_B
        )
        assert frames_B.tolist() == kept_B.tolist()
        for rows, log_probs_TV, kept in zip(streamed, log_probs_BTV, kept_B, strict=True):
            rows.append(log_probs_TV[:kept])
        start_B, left_B = start_B + kept_B, left_B - kept_B
    for row, frames in enumerate(lengths):
        whole_TV = with_copied_look_ahead(encoder, mel_BTM[row, : frames * subsampling], chunk_frames, hop)
        torch.testing.assert_close(torch.cat(streamed[row]), whole_TV, atol=1e-4, rtol=0)


def with_copied_look_ahead(encoder: WhisperEncoder, mel_TM: Tensor, chunk: int, hop: int) -> Tensor:
    """Log-probs [T, V] of one utterance; as Emformer's training does it (Shi et al. 2021, section 2.2)."""
    c = encoder.config
    rate = encoder.subsampling // 2
    frames = len(mel_TM) // encoder.subsampling
    spans, at = [], 0
    while at < frames:
        end = min(at + chunk, frames)
        kept = hop if frames - at >= chunk else end - at
        spans.append((at, kept, end))
        at += kept
    mel_tail, stem_tail = encoder.stem_tails
    x_BTD, _, _ = encoder._stem(mel_TM[None], torch.zeros(1, mel_tail, 80), torch.zeros(1, stem_tail, c.dim))
    x_BTD = x_BTD + encoder._positions(torch.zeros(1, dtype=torch.long), x_BTD.shape[1])

    def laid_out(rate: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows = [
            (number, frame, frame < rate * (start + kept), rate * start)
            for number, (start, kept, end) in enumerate(spans)
            for frame in range(rate * start, rate * end)
        ]
        span, frame, kept, start = (torch.tensor(column) for column in zip(*rows, strict=True))
        near = frame[None, :] >= start[:, None] - rate * c.left_context_frames
        earlier = (span[None, :] < span[:, None]) & kept[None, :] & near
        return frame, kept, (span[None, :] == span[:, None]) | earlier, span

    frame, kept_T, visible, _ = laid_out(rate)
    x_BTD = x_BTD[:, frame]
    for number, block in enumerate(encoder.blocks, 1):
        if number == c.merge_after_layers + 1:
            if c.merge_after_layers:
                x_BTD = encoder._merge(x_BTD)
            _, kept_T, visible, _ = laid_out(1)
        x_BTD = block(x_BTD, visible[None, None])
    return encoder.log_probs(encoder.final_norm(x_BTD))[0, kept_T]


def test_no_frame_looks_past_its_chunk(encoder: WhisperEncoder) -> None:
    chunk = 32 * encoder.subsampling
    mel_BTM = torch.randn(1, 2 * chunk, 80)
    changed_BTM = mel_BTM.clone()
    changed_BTM[:, chunk:] += 1.0
    lengths_B = torch.tensor([2 * chunk])
    before, after = (encoder(x, lengths_B, 32)[0] for x in (mel_BTM, changed_BTM))
    torch.testing.assert_close(before[:, :32], after[:, :32], atol=1e-5, rtol=0)
    assert not torch.allclose(before[:, 32:], after[:, 32:], atol=1e-3)


def test_an_hour_leaves_the_state_as_large_as_a_minute_does(encoder: WhisperEncoder) -> None:
    state = encoder.initial_state(1)
    mel_BTM, lengths_B = torch.randn(1, 128, 80), torch.tensor([128])
    sizes = [x.shape for x in state]
    for _ in range(3 * CONFIG.position_period_frames // 64):
        state = encoder.step(state, mel_BTM, lengths_B).state
    assert [x.shape for x in state] == sizes
    assert 0 <= int(state.position_B) < CONFIG.position_period_frames
    assert int(state.cached_B) == CONFIG.left_context_frames


def test_a_stream_sounds_the_same_at_any_multiple_of_the_period(encoder: WhisperEncoder) -> None:
    """Positions repeat exactly: a fresh context gives the same answer one period later."""
    mel_BTM, lengths_B = torch.randn(1, 64, 80), torch.tensor([64])
    fresh = encoder.initial_state(1)
    later = fresh._replace(position_B=torch.tensor([CONFIG.position_period_frames]))
    torch.testing.assert_close(
        encoder.step(fresh, mel_BTM, lengths_B).log_probs_BTV,
        encoder.step(later, mel_BTM, lengths_B).log_probs_BTV,
    )


def test_positions_wrap_without_a_seam() -> None:
    table_PD = periodic_positions(3000, 200, 512)
    steps = (table_PD.roll(-1, 0) - table_PD).norm(dim=1)
    torch.testing.assert_close(steps, steps.mean().expand(3000), atol=1e-4, rtol=0)


def whisper_positions() -> torch.Tensor:
    inverse_D = 10_000 ** -(torch.arange(256, dtype=torch.float64) / 255)
    phase_PD = torch.arange(1500, dtype=torch.float64)[:, None] * inverse_D
    return torch.cat((phase_PD.sin(), phase_PD.cos()), dim=1).float()


def test_positions_can_be_whispers_own() -> None:
    torch.testing.assert_close(periodic_positions(1500, 0, 512), whisper_positions())


def test_positions_are_close_to_whispers_where_it_can_tell_frames_apart() -> None:
    """The inner product of two positions depends on their distance as in Whisper's own table."""
    tables = (whisper_positions(), periodic_positions(3000, 200, 512))
    distances = torch.tensor([0, 1, 2, 5, 10])
    likeness = [(table[700] * table[700 + distances]).sum(1) / 256 for table in tables]
    torch.testing.assert_close(likeness[0], likeness[1], atol=0.01, rtol=0)


def test_the_mask_shows_the_chunk_and_the_left_context_only() -> None:
    mask_TT = streaming_mask(torch.tensor([7]), 8, 2, left_context=3)[0, 0]
    rows = ["".join("x" if seen else "." for seen in row) for row in mask_TT.tolist()]
    assert rows == [
        "xx......",
        "xx......",
        "xxxx....",
        "xxxx....",
        ".xxxxx..",
        ".xxxxx..",
        "...xxxx.",
        "...xxxxx",  # a padding frame sees itself, so that its softmax is not empty
    ]


def test_whispers_weights_give_whispers_answer(tmp_path: Path) -> None:
    """Full context, against the published arithmetic, the sound delayed by the one frame that causality costs."""

    torch.manual_seed(5)
    dim, heads, frames = CONFIG.dim, CONFIG.heads, 60
    weights = whisper_weights(dim, CONFIG.layers)
    safetensors.torch.save_file(weights, tmp_path / "whisper.safetensors")
    encoder = WhisperEncoder(CONFIG, VOCAB).eval().requires_grad_(False)
    assert load_pretrained(encoder, tmp_path / "whisper.safetensors") == ["head.weight", "head.bias"]

    mel_BTM = torch.randn(1, frames, 80)
    mel_BTM[:, -1] = 0
    delayed_BTM = F.pad(mel_BTM, (0, 0, 1, -1))
    expected_BTD = whisper_encoder(weights, delayed_BTM, heads, CONFIG.layers, encoder.positions_PD)
    hidden_BTD = encoder.encode(mel_BTM, torch.tensor([frames]), None).hidden_BTD
    torch.testing.assert_close(hidden_BTD, expected_BTD, atol=1e-4, rtol=0)


def test_whisper_weights_with_fewer_layers_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "whisper.safetensors"
    safetensors.torch.save_file(whisper_weights(CONFIG.dim, CONFIG.layers - 1), path)
    missing = re.escape(
        f"{path}: these Whisper weights do not have encoder.blocks.{CONFIG.layers - 1}.attn_ln"
    )
    with pytest.raises(ModelError, match=missing):
        load_pretrained(WhisperEncoder(CONFIG, VOCAB), path)


def whisper_encoder(
    w: dict[str, Tensor], mel_BTM: Tensor, heads: int, layers: int, positions_PD: Tensor
) -> Tensor:
    """The encoder as the paper and its code describe it, written anew for this test."""

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, w[f"encoder.{name}.weight"], w.get(f"encoder.{name}.bias"))

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], w[f"encoder.{name}.weight"], w[f"encoder.{name}.bias"])

    def split(x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], heads, -1).transpose(1, 2)

    x = F.gelu(F.conv1d(mel_BTM.mT, w["encoder.conv1.weight"], w["encoder.conv1.bias"], padding=1))
    x = F.gelu(F.conv1d(x, w["encoder.conv2.weight"], w["encoder.conv2.bias"], stride=2, padding=1)).mT
    x = x + positions_PD[: x.shape[1]]
    for layer in range(layers):
        at = f"blocks.{layer}"
        y = norm(f"{at}.attn_ln", x)
        q, k, v = (split(linear(f"{at}.attn.{name}", y)) for name in ("query", "key", "value"))
        attention = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v
        x = x + linear(f"{at}.attn.out", attention.transpose(1, 2).flatten(2))
        x = x + linear(f"{at}.mlp.2", F.gelu(linear(f"{at}.mlp.0", norm(f"{at}.mlp_ln", x))))
    return norm("ln_post", x)
