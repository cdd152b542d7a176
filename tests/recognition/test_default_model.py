"""The default model on real speech: streamed log-probs are the whole utterance's, at every chunk size and by every
backend.
"""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from streamasr.acoustic import AnyEncoder, AnyStreamingEncoder, Encoder
from streamasr.frontend.files import read_audio
from streamasr.manifest import read_manifest
from streamasr.recognition.model import LoadedModel, load_model

TOLERANCE = 1e-4
CHUNKS = [8, 16, 32, 64]


class Speech:
    """The packaged clips in a batch, through a model's front end at once or in chunks."""

    def __init__(self, repository: Path, model: LoadedModel) -> None:
        clips = read_manifest(repository / "tests" / "data" / "librispeech" / "manifest.jsonl")
        sounds = [torch.from_numpy(read_audio(clip.audio, model.sample_rate)) for clip in clips]
        pcm_BS = torch.nn.utils.rnn.pad_sequence(sounds, batch_first=True)
        self.pcm_BS = torch.nn.functional.pad(pcm_BS, (0, -pcm_BS.shape[1] % model.frame_samples))
        self.frames_B = torch.tensor([-(-len(sound) // model.frame_samples) for sound in sounds])
        self.model = model

    def whole(self, encoder: AnyEncoder, chunk_frames: int) -> Tensor:
        """Log-probs of the frames of all clips, one clip after another."""
        mel_BTM = self.model.frontend(self.pcm_BS).to(encoder.head.weight.dtype)
        log_probs_BTV, _ = encoder.forward(mel_BTM, self.frames_B * encoder.subsampling, chunk_frames)
        return torch.cat([row_TV[:count] for row_TV, count in zip(log_probs_BTV, self.frames_B, strict=True)])

    def streamed(self, encoder: AnyStreamingEncoder, chunk_frames: int) -> Tensor:
        """The same, chunk by chunk."""
        count = len(self.frames_B)
        mel_state = self.model.frontend.initial_state(count)
        state = encoder.initial_state(count)
        heard: list[list[Tensor]] = [[] for _ in range(count)]
        for number, part_BS in enumerate(self.pcm_BS.split(chunk_frames * self.model.frame_samples, dim=1)):
            mel_state, mel_BTM = self.model.frontend.step(mel_state, part_BS)
            left_B = (self.frames_B - number * chunk_frames).clamp(0, mel_BTM.shape[1] // encoder.subsampling)
            state, log_probs_BTV, _ = encoder.step(state, mel_BTM, left_B * encoder.subsampling)
            for row, left in enumerate(left_B):
                heard[row].append(log_probs_BTV[row, :left])
        return torch.cat([torch.cat(row) for row in heard])


@pytest.fixture(scope="module")
def pytorch(en_small: Path) -> LoadedModel:
    return load_model(en_small, "cpu", "torch")


@pytest.fixture(scope="module")
def speech(repository: Path, pytorch: LoadedModel) -> Speech:
    return Speech(repository, pytorch)


@pytest.mark.parametrize("chunk_frames", CHUNKS)
@torch.inference_mode()
def test_streamed_log_probs_are_those_of_whole_utterances(
    pytorch: LoadedModel, speech: Speech, chunk_frames: int
) -> None:
    encoder = pytorch.encoder
    assert isinstance(encoder, Encoder)
    streamed, whole = speech.streamed(encoder, chunk_frames), speech.whole(encoder, chunk_frames)
    torch.testing.assert_close(streamed, whole, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("chunk_frames", CHUNKS)
@torch.inference_mode()
def test_the_graphs_log_probs_are_the_exact_ones(
    en_small: Path, pytorch: LoadedModel, speech: Speech, chunk_frames: int
) -> None:
    """Within the tolerance, or, where PyTorch's own float32 rounds coarser than that, no farther off than PyTorch."""
    encoder = pytorch.encoder
    assert isinstance(encoder, Encoder)
    exact = speech.whole(copy.deepcopy(encoder).double(), chunk_frames)
    rounding = float((speech.whole(encoder, chunk_frames) - exact).abs().max())
    graph = load_model(en_small, "cpu", "onnxruntime").encoder
    off = float((speech.streamed(graph, chunk_frames) - exact).abs().max())
    assert off <= max(TOLERANCE, rounding)
    assert rounding < 3e-4
