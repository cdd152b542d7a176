"""Load a model folder's encoder for its backend: native, PyTorch, or ONNX Runtime with an exported graph."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from streamasr.acoustic.in_place import load_native_encoder
from streamasr.acoustic.interface import AnyStreamingEncoder
from streamasr.config import Backend, EncoderConfig, Precision
from streamasr.errors import ConfigError, ModelError
from streamasr.recognition.devices import Device
from streamasr.toml import from_mapping

if TYPE_CHECKING:
    from streamasr.acoustic.base import AnyEncoder
    from streamasr.acoustic.onnx.runtime import OnnxEncoder

WEIGHTS_FILE = "model.safetensors"
GRAPH_FILE = "encoder.onnx"
"""The exported streaming step. It uses the weights of ``model.safetensors``, or contains 8-bit ones."""


def load_step_encoder(
    folder: Path,
    config: EncoderConfig,
    vocab_size: int,
    *,
    device: Device,
    backend: Backend = "auto",
    precision: Precision = "float32",
    threads: int = 0,
) -> AnyStreamingEncoder:
    """Load the encoder of a model folder for its backend.

    Args:
        folder: the model folder.
        config: the encoder's configuration.
        vocab_size: number of tokens V, the blank included.
        device: the device to compute on.
        backend: ``native``, ``torch``, ``onnxruntime`` or ``auto``. On a CPU ``auto`` runs the native step, which by
            measurement takes less CPU time than the others, and the graph if the folder has no weights.
        precision: of the native step; the other backends have that of their weights.
        threads: threads of one step, natively or under ONNX Runtime; 0 for PyTorch's number of threads. PyTorch's
            own number is a setting of the process.

    Raises:
        ModelError: a file is missing, damaged, or does not match the others.
        ConfigError: the backend does not support the device or the precision, or it needs PyTorch, which is not
            installed.
    """
    weights = folder / WEIGHTS_FILE
    on_cpu = device.type == "cpu"
    if backend in ("native", "onnxruntime") and not on_cpu:
        raise ConfigError(f"the backend {backend} runs on the CPU only; use --device cpu, or --backend torch")
    if uses_native_step(folder, device, backend):

        def load_value_encoder() -> AnyEncoder:
            _require_torch("this use of the encoder")
            from streamasr.acoustic.build import load_encoder

            return load_encoder(config, weights, vocab_size)

        return load_native_encoder(
            config, weights, vocab_size, load_value_encoder, precision=precision, threads=threads
        )
    if precision != "float32":
        raise ConfigError(
            f"precision {precision} needs the native step, which this model, device or backend does not have; "
            "leave out --precision"
        )
    _require_torch("without its native step, an encoder")
    from streamasr.acoustic.build import load_encoder

    if backend == "onnxruntime" or (backend == "auto" and on_cpu and (folder / GRAPH_FILE).is_file()):
        return _load_graph(folder / GRAPH_FILE, config, vocab_size, threads)
    return load_encoder(config, weights, vocab_size, str(device))


def uses_native_step(folder: Path, device: Device, backend: Backend) -> bool:
    """Return whether :func:`load_step_encoder` loads the native step."""
    if backend != "auto":
        return backend == "native"
    return device.type == "cpu" and (folder / WEIGHTS_FILE).is_file()


def _require_torch(what: str) -> None:
    if find_spec("torch") is None:
        raise ConfigError(
            f"{what} needs PyTorch, which is not installed; install streamasr with all its dependencies"
        )


def _load_graph(path: Path, config: EncoderConfig, vocab_size: int, threads: int) -> OnnxEncoder:
    from streamasr.acoustic.build import load_encoder
    from streamasr.acoustic.onnx.runtime import OnnxEncoder

    weights = path.parent / WEIGHTS_FILE

    def load_offline_encoder() -> AnyStreamingEncoder:
        return load_encoder(config, weights, vocab_size)

    encoder = OnnxEncoder(path, threads, load_offline_encoder if weights.is_file() else None)
    try:
        exported_config = from_mapping(type(config), encoder.info.encoder)
    except ConfigError:
        exported_config = None
    if exported_config != config or encoder.vocab_size != vocab_size:
        raise ModelError(f"{path}: made for another configuration; `streamasr model export --onnx` renews it")
    return encoder
