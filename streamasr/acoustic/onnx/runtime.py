"""Run an exported encoder with ONNX Runtime on the CPU.

Shape suffixes: B batch, T mel frames or encoder frames, M mel bands, V tokens.
"""

from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from streamasr.acoustic.interface import AnyStreamingEncoder, Arithmetic, StepOutput
from streamasr.acoustic.onnx.graph import ADVANCE, FRAMES, LENGTHS, LOG_PROBS, MEL, NEW_PREFIX
from streamasr.acoustic.onnx.weights import read_table
from streamasr.errors import ConfigError, ModelError

METADATA_KEY = "streamasr"
"""Key of the :class:`GraphInfo`, as JSON, in the file's metadata."""
_ERRORS_ONLY = 3
OnnxState: TypeAlias = tuple[Tensor, ...]
"""A named tuple of the leaves that the graph declares."""
_DTYPES = {"tensor(float)": torch.float32, "tensor(int64)": torch.int64}


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphInfo:
    """Metadata of a graph."""

    encoder: Mapping[str, Any]
    """The encoder's configuration, as in ``config.toml``."""
    subsampling: int
    left_padding_frames: int
    hops_per_chunk: int
    chunk_frames: tuple[int, ...]
    parameters: int
    """Number of weights of the exported encoder."""
    precision: str
    """``float32`` or ``int8``."""
    weights_file: str | None = None
    """The weights file beside the graph; ``None`` if the graph contains its weights."""
    weights_table: str | None = None
    """Digest of that file's table (see :func:`streamasr.acoustic.onnx.weights.read_table`)."""

    def to_json(self) -> str:
        """Serialise for the file's metadata; :meth:`from_json` is the inverse."""
        values = {name: getattr(self, name) for name in self.__slots__}
        # The name in the file format.
        values["lead_frames"] = values.pop("left_padding_frames")
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str) -> GraphInfo:
        """Parse the output of :meth:`to_json`; raise ValueError or TypeError for anything else."""
        values = json.loads(text)
        values["left_padding_frames"] = values.pop("lead_frames", None)
        return cls(**{**values, "chunk_frames": tuple(values["chunk_frames"])})


class OnnxEncoder:
    """Implements :class:`streamasr.acoustic.interface.StreamingEncoder`.

    Args:
        path: a graph from ``streamasr model export --onnx``.
        threads: threads of one step; 0 for PyTorch's number.
        whole: loads an encoder for whole utterances, which the graph cannot process, when it is first needed.

    Raises:
        ModelError: the file, or the weights it refers to, are missing, damaged or do not match.
        ConfigError: ONNX Runtime is not installed.
    """

    def __init__(
        self,
        path: Path,
        threads: int = 0,
        load_offline_encoder: Callable[[], AnyStreamingEncoder] | None = None,
    ) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise ConfigError("the package onnxruntime is not installed; use --backend torch") from None
        if not path.is_file():
            raise ModelError(f"{path}: no such file; `streamasr model export --onnx` writes it")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        # Busy waiting between steps would take CPU time from the decoder.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            self.info = GraphInfo.from_json(self._session.get_modelmeta().custom_metadata_map[METADATA_KEY])
        except Exception as error:  # noqa: BLE001 - the runtime's errors share no other base
            raise ModelError(f"{path}: not a readable graph of streamasr: {error}") from None
        if self.info.weights_file is not None:
            weights = path.parent / self.info.weights_file
            if read_table(weights).digest != self.info.weights_table:
                raise ModelError(
                    f"{path}: exported from other weights than {weights.name}; "
                    "run `streamasr model export --onnx` again"
                )
        self._load_offline_encoder = load_offline_encoder
        self._offline_encoder: AnyStreamingEncoder | None = None
        self.subsampling = self.info.subsampling
        self.left_padding_frames = self.info.left_padding_frames
        self.hops_per_chunk = self.info.hops_per_chunk
        self.chunk_frames = self.info.chunk_frames
        self.arithmetic = Arithmetic("onnxruntime", self.info.precision)
        self.vocab_size: int = self._session.get_outputs()[0].shape[2]
        inputs = {node.name: node for node in self._session.get_inputs()}
        names = [name for name in inputs if name not in (MEL, LENGTHS, ADVANCE)]
        self._state_type = _state_type(names)
        self._leaves = {name: (tuple(inputs[name].shape[1:]), _DTYPES[inputs[name].type]) for name in names}

    @property
    def parameter_count(self) -> int:
        """See the Protocol."""
        return self.info.parameters

    @property
    def supports_whole_utterances(self) -> bool:
        """See the Protocol: true if the model's own weights can be loaded."""
        return self._load_offline_encoder is not None

    def initial_state(self, batch: int) -> OnnxState:
        """The state of ``batch`` new streams; see the Protocol."""
        state: OnnxState = self._state_type(
            *(torch.zeros(batch, *shape, dtype=dtype) for shape, dtype in self._leaves.values())
        )
        return state

    def step(
        self, state: OnnxState, mel_BTM: Tensor, lengths_B: Tensor, advance_B: Tensor | None = None
    ) -> StepOutput[OnnxState]:
        """Encode one chunk of each stream; see the Protocol."""
        B, T, _ = mel_BTM.shape
        # Bound by address: the runtime reads and writes torch's memory without copies.
        binding = self._session.io_binding()
        inputs = {MEL: mel_BTM, LENGTHS: lengths_B, **dict(zip(self._leaves, state, strict=True))}
        if self.hops_per_chunk > 1:
            inputs[ADVANCE] = lengths_B if advance_B is None else advance_B
        bound = {name: tensor.contiguous() for name, tensor in inputs.items()}
        new_state = self._state_type(*(torch.empty_like(bound[name]) for name in self._leaves))
        log_probs_BTV = torch.empty(B, T // self.subsampling, self.vocab_size)
        frames_B = torch.empty(B, dtype=torch.int64)
        for name, tensor in bound.items():
            binding.bind_input(name, "cpu", 0, _numpy_dtype(tensor), tuple(tensor.shape), tensor.data_ptr())
        outputs = {LOG_PROBS: log_probs_BTV, FRAMES: frames_B}
        outputs |= {NEW_PREFIX + name: leaf for name, leaf in new_state._asdict().items()}
        for name, tensor in outputs.items():
            binding.bind_output(name, "cpu", 0, _numpy_dtype(tensor), tuple(tensor.shape), tensor.data_ptr())
        self._session.run_with_iobinding(binding)
        return StepOutput(new_state, log_probs_BTV, frames_B)

    def forward(self, mel_BTM: Tensor, lengths_B: Tensor, chunk_frames: int | None) -> tuple[Tensor, Tensor]:
        """Encode whole utterances with the encoder that ``whole`` loads; see the Protocol.

        Raises:
            ConfigError: the model folder has no weights for it.
        """
        if self._offline_encoder is None:
            if self._load_offline_encoder is None:
                raise ConfigError(
                    "this exported encoder can only stream; whole utterances need the model's own weights"
                )
            self._offline_encoder = self._load_offline_encoder()
        return self._offline_encoder.forward(mel_BTM, lengths_B, chunk_frames)


def _state_type(names: list[str]) -> Any:
    """Make a NamedTuple type with these leaves."""
    return namedtuple("OnnxState", names)


def _numpy_dtype(tensor: Tensor) -> Any:
    import numpy as np

    return np.float32 if tensor.dtype == torch.float32 else np.int64
