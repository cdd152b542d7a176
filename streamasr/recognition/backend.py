"""Load a model folder's encoder for its backend: native, PyTorch, or ONNX Runtime with an exported graph."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from streamasr.acoustic.in_place import has_native_step, load_native_encoder
from streamasr.acoustic.interface import AnyStreamingEncoder
from streamasr.config import Backend, EncoderConfig, Precision
from streamasr.errors import ConfigError, ModelError
from streamasr.recognition.devices import Device
from streamasr.toml import from_mapping

if TYPE_CHECKING:
    from streamasr.acoustic.base import AnyEncoder
    from streamasr.acoustic.onnx.runtime import OnnxEncoder

logger = logging.getLogger(__name__)
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
        backend: ``native``, ``torch``, ``onnxruntime`` or ``auto``. On a CPU ``auto`` runs the native step if the
            encoder's family has one and the folder has its weights, and otherwise the graph if there is one: by
            measurement each takes less CPU time than the next.
        precision: of the native step; the other backends have that of their weights.
        threads: threads of one step, natively or under ONNX Runtime; 0 for PyTorch's number of threads. PyTorch's
            own number is a setting of the process.

    Raises:
        ModelError: a file is missing, damaged, or does not match the others. With ``auto``, PyTorch replaces a graph
            that cannot be used, with a warning in the log, if the folder contains the weights.
        ConfigError: the backend does not support the device, the encoder's family or the precision, or it needs
            PyTorch, which is not installed.
    """
    weights = folder / WEIGHTS_FILE
    on_cpu = device.type == "cpu"
    if backend in ("native", "onnxruntime") and not on_cpu:
        raise ConfigError(f"the backend {backend} runs on the CPU only; use --device cpu, or --backend torch")
    if uses_native_step(folder, config, device, backend):

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

    automatic = backend == "auto" and on_cpu
    if backend == "onnxruntime" or (automatic and (folder / GRAPH_FILE).is_file()):
        try:
            return _load_graph(folder / GRAPH_FILE, config, vocab_size, threads)
        except (ConfigError, ModelError) as error:
            if backend == "onnxruntime" or not weights.is_file():
                raise
            logger.warning("using PyTorch instead of ONNX Runtime: %s", error.message)
    elif automatic:
        logger.info(
            "%s has no %s: using PyTorch. With an exported graph, one stream takes a quarter to two thirds less CPU "
            "time: `streamasr model export %s %s --onnx` makes it",
            *(folder, GRAPH_FILE, folder, folder),
        )
    return load_encoder(config, weights, vocab_size, str(device))


def uses_native_step(folder: Path, config: EncoderConfig, device: Device, backend: Backend) -> bool:
    """Return whether :func:`load_step_encoder` loads the native step."""
    if backend != "auto":
        return backend == "native"
    return device.type == "cpu" and has_native_step(config) and (folder / WEIGHTS_FILE).is_file()


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
