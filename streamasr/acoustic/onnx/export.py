"""Export an encoder to an ONNX file, and write it only if it agrees with the encoder."""

from __future__ import annotations

import copy
import dataclasses
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from torch import Tensor

from streamasr.acoustic.base import AnyEncoder
from streamasr.acoustic.onnx.agreement import LOG_PROB_TOLERANCE, PROBABILITY_TOLERANCE, Agreement, compare
from streamasr.acoustic.onnx.graph import TracedStep, trace
from streamasr.acoustic.onnx.quantise import quantise_weights
from streamasr.acoustic.onnx.runtime import METADATA_KEY, GraphInfo, OnnxEncoder
from streamasr.acoustic.onnx.weights import refer_to_weights
from streamasr.config import EncoderConfig
from streamasr.errors import ModelError


def export_encoder(
    encoder: AnyEncoder,
    config: EncoderConfig,
    weights: Path,
    out: Path,
    mel_FM: Tensor,
    *,
    int8: bool = False,
) -> Agreement:
    """Write the encoder's streaming step to ``out`` as ONNX, and return how it agrees with the encoder.

    A float32 graph refers to the file ``weights`` by name: that file must be in the folder of ``out`` whenever the
    graph is loaded. In int8 they are part of the graph.

    Args:
        encoder: on the CPU, with the weights of ``weights``.
        config: its configuration.
        weights: its safetensors file.
        out: file to write; nothing is written before the check is passed.
        mel_FM: mel frames of some seconds of audio, for the check.
        int8: quantise the weights. There is no tolerance then; compare error rates.

    Raises:
        ModelError: the encoder cannot be exported, or the graph disagrees with it.
        ConfigError: the packages for exporting or running graphs are not installed.
    """
    traced = trace(encoder, config.n_mels)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as folder:
        graph = Path(folder) / out.name
        write_graph(traced, encoder, config, weights, graph, int8=int8)
        if not int8:
            _link_or_copy(weights, Path(folder) / weights.name)
        exact = copy.deepcopy(encoder).double()
        agreement = compare(exact, OnnxEncoder(graph), mel_FM)
        if not agreement.within_tolerance and not int8:
            raise ModelError(
                f"the exported graph's log-probs are up to {agreement.worst:.2g} off (at most "
                f"{LOG_PROB_TOLERANCE:.2g} allowed), its probabilities up to {agreement.worst_probability:.2g} "
                f"(at most {PROBABILITY_TOLERANCE:.2g}); nothing was written"
            )
        graph.replace(out)
    return agreement


def write_graph(
    traced: TracedStep,
    encoder: AnyEncoder,
    config: EncoderConfig,
    weights: Path,
    out: Path,
    *,
    int8: bool = False,
) -> None:
    """Write a traced encoder without a check; for the arguments see :func:`export_encoder`.

    Raises:
        ModelError: the weights are not those that the graph names.
        ConfigError: the packages for exporting are not installed.
    """
    model = traced.program.model_proto
    info = GraphInfo(
        encoder=dataclasses.asdict(config),
        subsampling=encoder.subsampling,
        left_padding_frames=encoder.left_padding_frames,
        hops_per_chunk=encoder.hops_per_chunk,
        chunk_frames=encoder.chunk_frames,
        parameters=sum(weight.numel() for weight in encoder.parameters()),
        precision="int8" if int8 else "float32",
    )
    if int8:
        model = quantise_weights(model)
    else:
        table = refer_to_weights(model, weights)
        info = dataclasses.replace(info, weights_file=weights.name, weights_table=table)
    _strip_source_locations(model)
    model.metadata_props.add(key=METADATA_KEY, value=info.to_json())
    out.write_bytes(model.SerializeToString())


def _strip_source_locations(model: Any) -> None:
    """Remove the source locations that the exporter adds to every node."""
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.functions):
        del part.metadata_props[:]
        part.doc_string = ""
    for function in model.functions:
        for node in function.node:
            del node.metadata_props[:]
            node.doc_string = ""


def _link_or_copy(weights: Path, place: Path) -> None:
    """Hard-link a file, or copy it if that is not possible."""
    try:
        os.link(weights, place)
    except OSError:
        shutil.copyfile(weights, place)
