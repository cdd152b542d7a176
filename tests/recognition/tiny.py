"""Make tiny models with random weights, which are quick and depend on their state as real ones do."""

import queue
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from streamasr.acoustic import Encoder, build_encoder, save_encoder
from streamasr.acoustic.in_place import NativeEncoder
from streamasr.config import (
    DecoderConfig,
    EndpointConfig,
    FastConformerEncoderConfig,
    FrontendConfig,
    ModelConfig,
    NemoFrontendConfig,
    Precision,
    WhisperEncoderConfig,
)
from streamasr.decoding.beam import BeamDecoder
from streamasr.decoding.tokens import TokenList
from streamasr.decoding.utterance import UtteranceDecoder
from streamasr.framing import framing_of
from streamasr.frontend.build import build_frontend
from streamasr.frontend.pcm import Samples
from streamasr.nemo.translate import Generation
from streamasr.protocol.messages import Final, ServerMessage, Start
from streamasr.recognition.local import transcribe_blocks
from streamasr.recognition.model import LoadedModel
from streamasr.toml import to_toml

TOKENS = TokenList.of_characters("abcdef'")
ENDPOINTING = EndpointConfig(silence_ms=300, max_utterance_ms=2_000, max_overrun_ms=500)


def tiny_model(seed: int = 4, hops_per_chunk: int = 1) -> LoadedModel:
    """20 ms frames, chunks of 80, 160 and 320 ms, log-probs that spell words and pauses of the sound."""
    config = ModelConfig(
        name="tiny",
        sample_delay=160,
        frontend=FrontendConfig(n_mels=20),
        encoder=WhisperEncoderConfig(
            n_mels=20,
            dim=32,
            heads=2,
            layers=2,
            left_context_frames=12,
            chunk_frames=(4, 8, 16),
            hops_per_chunk=hops_per_chunk,
        ),
        decoder=DecoderConfig(beam_width=8),
        endpointing=ENDPOINTING,
    )
    return _with_random_weights(config, seed)


def in_place(model: LoadedModel, precision: Precision = "float32") -> LoadedModel:
    """The same model with a native encoder, which updates the states of streams in place."""
    encoder, config = model.encoder, model.config.encoder
    assert isinstance(encoder, Encoder)
    weights = {name: tensor.numpy() for name, tensor in encoder.state_dict().items()}
    native = NativeEncoder(config, weights, model.vocab_size, lambda: encoder, precision=precision)
    return replace(model, encoder=native)


def tiny_fastconformer(generation: Generation, seed: int = 4) -> LoadedModel:
    """80 ms frames, chunks of 80, 160 and 320 ms, with NeMo's front end."""
    config = ModelConfig(
        name="tiny",
        frontend=NemoFrontendConfig(generation=generation, n_mels=20),
        encoder=FastConformerEncoderConfig(
            n_mels=20, dim=32, heads=2, layers=2, subsampling_channels=8,
            left_context_frames=8, chunk_frames=(1, 2, 4),
        ),
        decoder=DecoderConfig(beam_width=8),
        endpointing=ENDPOINTING,
    )  # fmt: skip
    return _with_random_weights(config, seed)


def _with_random_weights(config: ModelConfig, seed: int) -> LoadedModel:
    encoder = build_encoder(config.encoder, len(TOKENS))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(encoder.named_parameters()):
            if weight.dim() > 1:
                gain = 12.0 if name.startswith("head") else 1.5
                weight.normal_(0.0, gain / weight[0].numel() ** 0.5, generator=generator)
        encoder.head.bias[:2] += 8.0
    frame_ms = framing_of(config.frontend, config.encoder).frame_ms
    decoder = UtteranceDecoder(
        BeamDecoder(TOKENS, None, config.decoder), frame_ms=frame_ms, endpointing=config.endpointing
    )
    return LoadedModel(
        config=config,
        frontend=build_frontend(config.frontend).eval(),
        encoder=encoder.eval().requires_grad_(False),
        decoder=decoder,
        device=torch.device("cpu"),
    )


def save_model(folder: Path, model: LoadedModel | None = None) -> Path:
    """A tiny model as a model folder without a language model and a card."""
    model = model or tiny_model()
    folder.mkdir()
    assert isinstance(model.encoder, Encoder)
    save_encoder(model.encoder, folder / "model.safetensors")
    (folder / "config.toml").write_text(to_toml(model.config))
    TOKENS.save(folder / "tokens.txt")
    return folder


def noise(seconds: float, seed: int = 0) -> Samples:
    """Noise under a wandering envelope, at 16 kHz, of values that 16 bits hold."""
    rng = np.random.default_rng(seed)
    count = round(seconds * 16_000)
    levels = np.repeat(rng.uniform(0.0, 0.5, size=count // 800 + 1), 800)[:count]
    samples = (rng.standard_normal(count) * levels).clip(-1, 0.99)
    rounded: Samples = (np.round(samples * 32_768) / 32_768).astype(np.float32)
    return rounded


def s16(samples: Samples) -> bytes:
    """The samples as ``pcm_s16le``."""
    return (samples * 32_768).astype("<i2").tobytes()


class Inbox:
    """A sink that remembers, and that a test can wait on."""

    def __init__(self) -> None:
        self.messages: list[ServerMessage] = []
        self._queue: queue.Queue[ServerMessage] = queue.Queue()

    def __call__(self, message: ServerMessage) -> None:
        self.messages.append(message)
        self._queue.put(message)

    def wait_for(self, *types: str) -> ServerMessage:
        """The next message of one of ``types``; those before it are passed over."""
        while True:
            message = self._queue.get(timeout=30)
            if message.type in types:
                return message

    def text(self) -> str:
        """All finals so far."""
        return final_text(self.messages)


def messages_of(model: LoadedModel, samples: Samples, start: Start | None = None) -> list[ServerMessage]:
    """All messages about samples at the model's rate."""
    return list(transcribe_blocks(model, [samples], start))


def final_text(messages: list[ServerMessage]) -> str:
    """The texts of all finals, one space between."""
    return " ".join(message.text for message in messages if isinstance(message, Final))
