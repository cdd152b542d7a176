"""Compare the encoder on a CUDA device with the CPU; skipped without a device."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from streamasr.acoustic import Encoder
from streamasr.acoustic.whisper import WhisperEncoder
from streamasr.config import FrontendConfig, WhisperEncoderConfig
from streamasr.frontend.mel import LogMel
from streamasr.nemo.translate import Generation
from streamasr.recognition.encoder_output import run_streamed, run_whole
from tests.recognition.tiny import noise, tiny_fastconformer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
CONFIG = WhisperEncoderConfig(dim=64, heads=4, layers=3, left_context_frames=32)


@torch.inference_mode()
def test_a_stream_on_cuda_equals_the_whole_utterance_on_the_cpu() -> None:
    torch.manual_seed(1)
    encoder, log_mel = WhisperEncoder(CONFIG, 29).eval(), LogMel(FrontendConfig())
    pcm_BS = torch.randn(3, 320 * 96) * 0.1
    lengths_B = torch.tensor([192, 130, 64])
    expected_BTV, frames_B = encoder(log_mel(pcm_BS), lengths_B, 16)

    encoder, log_mel = encoder.cuda(), log_mel.cuda()
    mel_state, state, rows = log_mel.initial_state(3), encoder.initial_state(3), []
    for start in range(0, 96, 16):
        mel_state, mel_BTM = log_mel.step(mel_state, pcm_BS[:, start * 320 : (start + 16) * 320].cuda())
        out = encoder.step(state, mel_BTM, (lengths_B - 2 * start).clamp(0, 32).cuda())
        state = out.state
        rows.append(out.log_probs_BTV.cpu())
    streamed_BTV = torch.cat(rows, dim=1)
    for row, frames in enumerate(frames_B):
        torch.testing.assert_close(streamed_BTV[row, :frames], expected_BTV[row, :frames], atol=1e-3, rtol=0)


@pytest.mark.parametrize("generation", ["current", "legacy"])
def test_a_fastconformer_stream_on_cuda_equals_the_whole_utterance_on_the_cpu(generation: Generation) -> None:
    model, samples_S = tiny_fastconformer(generation), noise(2.3, seed=3)
    whole = run_whole(model, samples_S, 2)
    device = torch.device("cuda")
    assert isinstance(model.encoder, Encoder)
    moved = replace(
        model, frontend=model.frontend.to(device), encoder=model.encoder.to(device), device=device
    )
    streamed = run_streamed(moved, samples_S, 2, split_seed=1)
    assert streamed.log_probs_TV.shape == whole.log_probs_TV.shape
    assert np.abs(streamed.mel_TM - whole.mel_TM).max() <= 1e-3
    assert np.abs(streamed.log_probs_TV - whole.log_probs_TV).max() <= 1e-2
