"""A tiny model with random weights: quick, and as particular about its state as a real one."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from streamasr.acoustic.whisper import WhisperEncoder
from streamasr.config import DecoderConfig, EndpointConfig, FrontendConfig, ModelConfig, WhisperEncoderConfig
from streamasr.decoding.beam import BeamDecoder
from streamasr.decoding.tokens import TokenList
from streamasr.decoding.utterance import UtteranceDecoder
from streamasr.engine.model import LoadedModel
from streamasr.frontend.mel import LogMel
from streamasr.frontend.pcm import Samples

TOKENS = TokenList.of_characters("abcdef'")


def tiny_model(seed: int = 0) -> LoadedModel:
    """20 ms frames, chunks of 80, 160 and 320 ms, and log-probs peaked enough to spell words."""
    torch.manual_seed(seed)
    config = ModelConfig(
        name="tiny",
        sample_delay=160,
        frontend=FrontendConfig(n_mels=20),
        encoder=WhisperEncoderConfig(
            n_mels=20, dim=32, heads=2, layers=2, left_context_frames=12, chunk_frames=(4, 8, 16)
        ),
        decoder=DecoderConfig(beam_width=8),
        endpointing=EndpointConfig(silence_ms=300, max_utterance_ms=2_000, max_overrun_ms=500),
    )
    encoder = WhisperEncoder(config.encoder, len(TOKENS))
    with torch.no_grad():
        encoder.head.weight.mul_(12.0)
    decoder = UtteranceDecoder(
        BeamDecoder(TOKENS, None, config.decoder), frame_ms=20.0, endpointing=config.endpointing
    )
    return LoadedModel(
        config=config,
        frontend=LogMel(config.frontend).eval(),
        encoder=encoder.eval().requires_grad_(False),
        decoder=decoder,
        device=torch.device("cpu"),
    )


@pytest.fixture(scope="session")
def model() -> LoadedModel:
    return tiny_model()


@pytest.fixture(scope="session")
def speech() -> Callable[[float, int], Samples]:
    """Noise under a wandering envelope: ``speech(seconds, seed)`` at 16 kHz."""

    def make(seconds: float, seed: int) -> Samples:
        rng = np.random.default_rng(seed)
        count = round(seconds * 16_000)
        levels = np.repeat(rng.uniform(0.0, 0.5, size=count // 800 + 1), 800)[:count]
        return (rng.standard_normal(count) * levels).clip(-1, 1).astype(np.float32)

    return make
