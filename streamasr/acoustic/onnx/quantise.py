"""Weights of a graph in 8 bits: ONNX Runtime's dynamic quantisation. Knows files of graphs and no encoder."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any


def quantise_weights(model: Any) -> Any:
    """The same graph with the matrices that activations are multiplied with in int8, one scale a column, in -64 … 64.

    Activations are quantised at each step by their own range, so nothing needs to be calibrated. Convolutions, the
    attention's products and all sums stay in float32.

    Args:
        model: an ``onnx.ModelProto`` with its weights inside.
    """
    import onnx
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        plain, folded, small = (str(Path(folder) / f"{name}.onnx") for name in ("plain", "folded", "small"))
        onnx.save(model, plain)
        # The quantiser looks for plain weights; transposed and cast ones must be folded to such before.
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = folded
        options.log_severity_level = 3
        onnxruntime.InferenceSession(plain, options, providers=["CPUExecutionProvider"])
        logger = logging.getLogger()
        level = logger.level
        logger.setLevel(logging.ERROR)  # It advises a preprocessing that was just done.
        try:
            quantize_dynamic(
                folded,
                small,
                op_types_to_quantize=["MatMul"],
                per_channel=True,
                weight_type=QuantType.QInt8,
                # Seven bits: processors without VNNI add pairs of products in 16 bits, which eight would overflow.
                reduce_range=True,
            )
        finally:
            logger.setLevel(level)
        return onnx.load(small)
