"""What computes a model's steps: PyTorch, or ONNX Runtime with an exported graph. Knows a model folder's files."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from streamasr.acoustic import AnyStreamingEncoder, load_encoder
from streamasr.acoustic.onnx.runtime import OnnxEncoder
from streamasr.config import Backend, EncoderConfig
from streamasr.errors import ConfigError, ModelError
from streamasr.toml import from_mapping

logger = logging.getLogger(__name__)
WEIGHTS_FILE = "model.safetensors"
GRAPH_FILE = "encoder.onnx"
"""The exported streaming step; its weights are those of ``model.safetensors``, or 8-bit ones of its own."""


def load_step_encoder(
    folder: Path,
    config: EncoderConfig,
    vocab_size: int,
    *,
    device: torch.device,
    backend: Backend = "auto",
    threads: int = 0,
) -> AnyStreamingEncoder:
    """The encoder of a model folder, ready to step.

    Args:
        folder: the model's.
        config: its encoder's configuration.
        vocab_size: how many tokens it has.
        device: where to compute.
        backend: with what. ``auto`` takes the graph on a CPU, where there is one: it was measured to be as cheap or
            cheaper for both families, in batches such as engines take by default.
        threads: of one step under ONNX Runtime; 0 for as many as PyTorch would take. PyTorch's own are its process's.

    Raises:
        ModelError: a file is missing, damaged, or does not fit the others. With ``auto``, a graph that does not fit
            is passed over, and the log says so, where the folder has weights for PyTorch.
        ConfigError: the backend cannot be had on this device.
    """
    weights = folder / WEIGHTS_FILE
    if backend == "onnxruntime" and device.type != "cpu":
        raise ConfigError("the backend onnxruntime computes on the CPU; use --device cpu, or --backend torch")
    if backend == "onnxruntime" or (
        backend == "auto" and device.type == "cpu" and (folder / GRAPH_FILE).is_file()
    ):
        try:
            return _load_graph(folder / GRAPH_FILE, config, vocab_size, threads)
        except (ConfigError, ModelError) as error:
            if backend == "onnxruntime" or not weights.is_file():
                raise
            logger.warning("PyTorch computes in place of ONNX Runtime: %s", error.message)
    elif backend == "auto" and device.type == "cpu":
        logger.info(
            "%s has no %s: PyTorch computes; with a graph one stream takes a quarter to two thirds less CPU time: "
            "`streamasr model export %s %s --onnx` makes it",
            *(folder, GRAPH_FILE, folder, folder),
        )
    return load_encoder(config, weights, vocab_size, device)


def _load_graph(path: Path, config: EncoderConfig, vocab_size: int, threads: int) -> OnnxEncoder:
    weights = path.parent / WEIGHTS_FILE

    def whole() -> AnyStreamingEncoder:
        return load_encoder(config, weights, vocab_size)

    encoder = OnnxEncoder(path, threads, whole if weights.is_file() else None)
    try:
        made_for = from_mapping(type(config), encoder.info.encoder)
    except ConfigError:
        made_for = None
    if made_for != config or encoder.vocab_size != vocab_size:
        raise ModelError(f"{path}: made for another configuration; `streamasr model export --onnx` renews it")
    return encoder
