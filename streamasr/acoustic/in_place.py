"""Run an encoder natively on a CPU, with the states of all streams updated in place.

The native core (``streamasr/acoustic/native``) has the arithmetic for each instruction set, in three precisions. A
step copies no keys and values, and a stream's results are the same bits alone and in any batch.

Shape suffixes: B batch, T mel frames or encoder frames, M mel bands, V tokens.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from streamasr.acoustic import _native
from streamasr.acoustic.interface import AnyArray, Arithmetic, FrameCounts, StepOutput
from streamasr.acoustic.native_core import Instructions, make_core
from streamasr.config import PRECISIONS, EncoderConfig, Precision
from streamasr.errors import ConfigError, ModelError
from streamasr.processor import usable_cores

if TYPE_CHECKING:
    from torch import Tensor

    from streamasr.acoustic.base import AnyEncoder


def supported_precisions() -> tuple[Precision, ...]:
    """Return the precisions that this processor has instructions for, the most exact one first."""
    supported = _native.precisions()
    return tuple(precision for precision in PRECISIONS if precision in supported)


class NativeEncoder:
    """Implements :class:`streamasr.acoustic.interface.StreamingEncoder` and ``InPlaceEncoder``.

    Args:
        config: the encoder's configuration.
        weights: its weights by name, of any floating-point type.
        vocab_size: tokens V, the blank included.
        precision: of the weight matrices and of what they are multiplied with; sums are in float32 or wider.
        threads: threads of one step, each with streams of its own; 0 for PyTorch's number, or without PyTorch for the
            number of cores.
        load_value_encoder: loads the same encoder with states as values, in PyTorch, when it is first needed: for
            :meth:`step` and :meth:`forward`.
        instructions: the most that a step may use.

    Raises:
        ModelError: weights are missing, or of other sizes than the configuration's.
        ConfigError: the processor has no instructions for the precision.
    """

    supports_whole_utterances = True

    def __init__(
        self,
        config: EncoderConfig,
        weights: Mapping[str, NDArray[Any]],
        vocab_size: int,
        load_value_encoder: Callable[[], AnyEncoder],
        *,
        precision: Precision = "float32",
        threads: int = 0,
        instructions: Instructions = "amx",
    ) -> None:
        if precision not in supported_precisions():
            known = ", ".join(supported_precisions())
            raise ConfigError(
                f"this processor has no instructions for precision {precision}; it has: {known}"
            )
        self.vocab_size = vocab_size
        self.chunk_frames = config.chunk_frames
        self.subsampling = config.subsampling
        self.left_padding_frames = config.left_padding_frames
        self.hops_per_chunk = config.hops_per_chunk
        self.arithmetic = Arithmetic("native", precision, _native.instructions())
        self._threads = threads
        self._load_value_encoder = load_value_encoder
        self._loaded_value_encoder: AnyEncoder | None = None
        self._parameters = sum(weight.size for weight in weights.values())
        self._core = make_core(config, weights, vocab_size, precision, instructions)

    @property
    def parameter_count(self) -> int:
        """See :class:`~streamasr.acoustic.interface.StreamingEncoder`."""
        return self._parameters

    def open_slots(self, slots: int) -> NativeSlots:
        """See :class:`~streamasr.acoustic.interface.InPlaceEncoder`."""
        core = _native.Slots(self._core, slots)
        return NativeSlots(core, self.subsampling, self.vocab_size, self._threads or default_threads())

    def initial_state(self, batch: int) -> Any:
        """See :class:`~streamasr.acoustic.interface.StreamingEncoder`: the state of the PyTorch encoder."""
        return self._value_encoder.initial_state(batch)

    def step(
        self, state: Any, mel_BTM: Tensor, lengths_B: Tensor, advance_B: Tensor | None = None
    ) -> StepOutput[Any]:
        """See :class:`~streamasr.acoustic.interface.StreamingEncoder`: in PyTorch, in float32."""
        return self._value_encoder.step(state, mel_BTM, lengths_B, advance_B)

    def forward(self, mel_BTM: Tensor, lengths_B: Tensor, chunk_frames: int | None) -> tuple[Tensor, Tensor]:
        """See :class:`~streamasr.acoustic.interface.StreamingEncoder`: in PyTorch, in float32."""
        return self._value_encoder.forward(mel_BTM, lengths_B, chunk_frames)

    @property
    def _value_encoder(self) -> AnyEncoder:
        if self._loaded_value_encoder is None:
            self._loaded_value_encoder = self._load_value_encoder()
        return self._loaded_value_encoder


class NativeSlots:
    """Implements :class:`~streamasr.acoustic.interface.EncoderSlots`. Memory is allocated on a slot's first use."""

    def __init__(self, core: _native.Slots, subsampling: int, vocab_size: int, threads: int) -> None:
        self._core = core
        self._subsampling = subsampling
        self._vocab_size = vocab_size
        self._threads = threads

    def reset(self, slot: int) -> None:
        """See the Protocol."""
        self._core.reset(slot)

    def step(
        self,
        slots: Sequence[int],
        mel_BTM: AnyArray,
        lengths_B: FrameCounts,
        advance_B: FrameCounts | None = None,
    ) -> tuple[NDArray[np.float32], FrameCounts]:
        """See the Protocol."""
        B, T, _ = mel_BTM.shape
        log_probs_BTV = np.zeros((B, T // self._subsampling, self._vocab_size), dtype=np.float32)
        frames_B = self._core.step(
            slots,
            np.ascontiguousarray(mel_BTM),
            lengths_B.tolist(),
            (lengths_B if advance_B is None else advance_B).tolist(),
            log_probs_BTV,
            self._threads,
        )
        return log_probs_BTV, np.array(frames_B)


def load_native_encoder(
    config: EncoderConfig,
    path: Path,
    vocab_size: int,
    load_value_encoder: Callable[[], AnyEncoder],
    *,
    precision: Precision = "float32",
    threads: int = 0,
) -> NativeEncoder:
    """Load a native encoder with the weights of a safetensors file; for the arguments see :class:`NativeEncoder`.

    Raises:
        ModelError: the file is missing, damaged, or holds weights of other names or sizes.
        ConfigError: as for :class:`NativeEncoder`.
    """
    try:
        weights = safetensors.numpy.load_file(path)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; a model folder needs its weights") from None
    except safetensors.SafetensorError as error:
        raise ModelError(f"{path}: not a readable safetensors file: {error}") from None
    try:
        return NativeEncoder(
            config, weights, vocab_size, load_value_encoder, precision=precision, threads=threads
        )
    except ModelError as error:
        raise ModelError(f"{path}: {error.message}") from None


def default_threads() -> int:
    """Return PyTorch's number of threads, or the number of cores if PyTorch is not loaded."""
    torch = sys.modules.get("torch")
    return usable_cores() if torch is None else int(torch.get_num_threads())


def instructions() -> str:
    """Return the names of the instruction sets that the native step uses here."""
    return _native.instructions()


def product(precision: Precision, rows: int, inputs: int, outputs: int) -> Callable[[], None]:
    """Return a function that multiplies matrices once in ``precision``, for measurements."""
    return _native.Product(precision, rows, inputs, outputs).run
