"""Trace an encoder's streaming step into an ONNX graph, with its state as inputs and outputs.

One graph serves every batch size and step size.

Shape suffixes: B batch, T mel frames, M mel bands, V tokens, L layers, H heads, N distances, K head width,
D model width.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from streamasr.acoustic.base import AnyEncoder
from streamasr.acoustic.fastconformer import FastConformerEncoder
from streamasr.acoustic.fastconformer.layers import distance_sinusoids
from streamasr.acoustic.interface import StepOutput
from streamasr.errors import ConfigError, ModelError

MEL, LENGTHS, ADVANCE = "mel", "lengths", "advance"
"""The graph's first inputs, the last only with look-ahead; the state's leaves follow."""
LOG_PROBS, FRAMES = "log_probs", "frames"
"""Its first outputs: log-probs, and the valid frames of each row; the new leaves follow."""
NEW_PREFIX = "new_"
"""Prefix of a leaf's name after the step."""
WEIGHTS_PREFIX = "encoder."
"""Prefix of the names of the encoder's weights."""
OPSET = 20
"""Version of the ONNX operator set; 20 is the first one with a GELU operator."""
_SAMPLE_BATCH = 2
_MAX_BATCH = 4096
_MAX_FRAMES = 1024


@dataclass(frozen=True, slots=True)
class TracedStep:
    """A traced graph, and its state."""

    program: Any
    """A ``torch.onnx.ONNXProgram``; its ``model_proto`` holds the weights in float32."""
    state: tuple[str, ...]
    """The state's leaves, in order, without empty ones."""


class StreamingStep(nn.Module):
    """``encoder.step`` as a function of tensors only."""

    distances_ND: Tensor

    def __init__(self, encoder: AnyEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.initial: Any = encoder.initial_state(1)
        self.state_names = tuple(name for name in self.initial._fields if getattr(self.initial, name).numel())
        self.has_lookahead = encoder.hops_per_chunk > 1
        self.max_frames = max(encoder.chunk_frames)
        if isinstance(encoder, FastConformerEncoder):
            first = encoder.config.left_context_frames + self.max_frames - 1
            table_ND = distance_sinusoids(first, 1 - self.max_frames, encoder.head.weight, encoder.config.dim)
            self.register_buffer("distances_ND", table_ND, persistent=False)

    def forward(self, mel_BTM: Tensor, lengths_B: Tensor, *leaves: Tensor) -> tuple[Tensor, ...]:
        """Return log-probs, their lengths, and the new leaves. ``advance_B`` comes before the leaves."""
        advance_B, leaves = (leaves[0], leaves[1:]) if self.has_lookahead else (None, leaves)
        B = mel_BTM.shape[0]
        state = type(self.initial)(*(leaf.expand(B, *leaf.shape[1:]) for leaf in self.initial))
        state = state._replace(**dict(zip(self.state_names, leaves, strict=True)))
        out = self._step(state, mel_BTM, lengths_B, advance_B)
        return out.log_probs_BTV, out.lengths_B, *(getattr(out.state, name) for name in self.state_names)

    def _step(
        self, state: Any, mel_BTM: Tensor, lengths_B: Tensor, advance_B: Tensor | None
    ) -> StepOutput[Any]:
        encoder = self.encoder
        if not isinstance(encoder, FastConformerEncoder):
            return encoder.step(state, mel_BTM, lengths_B, advance_B)
        # The distances of the longest step contain those of every shorter one. The position keys depend on no input:
        # the runtime computes them once, when it loads the graph.
        frames = mel_BTM.shape[1] // encoder.subsampling
        keys_LHNK = torch.stack(
            [block.attention.position_keys(self.distances_ND) for block in encoder.layers]
        )
        spare = self.max_frames - frames
        return encoder.advance(state, mel_BTM, lengths_B, keys_LHNK[:, :, spare : keys_LHNK.shape[2] - spare])


def trace(encoder: AnyEncoder, n_mels: int) -> TracedStep:
    """Trace the streaming step of an encoder in float32 into an ONNX program.

    Inputs are ``mel`` [B, T, M] in float32, ``lengths`` [B] (and ``advance`` [B], where there is look-ahead) in
    int64 and the state's leaves by their names; outputs
    ``log_probs`` [B, T / subsampling, V], ``frames`` [B] and each leaf as ``new_…``. B and T are dynamic; T is a
    whole number of encoder frames, at most the longest chunk. A stream begins with all leaves zero.

    Args:
        encoder: on the CPU.
        n_mels: values in a frame of its front end.

    Raises:
        ConfigError: the packages that make graphs are not installed.
        ModelError: the encoder cannot be traced, or the initial state of its streams is not zero.
    """
    _require("onnx", "onnxscript")
    step = StreamingStep(encoder).eval()
    if any(bool(leaf.any()) for leaf in step.initial):
        raise ModelError("this encoder cannot be exported: its initial state is not zero")
    frames = max(2, step.max_frames // 2)
    advance = [ADVANCE] if step.has_lookahead else []
    leaves = [getattr(encoder.initial_state(_SAMPLE_BATCH), name) for name in step.state_names]
    mel_BTM = torch.zeros(_SAMPLE_BATCH, frames * encoder.subsampling, n_mels)
    lengths_B = torch.tensor([mel_BTM.shape[1], mel_BTM.shape[1] - encoder.subsampling])
    batch = torch.export.Dim("B", min=1, max=_MAX_BATCH)
    time = torch.export.Dim("T", min=1, max=max(2, min(_MAX_FRAMES, step.max_frames)))
    shapes = (
        {0: batch, 1: encoder.subsampling * time},
        {0: batch},
        tuple({0: batch} for _ in (*advance, *leaves)),
    )
    try:
        with _silenced_exporter(), torch.no_grad():
            program = torch.onnx.export(
                step,
                # A copy: the same tensor twice would become one input of the graph.
                (mel_BTM, lengths_B, *(lengths_B.clone() for _ in advance), *leaves),
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=[MEL, LENGTHS, *advance, *step.state_names],
                output_names=[LOG_PROBS, FRAMES, *(NEW_PREFIX + name for name in step.state_names)],
                opset_version=OPSET,
                # Constant folding would lose the weights' names; runtimes fold when they load the graph.
                optimize=False,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ModelError(f"this encoder cannot be traced: {error}") from error
    assert program is not None
    return TracedStep(program, step.state_names)


def _require(*packages: str) -> None:
    for package in packages:
        try:
            __import__(package)
        except ImportError:
            raise ConfigError(
                f"exporting needs the package {package}: pip install 'streamasr[export]'"
            ) from None


@contextlib.contextmanager
def _silenced_exporter() -> Iterator[None]:
    """Silence the exporter's messages: the result is checked anyway."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
