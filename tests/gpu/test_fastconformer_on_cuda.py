"""Test FastConformer on CUDA: streaming, batches and graphs against single steps; skipped without a device."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from streamasr.acoustic.fastconformer import FastConformerEncoder
from streamasr.config import FastConformerEncoderConfig

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
DEVICE = "cuda"
CONFIG = FastConformerEncoderConfig(
    n_mels=40, dim=64, heads=4, layers=3, subsampling_channels=16, left_context_frames=28
)


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """Convolutions in full float32: cuDNN rounds their inputs to 10 bits otherwise."""
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(scope="module")
def encoder() -> FastConformerEncoder:
    torch.manual_seed(1)
    return FastConformerEncoder(CONFIG, 29).eval().requires_grad_(False).to(DEVICE)


def stream(encoder: FastConformerEncoder, mel_BTM: Tensor, lengths_B: Tensor, chunk: int) -> list[Tensor]:
    """Return the log-probs of each row, up to its end."""
    left_padding, size = encoder.left_padding_frames, chunk * encoder.subsampling
    line_BTM = F.pad(mel_BTM, (0, 0, left_padding, -(mel_BTM.shape[1] + left_padding) % size))
    ends_B = lengths_B + left_padding
    state = encoder.initial_state(len(mel_BTM))
    rows: list[list[Tensor]] = [[] for _ in mel_BTM]
    for start in range(0, line_BTM.shape[1], size):
        out = encoder.step(state, line_BTM[:, start : start + size], (ends_B - start).clamp(0, size))
        state = out.state
        for row, log_probs_TV, count in zip(rows, out.log_probs_BTV, out.lengths_B.tolist(), strict=True):
            row.append(log_probs_TV[:count])
    return [torch.cat(row) for row in rows]


@pytest.mark.parametrize("chunk", CONFIG.chunk_frames)
@torch.inference_mode()
def test_a_stream_equals_the_whole_utterance(encoder: FastConformerEncoder, chunk: int) -> None:
    mel_BTM = torch.randn(3, 400, CONFIG.n_mels, device=DEVICE)
    lengths_B = torch.tensor([400, 333, 90], device=DEVICE)
    whole_BTV, frames_B = encoder(mel_BTM, lengths_B, chunk)
    streamed = stream(encoder, mel_BTM, lengths_B, chunk)
    for row, frames in enumerate(frames_B.tolist()):
        assert len(streamed[row]) == frames
        torch.testing.assert_close(streamed[row], whole_BTV[row, :frames], atol=1e-4, rtol=0)
        (alone,) = stream(encoder, mel_BTM[row : row + 1, : lengths_B[row]], lengths_B[row : row + 1], chunk)
        torch.testing.assert_close(alone, streamed[row], atol=1e-4, rtol=0)


@torch.inference_mode()
def test_the_device_agrees_with_the_cpu(encoder: FastConformerEncoder) -> None:
    mel_BTM, lengths_B = torch.randn(2, 300, CONFIG.n_mels), torch.tensor([300, 200])
    on_cpu = FastConformerEncoder(CONFIG, 29).eval()
    on_cpu.load_state_dict(encoder.state_dict())
    expected_BTV, frames_B = on_cpu(mel_BTM, lengths_B, 7)
    got_BTV, _ = encoder(mel_BTM.to(DEVICE), lengths_B.to(DEVICE), 7)
    for row, frames in enumerate(frames_B.tolist()):
        torch.testing.assert_close(got_BTV[row, :frames].cpu(), expected_BTV[row, :frames], atol=1e-3, rtol=0)


@torch.inference_mode()
def test_a_captured_step_equals_a_launched_one(encoder: FastConformerEncoder) -> None:
    """Nothing in a step looks at a value on the device, which capturing would refuse."""
    mel_BTM = torch.randn(4, 7 * 8, CONFIG.n_mels, device=DEVICE)
    lengths_B = torch.tensor([56, 56, 24, 0], device=DEVICE)
    state = encoder.initial_state(4)
    for _ in range(3):
        expected = encoder.step(state, mel_BTM, lengths_B)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = encoder.step(state, mel_BTM, lengths_B)
    graph.replay()
    torch.testing.assert_close(captured.log_probs_BTV, expected.log_probs_BTV, atol=1e-5, rtol=0)
    for leaf, wanted in zip(captured.state, expected.state, strict=True):
        torch.testing.assert_close(leaf, wanted, atol=1e-5, rtol=0)
