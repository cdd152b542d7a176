"""Translate the names of NeMo's weights of a FastConformer with a CTC head."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from streamasr.config import FastConformerEncoderConfig
from streamasr.errors import ModelError

_LAYER = {
    "norm_feed_forward1": "first_norm",
    "feed_forward1.linear1": "first.0",
    "feed_forward1.linear2": "first.3",
    "norm_self_att": "attention_norm",
    "self_attn.linear_out": "attention.out",
    "norm_conv": "convolution_norm",
    "conv.pointwise_conv1": "convolution.expand",
    "conv.depthwise_conv": "convolution.depthwise",
    "conv.batch_norm": "convolution.norm",
    "conv.pointwise_conv2": "convolution.out",
    "norm_feed_forward2": "second_norm",
    "feed_forward2.linear1": "second.0",
    "feed_forward2.linear2": "second.3",
    "norm_out": "out_norm",
}
"""Modules of a layer, NeMo's name to ours. NeMo calls the layer norm of the convolution ``batch_norm``."""
_POINTWISE = ("conv.pointwise_conv1", "conv.pointwise_conv2")
"""Convolutions with a kernel of one, which are linear layers here."""


def translate_weights(
    nemo_weights: Mapping[str, Tensor], config: FastConformerEncoderConfig, head: str
) -> dict[str, Tensor]:
    """Translate NeMo's state dict into an encoder's, in float32.

    Args:
        nemo_weights: weights by NeMo's names; those of other parts, such as a transducer, are skipped.
        config: the encoder's configuration.
        head: NeMo's name of the CTC head, ``decoder`` or ``ctc_decoder``.

    Raises:
        ModelError: a weight is missing, or there is an encoder weight that the configuration does not explain.
    """
    reader = _TrackingReader(nemo_weights)
    weights: dict[str, Tensor] = {}
    names = {"encoder.pre_encode.conv.0": "stem.stages.0.mixing", "encoder.pre_encode.out": "stem.out"}
    for stage in range(1, config.subsampling.bit_length() - 1):
        names[f"encoder.pre_encode.conv.{3 * stage - 1}"] = f"stem.stages.{stage}.depthwise"
        names[f"encoder.pre_encode.conv.{3 * stage}"] = f"stem.stages.{stage}.mixing"
    for layer in range(config.layers):
        prefix = f"encoder.layers.{layer}"
        names |= {f"{prefix}.{old}": f"blocks.{layer}.{new}" for old, new in _LAYER.items()}
    for old, new in names.items():
        biased = config.bias or "norm" in old or "pre_encode" in old
        for kind in ("weight", "bias") if biased else ("weight",):
            weight = reader.take(f"{old}.{kind}")
            pointwise = kind == "weight" and old.endswith(_POINTWISE)
            weights[f"{new}.{kind}"] = weight.squeeze(2) if pointwise else weight
    for layer in range(config.layers):
        attention, new = f"encoder.layers.{layer}.self_attn", f"blocks.{layer}.attention"
        for kind in ("weight", "bias") if config.bias else ("weight",):
            parts = [reader.take(f"{attention}.linear_{part}.{kind}") for part in "qkv"]
            weights[f"{new}.qkv.{kind}"] = torch.cat(parts)
        weights[f"{new}.position.weight"] = reader.take(f"{attention}.linear_pos.weight")
        weights[f"{new}.content_bias_HK"] = reader.take(f"{attention}.pos_bias_u")
        weights[f"{new}.position_bias_HK"] = reader.take(f"{attention}.pos_bias_v")
    weights["head.weight"] = reader.take(f"{head}.decoder_layers.0.weight").squeeze(2)
    weights["head.bias"] = reader.take(f"{head}.decoder_layers.0.bias")
    if rest := [name for name in nemo_weights if name.startswith("encoder.") and name not in reader.taken]:
        raise ModelError(
            f"the encoder has {len(rest)} weights that its configuration does not explain: {', '.join(rest[:3])}"
        )
    return weights


class _TrackingReader:
    """Reads weights by name and remembers which were read."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._weights = weights
        self.taken: set[str] = set()

    def take(self, name: str) -> Tensor:
        if name not in self._weights:
            raise ModelError(f"the checkpoint has no weight {name}, which its configuration requires")
        self.taken.add(name)
        return self._weights[name].float()
