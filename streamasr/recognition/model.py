"""A model folder, loaded and ready to run. Knows no session, thread or socket."""

from __future__ import annotations

import importlib.resources
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from streamasr.acoustic import AnyStreamingEncoder
from streamasr.config import Backend, ModelConfig
from streamasr.decoding.loading import TOKENS_FILE, load_decoder
from streamasr.decoding.tokens import TokenList
from streamasr.decoding.utterance import UtteranceDecoder
from streamasr.errors import ConfigError, ModelError
from streamasr.framing import Framing, framing_of
from streamasr.frontend.base import AnyFrontEnd
from streamasr.frontend.build import build_frontend
from streamasr.recognition.backend import GRAPH_FILE, WEIGHTS_FILE, load_step_encoder
from streamasr.recognition.chunking import ChunkQueue
from streamasr.toml import load_toml

CONFIG_FILE = "config.toml"
CARD_FILE = "README.md"
_NEEDED = (CONFIG_FILE, TOKENS_FILE)
"""Besides weights, or a graph that has its own."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedModel:
    """Everything that sessions of one model share. Nothing in it changes while it runs."""

    config: ModelConfig
    frontend: AnyFrontEnd
    encoder: AnyStreamingEncoder
    decoder: UtteranceDecoder
    device: torch.device

    @property
    def parameters(self) -> int:
        """Weights of the encoder."""
        return self.encoder.parameter_count

    @property
    def sample_rate(self) -> int:
        """Hz of the samples that the front end takes."""
        return self.config.frontend.sample_rate

    @cached_property
    def framing(self) -> Framing:
        """The arithmetic from samples to frames."""
        return framing_of(self.config.frontend, self.config.encoder)

    @property
    def frame_samples(self) -> int:
        """Samples of one encoder frame."""
        return self.framing.frame_samples

    def chunk_ms(self, chunk_frames: int) -> int:
        """Length of a chunk in milliseconds of audio."""
        return round(chunk_frames * self.framing.frame_ms)

    def chunk_queue(self, chunk_frames: int) -> ChunkQueue:
        """A new stream's queue for chunks of ``chunk_frames`` encoder frames."""
        chunk_samples = chunk_frames * self.frame_samples
        return ChunkQueue(
            chunk_samples,
            chunk_samples // self.encoder.hops_per_chunk,
            left_padding_samples=self.framing.left_padding_samples,
            right_padding_samples=self.framing.right_padding_samples,
        )

    def chunk_frames_for(self, latency_ms: int) -> int:
        """The largest chunk size that is not longer than ``latency_ms``, or the smallest there is."""
        sizes = self.encoder.chunk_frames
        return max((size for size in sizes if self.chunk_ms(size) <= latency_ms), default=sizes[0])


def packaged_models() -> dict[str, Path]:
    """Name to folder of the models that travel with the package."""
    root = importlib.resources.files("streamasr_models")
    folders = {entry.name: Path(str(entry)) for entry in root.iterdir() if (entry / CONFIG_FILE).is_file()}
    return dict(sorted(folders.items()))


def resolve_model(name_or_path: str | Path) -> Path:
    """The folder that a path or the bare name of a packaged model means.

    Raises:
        ModelError: neither a folder nor a packaged model; the message lists those that are.
    """
    path = Path(name_or_path)
    if path.is_dir():
        return path
    models = packaged_models()
    if str(name_or_path) in models:
        return models[str(name_or_path)]
    known = ", ".join(models) or "none"
    raise ModelError(f"{name_or_path}: no such folder and no packaged model; packaged models: {known}")


def read_model_config(folder: Path) -> ModelConfig:
    """The configuration of a complete model folder.

    Raises:
        ModelError: a file is missing, or the configuration is not usable; the message names the file.
    """
    for name in _NEEDED:
        if not (folder / name).is_file():
            raise ModelError(f"{folder / name}: missing; a model folder needs {', '.join(_NEEDED)}")
    if not any((folder / name).is_file() for name in (WEIGHTS_FILE, GRAPH_FILE)):
        raise ModelError(f"{folder / WEIGHTS_FILE}: missing; a model folder needs it, or {GRAPH_FILE}")
    try:
        return load_toml(ModelConfig, folder / CONFIG_FILE)
    except ConfigError as error:
        raise ModelError(error.message) from None


def pick_device(device: str) -> torch.device:
    """``auto`` is the GPU where there is one, the CPU elsewhere; any other name is PyTorch's own.

    Raises:
        ConfigError: PyTorch does not know it, or it is not on this machine.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"unknown device {device!r}; use auto, cpu, cuda or cuda:N") from None
    if picked.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {device!r} is not available here; use cpu or auto")
    return picked


def load_model(
    folder: str | Path, device: str = "auto", backend: Backend = "auto", threads: int = 0
) -> LoadedModel:
    """Load a model folder, or a packaged model by its name, in float32.

    Args:
        folder: path or name.
        device: where to compute.
        backend: with what.
        threads: of one step under ONNX Runtime; 0 for as many as PyTorch would take.

    Raises:
        ModelError: a file is missing or does not fit; the message names it.
        ConfigError: the device or the backend is not usable.
    """
    path = resolve_model(folder)
    where = pick_device(device)
    config = read_model_config(path)
    vocab_size = len(TokenList.load(path / TOKENS_FILE))
    encoder = load_step_encoder(
        path, config.encoder, vocab_size, device=where, backend=backend, threads=threads
    )
    return LoadedModel(
        config=config,
        frontend=build_frontend(config.frontend).to(where).eval(),
        encoder=encoder,
        decoder=load_decoder(path, config, frame_ms=framing_of(config.frontend, config.encoder).frame_ms),
        device=where,
    )
