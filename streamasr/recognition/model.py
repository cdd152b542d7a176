"""Load a model folder: configuration, front end, encoder and decoder."""

from __future__ import annotations

import importlib.resources
import importlib.util
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from streamasr.acoustic import AnyStreamingEncoder
from streamasr.config import AnyFrontendConfig, Backend, FrontendConfig, ModelConfig, Precision
from streamasr.decoding.loading import TOKENS_FILE, load_decoder
from streamasr.decoding.tokens import TokenList
from streamasr.decoding.utterance import UtteranceDecoder
from streamasr.errors import ConfigError, ModelError
from streamasr.framing import Framing, framing_of
from streamasr.frontend.numpy_mel import NumpyLogMel
from streamasr.punctuation.base import Punctuator
from streamasr.punctuation.loading import load_punctuator
from streamasr.recognition.backend import GRAPH_FILE, WEIGHTS_FILE, load_step_encoder
from streamasr.recognition.chunking import ChunkQueue
from streamasr.recognition.devices import CPU, Device
from streamasr.toml import load_toml
from streamasr.units import MS_PER_SECOND

if TYPE_CHECKING:
    from streamasr.frontend.base import AnyFrontEnd

CONFIG_FILE = "config.toml"
CARD_FILE = "README.md"
_REQUIRED_FILES = (CONFIG_FILE, TOKENS_FILE)
"""Required besides the weights, or a graph that contains them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedModel:
    """The parts of a model that all sessions share. Immutable while sessions run."""

    config: ModelConfig
    frontend: AnyFrontEnd
    """A :class:`NumpyLogMel`, which has another interface, where PyTorch is not installed."""
    encoder: AnyStreamingEncoder
    decoder: UtteranceDecoder
    device: Device
    punctuator: Punctuator | None = None
    """Decides on capitals and marks in the written form."""

    @property
    def parameters(self) -> int:
        """Number of the encoder's weights."""
        return self.encoder.parameter_count

    @property
    def vocab_size(self) -> int:
        """Number of tokens V, the blank included."""
        return len(self.decoder.beams.tokens)

    @property
    def sample_rate(self) -> int:
        """Sample rate of the front end, in Hz."""
        return self.config.frontend.sample_rate

    @cached_property
    def framing(self) -> Framing:
        """How samples become mel frames and encoder frames."""
        framing = framing_of(self.config.frontend, self.config.encoder)
        silence = self.config.end_silence_ms * framing.sample_rate // MS_PER_SECOND
        return replace(framing, right_padding_samples=framing.right_padding_samples + silence)

    @property
    def frame_samples(self) -> int:
        """Number of samples per encoder frame."""
        return self.framing.frame_samples

    def chunk_ms(self, chunk_frames: int) -> int:
        """Return the length of ``chunk_frames`` encoder frames, in milliseconds of audio."""
        return round(chunk_frames * self.framing.frame_ms)

    def chunk_queue(self, chunk_frames: int) -> ChunkQueue:
        """Return a new stream's queue, for chunks of ``chunk_frames`` encoder frames."""
        chunk_samples = chunk_frames * self.frame_samples
        return ChunkQueue(
            chunk_samples,
            chunk_samples // self.encoder.hops_per_chunk,
            left_padding_samples=self.framing.left_padding_samples,
            right_padding_samples=self.framing.right_padding_samples,
        )

    def chunk_frames_for(self, latency_ms: int) -> int:
        """Return the largest chunk size up to ``latency_ms``, in encoder frames; the smallest one if none is."""
        sizes = self.encoder.chunk_frames
        return max((size for size in sizes if self.chunk_ms(size) <= latency_ms), default=sizes[0])


def packaged_models() -> dict[str, Path]:
    """Return the models that are installed with the package, as name to folder."""
    root = importlib.resources.files("streamasr_models")
    folders = {entry.name: Path(str(entry)) for entry in root.iterdir() if (entry / CONFIG_FILE).is_file()}
    return dict(sorted(folders.items()))


def resolve_model(name_or_path: str | Path) -> Path:
    """Return the folder of a model, given its path or the name of a packaged model.

    Raises:
        ModelError: there is no such folder or packaged model; the message lists the packaged models.
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
    """Check that a model folder is complete, and return its configuration.

    Raises:
        ModelError: a file is missing, or the configuration is invalid; the message names the file.
    """
    for name in _REQUIRED_FILES:
        if not (folder / name).is_file():
            raise ModelError(f"{folder / name}: missing; a model folder needs {', '.join(_REQUIRED_FILES)}")
    if not any((folder / name).is_file() for name in (WEIGHTS_FILE, GRAPH_FILE)):
        raise ModelError(f"{folder / WEIGHTS_FILE}: missing; a model folder needs it, or {GRAPH_FILE}")
    try:
        return load_toml(ModelConfig, folder / CONFIG_FILE)
    except ConfigError as error:
        raise ModelError(error.message) from None


def has_torch() -> bool:
    """Whether PyTorch is installed. Without it, models run that have a native step, on the CPU."""
    return importlib.util.find_spec("torch") is not None


def pick_device(device: str) -> Device:
    """Return the PyTorch device of that name; ``auto`` is the GPU if there is one, otherwise the CPU.

    Raises:
        ConfigError: PyTorch does not know the name, or this machine has no such device.
    """
    if not has_torch():
        if device in ("auto", CPU.type):
            return CPU
        raise ConfigError(f"device {device!r} needs PyTorch, which is not installed; use cpu or auto")
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch_device = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"unknown device {device!r}; use auto, cpu, cuda or cuda:N") from None
    if torch_device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {device!r} is not available here; use cpu or auto")
    return torch_device


def load_model(
    folder: str | Path,
    device: str = "auto",
    backend: Backend = "auto",
    threads: int = 0,
    precision: Precision = "float32",
) -> LoadedModel:
    """Load a model.

    Args:
        folder: path of a model folder, or name of a packaged model such as ``en-small``.
        device: ``auto`` (the GPU if there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        backend: ``native``, ``onnxruntime`` (both on a CPU only), ``torch``, or ``auto``; see
            :func:`~streamasr.recognition.backend.load_step_encoder`.
        threads: threads of one step, natively or under ONNX Runtime; 0 for PyTorch's number of threads.
        precision: of the weights in the native step; the other backends have float32 or their graph's.

    Raises:
        ModelError: a file is missing, damaged, or does not match the others; the message names it.
        ConfigError: the device or the backend is not available.
    """
    path = resolve_model(folder)
    torch_device = pick_device(device)
    config = read_model_config(path)
    vocab_size = len(TokenList.load(path / TOKENS_FILE))
    encoder = load_step_encoder(
        path,
        config.encoder,
        vocab_size,
        device=torch_device,
        backend=backend,
        precision=precision,
        threads=threads,
    )
    return LoadedModel(
        config=config,
        frontend=_load_frontend(config.frontend, torch_device),
        encoder=encoder,
        decoder=load_decoder(path, config, frame_ms=framing_of(config.frontend, config.encoder).frame_ms),
        device=torch_device,
        punctuator=load_punctuator(path, config.punctuation),
    )


def _load_frontend(config: AnyFrontendConfig, device: Device) -> AnyFrontEnd:
    if has_torch():
        from streamasr.frontend.build import build_frontend

        return build_frontend(config).to(str(device)).eval()
    if isinstance(config, FrontendConfig):
        return cast("AnyFrontEnd", NumpyLogMel(config))
    raise ConfigError(f"a front end of the family {config.family} needs PyTorch, which is not installed")
