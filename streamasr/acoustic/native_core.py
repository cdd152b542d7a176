"""Make the native core of an encoder from its configuration and weights.

Shape suffixes: P positions, N distances, D model width.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from streamasr.acoustic import _native
from streamasr.acoustic.positions import distance_sinusoids, periodic_positions
from streamasr.config import EncoderConfig, FastConformerEncoderConfig, Precision, WhisperEncoderConfig
from streamasr.errors import ModelError

Instructions = Literal["baseline", "avx2", "avx512", "amx"]
"""The most that a step may use; it uses what the processor has of it."""

Shape = tuple[int, ...]


def make_core(
    config: EncoderConfig,
    weights: Mapping[str, NDArray[Any]],
    vocab_size: int,
    precision: Precision,
    instructions: Instructions,
) -> _native.Encoder:
    """Return the native core with the weights packed for ``precision``.

    Raises:
        ModelError: weights are missing, or of other sizes than the configuration's.
    """
    if isinstance(config, FastConformerEncoderConfig):
        shapes, make = _fastconformer_shapes(config), partial(_fastconformer_core, config)
    else:
        shapes, make = _whisper_shapes(config), partial(_whisper_core, config)
    shapes |= {"head.weight": (vocab_size, config.dim), "head.bias": (vocab_size,)}
    _check(shapes, weights)
    arrays = {name: np.ascontiguousarray(weight, dtype=np.float32) for name, weight in weights.items()}
    return make(arrays, vocab_size, precision, instructions)


def _check(shapes: Mapping[str, Shape], weights: Mapping[str, NDArray[Any]]) -> None:
    for name in sorted(shapes.keys() | weights.keys()):
        found = tuple(weights[name].shape) if name in weights else None
        if found != shapes.get(name):
            raise ModelError(
                f"the weights do not fit the configuration: {name} is {found or 'missing'}, "
                f"expected {shapes.get(name) or 'none'}"
            )


def _whisper_core(
    config: WhisperEncoderConfig,
    weights: Mapping[str, NDArray[np.float32]],
    vocab_size: int,
    precision: Precision,
    instructions: Instructions,
) -> _native.Encoder:
    names = (
        *("n_mels", "dim", "heads", "layers", "stem_kernel", "stem_stride", "merge_after_layers"),
        *("merge_frames", "left_context_frames", "position_period_frames"),
    )
    positions_PD = periodic_positions(
        config.position_period_frames, config.position_wavelength_frames, config.dim
    )
    sizes = {name: int(getattr(config, name)) for name in names} | {"vocab_size": vocab_size}
    return _native.make_whisper(sizes, weights, positions_PD, precision, instructions)


def _fastconformer_core(
    config: FastConformerEncoderConfig,
    weights: Mapping[str, NDArray[np.float32]],
    vocab_size: int,
    precision: Precision,
    instructions: Instructions,
) -> _native.Encoder:
    names = (
        *("n_mels", "dim", "heads", "layers", "subsampling", "subsampling_channels", "feed_forward_factor"),
        *("conv_kernel", "left_context_frames", "scale_input"),
    )
    longest = config.chunk_frames[-1]
    sizes = {name: int(getattr(config, name)) for name in names}
    sizes |= {"longest_frames": longest, "vocab_size": vocab_size}
    distances_ND = distance_sinusoids(config.left_context_frames + longest - 1, 1 - longest, config.dim)
    return _native.make_fastconformer(sizes, weights, distances_ND, precision, instructions)


def _whisper_shapes(config: WhisperEncoderConfig) -> dict[str, Shape]:
    """Return the shapes of a ``WhisperEncoder``'s weights but the head's, without the time that making one takes."""
    dim, kernel = config.dim, config.stem_kernel
    matrices: dict[str, Shape] = {
        "conv1": (dim, config.n_mels, kernel),
        "conv2": (dim, dim, kernel),
        "final_norm": (dim,),
    }
    if config.merge_after_layers:
        matrices["merge"] = (dim, config.merge_frames * dim)
    for layer in range(config.layers):
        block: dict[str, Shape] = {
            "attention_norm": (dim,),
            "qkv": (3 * dim, dim),
            "out": (dim, dim),
            "mlp_norm": (dim,),
            "mlp_in": (4 * dim, dim),
            "mlp_out": (dim, 4 * dim),
        }
        matrices |= {f"blocks.{layer}.{name}": shape for name, shape in block.items()}
    return _weights_and_biases(matrices)


def _fastconformer_shapes(config: FastConformerEncoderConfig) -> dict[str, Shape]:
    """Return the same for a ``FastConformerEncoder``."""
    dim, channels, bands = config.dim, config.subsampling_channels, config.n_mels
    inner = dim * config.feed_forward_factor
    stem: dict[str, Shape] = {}
    for stage in range(config.subsampling.bit_length() - 1):
        if stage:
            stem[f"stem.stages.{stage}.depthwise"] = (channels, 1, 3, 3)
            stem[f"stem.stages.{stage}.mixing"] = (channels, channels, 1, 1)
        else:
            stem["stem.stages.0.mixing"] = (channels, 1, 3, 3)
        bands = bands // 2 + 1
    shapes = _weights_and_biases(stem | {"stem.out": (dim, channels * bands)})
    norms = (
        "first_norm",
        "attention_norm",
        "convolution_norm",
        "convolution.norm",
        "second_norm",
        "out_norm",
    )
    linear: dict[str, Shape] = {
        "attention.qkv": (3 * dim, dim),
        "attention.out": (dim, dim),
        "convolution.expand": (2 * dim, dim),
        "convolution.depthwise": (dim, 1, config.conv_kernel),
        "convolution.out": (dim, dim),
    }
    for part in ("first", "second"):
        linear |= {f"{part}.0": (inner, dim), f"{part}.3": (dim, inner)}
    head_shape = (config.heads, dim // config.heads)
    for layer in range(config.layers):
        name = f"blocks.{layer}."
        shapes |= _weights_and_biases({name + norm: (dim,) for norm in norms})
        shapes |= _weights_and_biases({name + part: shape for part, shape in linear.items()}, config.bias)
        shapes[name + "attention.position.weight"] = (dim, dim)
        shapes[name + "attention.content_bias_HK"] = head_shape
        shapes[name + "attention.position_bias_HK"] = head_shape
    return shapes


def _weights_and_biases(matrices: Mapping[str, Shape], bias: bool = True) -> dict[str, Shape]:
    weights = {f"{name}.weight": shape for name, shape in matrices.items()}
    return weights | ({f"{name}.bias": shape[:1] for name, shape in matrices.items()} if bias else {})
