"""Make encoders, and read and write their weights."""

from __future__ import annotations

from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from streamasr.acoustic.base import AnyEncoder
from streamasr.acoustic.fastconformer import FastConformerEncoder
from streamasr.acoustic.openai_whisper import from_openai, is_openai_layout
from streamasr.acoustic.whisper import WhisperEncoder
from streamasr.config import EncoderConfig, FastConformerEncoderConfig
from streamasr.errors import ModelError


def build_encoder(config: EncoderConfig, vocab_size: int) -> AnyEncoder:
    """An encoder of the family that ``config`` names, with random weights."""
    if isinstance(config, FastConformerEncoderConfig):
        return FastConformerEncoder(config, vocab_size)
    return WhisperEncoder(config, vocab_size)


def load_encoder(
    config: EncoderConfig, path: Path, vocab_size: int, device: torch.device | str = "cpu"
) -> AnyEncoder:
    """The encoder with the weights of a safetensors file, in float32, ready to run.

    Raises:
        ModelError: the file is missing, damaged, or holds weights of other names or sizes.
    """
    try:
        weights = safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; a model folder needs its weights") from None
    except safetensors.SafetensorError as error:
        raise ModelError(f"{path}: not a readable safetensors file: {error}") from None
    encoder = build_encoder(config, vocab_size)
    try:
        encoder.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    except RuntimeError as error:
        raise ModelError(f"{path}: the weights do not fit the configuration: {error}") from None
    return encoder.to(device).eval().requires_grad_(False)


def translate_original_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights under this project's names, if they have those of OpenAI's release; others as they are.

    Raises:
        ModelError: OpenAI's weights are incomplete.
    """
    if not is_openai_layout(weights):
        return weights
    layers = {name.split(".")[2] for name in weights if name.startswith("encoder.blocks.")}
    return from_openai(weights, len(layers))


def save_encoder(encoder: torch.nn.Module, path: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write the weights as safetensors of ``dtype``."""
    weights = {name: tensor.to(dtype).contiguous().cpu() for name, tensor in encoder.state_dict().items()}
    # Written by us: the library's own files are readable by their owner alone, and a daemon may be another user.
    path.write_bytes(safetensors.torch.save(weights, metadata={"format": "streamasr"}))
