"""The same arithmetic in NumPy, one token at a time, for streams.

Vectors may have leading dimensions, for several streams at once. Shape suffixes: H size of a layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]

_NORM_EPSILON = 1e-5
_NAMES = ("norm.weight", "norm.bias", "gates.weight", "gates.bias")


class RecurrentWeights(NamedTuple):
    """The weights of a :class:`streamasr.recurrent.layers.SimpleRecurrentLayer`."""

    norm_weight: Vector
    norm_bias: Vector
    gates_weight: Vector
    gates_bias: Vector

    @classmethod
    def of(cls, weights: Mapping[str, Vector], layer: str) -> RecurrentWeights:
        """Return those of the layer of that name."""
        return cls(*(weights[f"{layer}.{name}"] for name in _NAMES))

    @staticmethod
    def shapes(layers: int, hidden: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the weights of ``layers`` layers, whose names are ``layers.0`` and so on."""
        shapes = ((hidden,), (hidden,), (3 * hidden, hidden), (3 * hidden,))
        return {
            f"layers.{layer}.{name}": shape
            for layer in range(layers)
            for name, shape in zip(_NAMES, shapes, strict=True)
        }


def recurrent_step(weights: RecurrentWeights, x_H: Vector, carry_H: Vector) -> tuple[Vector, Vector]:
    """Return the layer's output and its new carry."""
    normed = layer_norm(x_H, weights.norm_weight, weights.norm_bias)
    gates = normed @ weights.gates_weight.T + weights.gates_bias
    hidden = x_H.shape[-1]
    z, f, o = gates[..., :hidden], sigmoid(gates[..., hidden : 2 * hidden]), gates[..., 2 * hidden :]
    carry = f * carry_H + (1 - f) * z
    return x_H + sigmoid(o) * np.tanh(carry), carry


def gelu(x: Vector) -> Vector:
    """Compute the tanh approximation of Hendrycks and Gimpel 2016, "Gaussian Error Linear Units"."""
    result: Vector = (
        0.5 * x * (1 + np.tanh(np.float32(0.7978845608) * (x + np.float32(0.044715) * x * x * x)))
    )
    return result


def sigmoid(x: Vector) -> Vector:
    """Compute the logistic function."""
    result: Vector = 0.5 * (1 + np.tanh(0.5 * x))
    return result


def layer_norm(x: Vector, weight: Vector, bias: Vector) -> Vector:
    """Normalise the last dimension to mean 0 and variance 1, then scale and shift it."""
    # For vectors of this size, a sum takes half the time of a mean.
    size = np.float32(x.shape[-1])
    centred = x - x.sum(axis=-1, keepdims=True) / size
    variance = (centred * centred).sum(axis=-1, keepdims=True) / size
    result: Vector = centred / np.sqrt(variance + np.float32(_NORM_EPSILON)) * weight + bias
    return result
