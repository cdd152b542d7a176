"""The default model on real speech: streamed log-probs are the whole utterance's, at every chunk size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from streamasr.engine.model import LoadedModel, load_model
from streamasr.frontend.files import read_audio
from streamasr.manifest import read_manifest


@pytest.fixture(scope="module")
def model(en_small: Path) -> LoadedModel:
    return load_model(en_small, "cpu")


@pytest.mark.parametrize("chunk_frames", [8, 16, 32, 64])
@torch.inference_mode()
def test_streamed_log_probs_are_those_of_whole_utterances(
    repository: Path, model: LoadedModel, chunk_frames: int
) -> None:
    clips = read_manifest(repository / "tests" / "data" / "librispeech" / "manifest.jsonl")
    sounds = [torch.from_numpy(read_audio(clip.audio, model.sample_rate)) for clip in clips]
    pcm_BS = torch.nn.utils.rnn.pad_sequence(sounds, batch_first=True)
    pcm_BS = torch.nn.functional.pad(pcm_BS, (0, -pcm_BS.shape[1] % model.frame_samples))
    subsampling = model.encoder.subsampling
    frames_B = torch.tensor([-(-len(sound) // model.frame_samples) for sound in sounds])
    expected_BTV, _ = model.encoder.forward(model.frontend(pcm_BS), frames_B * subsampling, chunk_frames)

    mel_state = model.frontend.initial_state(len(sounds))
    state = model.encoder.initial_state(len(sounds))
    heard: list[list[torch.Tensor]] = [[] for _ in sounds]
    for number, part_BS in enumerate(pcm_BS.split(chunk_frames * model.frame_samples, dim=1)):
        mel_state, mel_BTM = model.frontend.step(mel_state, part_BS)
        left_B = (frames_B - number * chunk_frames).clamp(0, mel_BTM.shape[1] // subsampling)
        state, log_probs_BTV, _ = model.encoder.step(state, mel_BTM, left_B * subsampling)
        for row, left in enumerate(left_B):
            heard[row].append(log_probs_BTV[row, :left])
    for row, frames in enumerate(frames_B):
        torch.testing.assert_close(torch.cat(heard[row]), expected_BTV[row, :frames], atol=1e-4, rtol=0)
