"""What computes a model's steps: PyTorch, or ONNX Runtime with an exported graph. Knows a model folder's files."""

from __future__ import annotations

from pathlib import Path

import torch

from streamasr.acoustic import StreamingEncoder, load_encoder
from streamasr.acoustic.onnx.runtime import OnnxEncoder
from streamasr.config import EncoderConfig, from_mapping
from streamasr.engine.config import Backend
from streamasr.errors import ConfigError, ModelError

WEIGHTS_FILE = "model.safetensors"
GRAPH_FILE = "encoder.onnx"
"""The exported streaming step; its weights are those of ``model.safetensors``, or 8-bit ones of its own."""


def pick_backend(folder: Path, device: torch.device, asked: Backend) -> Backend:
    """``torch`` or ``onnxruntime``, whichever ``asked`` comes to.

    Raises:
        ConfigError: ONNX Runtime is asked for on another device than the CPU.
    """
    if asked == "onnxruntime" and device.type != "cpu":
        raise ConfigError("the backend onnxruntime computes on the CPU; use --device cpu, or --backend torch")
    if asked != "auto":
        return asked
    return "onnxruntime" if device.type == "cpu" and (folder / GRAPH_FILE).is_file() else "torch"


def load_step_encoder(
    folder: Path,
    config: EncoderConfig,
    vocab_size: int,
    *,
    device: torch.device,
    backend: Backend = "auto",
    threads: int = 0,
) -> StreamingEncoder:
    """The encoder of a model folder, ready to step.

    Args:
        folder: the model's.
        config: its encoder's configuration.
        vocab_size: how many tokens it has.
        device: where to compute.
        backend: with what.
        threads: of one step under ONNX Runtime; 0 for as many as PyTorch would take. PyTorch's own are its process's.

    Raises:
        ModelError: a file is missing, damaged, or does not fit the others.
        ConfigError: the backend cannot be had on this device.
    """
    if pick_backend(folder, device, backend) == "torch":
        return load_encoder(config, folder / WEIGHTS_FILE, vocab_size, device)
    path = folder / GRAPH_FILE
    encoder = OnnxEncoder(path, threads)
    try:
        made_for = from_mapping(type(config), encoder.info.encoder)
    except ConfigError:
        made_for = None
    if made_for != config or encoder.vocab_size != vocab_size:
        raise ModelError(
            f"{path}: made for another configuration; `streamasr model export {folder} {folder} --onnx` renews it"
        )
    return encoder
