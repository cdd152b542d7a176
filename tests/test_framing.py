"""Test samples, mel frames and encoder frames of whole utterances and of chunks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamasr.config import (
    FastConformerEncoderConfig,
    FrontendConfig,
    ModelConfig,
    NemoFrontendConfig,
    WhisperEncoderConfig,
)
from streamasr.errors import ConfigError
from streamasr.framing import Framing, framing_of
from streamasr.recognition.chunking import ChunkQueue, StopMark

FRAMINGS = {
    "whisper": framing_of(FrontendConfig(), WhisperEncoderConfig()),
    "current": framing_of(NemoFrontendConfig(), FastConformerEncoderConfig()),
    "legacy": framing_of(NemoFrontendConfig(generation="legacy"), FastConformerEncoderConfig()),
    "own front end": framing_of(FrontendConfig(), FastConformerEncoderConfig()),
}


@pytest.mark.parametrize("samples", [1, 159, 160, 319, 320, 321, 1_600, 50_720, 116_713])
def test_utterances_have_the_frames_that_each_family_gives_them(samples: int) -> None:
    whisper, current, legacy, own = FRAMINGS.values()
    assert whisper.mel_frames(samples) == 2 * -(-samples // 320)
    assert current.mel_frames(samples) == samples // 160
    assert legacy.mel_frames(samples) == samples // 160 + 1
    assert own.mel_frames(samples) == -(-samples // 160)
    assert torch.equal(legacy.mel_frames(torch.tensor([samples, 0])), torch.tensor([samples // 160 + 1, 0]))


@pytest.mark.parametrize(
    ("mel_frames", "frames"), [(0, 0), (1, 1), (2, 2), (9, 2), (10, 3), (317, 41), (729, 92)]
)
def test_subsampling_keeps_frames_that_are_partly_filled(mel_frames: int, frames: int) -> None:
    assert FRAMINGS["current"].encoder_frames(mel_frames) == frames


def test_whisper_has_no_padding() -> None:
    framing = FRAMINGS["whisper"]
    assert (framing.frame_samples, framing.left_padding_samples, framing.right_padding_samples) == (320, 0, 0)
    assert framing.sample_delay == 360


def test_the_first_chunk_is_as_short_as_its_newest_frame_allows() -> None:
    """Encoder frame 0 looks at mel frame 0 alone, and that at the first half window."""
    assert FRAMINGS["current"].frame_samples - FRAMINGS["current"].left_padding_samples == 200
    assert FRAMINGS["own front end"].frame_samples - FRAMINGS["own front end"].left_padding_samples == 160


@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
@given(samples=st.integers(0, 20_000), chunk_frames=st.integers(1, 4))
def test_chunks_have_all_frames_of_the_utterance(framing: Framing, samples: int, chunk_frames: int) -> None:
    queue = ChunkQueue(
        chunk_frames * framing.frame_samples,
        left_padding_samples=framing.left_padding_samples,
        right_padding_samples=framing.right_padding_samples,
    )
    queue.append(np.zeros(samples, dtype=np.float32))
    queue.mark(StopMark())
    chunks = []
    while queue.ready:
        chunks.append(queue.take())
    assert sum(len(chunk.samples_S) for chunk in chunks) == samples
    assert [chunk.end is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    whole = chunk_frames * framing.frame_samples
    assert all(chunk.padded_samples == whole for chunk in chunks[:-1])
    slots = sum(framing.padded_mel_frames(chunk.padded_samples) for chunk in chunks)
    if samples:
        assert slots - framing.left_padding_frames == framing.mel_frames(samples)


def test_an_encoder_that_does_not_wait_refuses_a_front_end_that_looks_ahead() -> None:
    with pytest.raises(
        ConfigError, match=r"frontend\.family must be 'whisper' for encoder\.family 'whisper', got 'nemo'"
    ):
        ModelConfig(name="x", frontend=NemoFrontendConfig(), encoder=WhisperEncoderConfig())
