"""Quantise the weights of a graph to 8 bits with ONNX Runtime's dynamic quantisation."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any


def quantise_weights(model: Any) -> Any:
    """Quantise weight matrices to int8 in -64 … 64, with one scale per column.

    Activations are quantised by their range at each step, so no calibration is needed. Convolutions, the
    attention's products and all sums stay in float32.

    Args:
        model: an ``onnx.ModelProto`` that contains its weights.
    """
    import onnx
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        source, folded, quantised = (
            str(Path(folder) / f"{name}.onnx") for name in ("source", "folded", "quantised")
        )
        onnx.save(model, source)
        # The quantiser needs plain weights: transposed and cast ones are folded first.
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = folded
        options.log_severity_level = 3
        onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        logger = logging.getLogger()
        level = logger.level
        logger.setLevel(logging.ERROR)  # It recommends the preprocessing that was just done.
        try:
            quantize_dynamic(
                folded,
                quantised,
                op_types_to_quantize=["MatMul"],
                per_channel=True,
                weight_type=QuantType.QInt8,
                # Seven bits: processors without VNNI sum pairs of products in 16 bits; eight bits could overflow.
                reduce_range=True,
            )
        finally:
            logger.setLevel(level)
        return onnx.load(quantised)
