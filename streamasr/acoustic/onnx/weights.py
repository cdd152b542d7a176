"""Make an ONNX graph refer to the weights in the safetensors file beside it.

ONNX allows tensors in other files, by offset and length (``external_data`` in onnx.proto). A safetensors file holds
a table of offsets, and after it the tensors in a row. So a model has one weights file for both. Half-precision
weights are cast in the graph, once, when a runtime loads it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamasr.acoustic.onnx.graph import WEIGHTS_PREFIX
from streamasr.errors import ModelError

_LENGTH_BYTES = 8
"""The file begins with the length of its table, little-endian."""
_MAX_TABLE_BYTES = 100_000_000
"""The limit of the format's own reader; a longer table means that the file is damaged."""
_STORED = ".stored"


@dataclass(frozen=True, slots=True)
class WeightsTable:
    """The table at the beginning of a safetensors file (its header)."""

    tensors: dict[str, Any]
    """Name to ``dtype``, ``shape`` and ``data_offsets``; offsets count from the end of the table."""
    data_start: int
    """Offset of the first tensor in bytes."""
    digest: str
    """SHA-256 of the table and of where it ends, in hexadecimal: equal if all tensors have the same offsets."""


def read_table(path: Path) -> WeightsTable:
    """Read the table of a safetensors file.

    Raises:
        ModelError: the file is missing or damaged.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if not 0 < length <= _MAX_TABLE_BYTES:
                raise ValueError(f"a table of {length} bytes")
            raw = file.read(length)
        table = json.loads(raw)
        table.pop("__metadata__", None)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; the graph beside it needs the weights in it") from None
    except (ValueError, AttributeError) as error:
        raise ModelError(f"{path}: not a readable safetensors file: {error}") from None
    data_start = _LENGTH_BYTES + length
    # Offsets in the table count from its end, those in a graph from the beginning of the file.
    offsets = json.dumps([data_start, table], sort_keys=True)
    return WeightsTable(table, data_start, hashlib.sha256(offsets.encode()).hexdigest())


def refer_to_weights(model: Any, weights: Path) -> str:
    """Replace the graph's weights by references into the safetensors file ``weights`` in the graph's folder.

    Args:
        model: an ``onnx.ModelProto`` that contains its weights; changed in place.
        weights: the file that the encoder was loaded from.

    Returns:
        The digest of the file's table; the graph fits every file with the same digest.

    Raises:
        ModelError: the file lacks a weight, or has a data type that ONNX does not support.
    """
    from onnx import TensorProto, helper

    onnx_types = {"F16": TensorProto.FLOAT16, "BF16": TensorProto.BFLOAT16, "F32": TensorProto.FLOAT}
    table = read_table(weights)
    casts = []
    for tensor in model.graph.initializer:
        name = tensor.name.removeprefix(WEIGHTS_PREFIX)
        if name == tensor.name or name not in table.tensors:
            continue
        entry = table.tensors[name]
        if entry["dtype"] not in onnx_types or list(tensor.dims) != entry["shape"]:
            raise ModelError(
                f"{weights}: {name} is {entry['dtype']} {entry['shape']}, not {list(tensor.dims)}"
            )
        if entry["dtype"] != "F32":
            casts.append(
                helper.make_node("Cast", [tensor.name + _STORED], [tensor.name], to=TensorProto.FLOAT)
            )
            tensor.name += _STORED
        first, end = entry["data_offsets"]
        location = {"location": weights.name, "offset": table.data_start + first, "length": end - first}
        tensor.ClearField("raw_data")
        tensor.data_type = onnx_types[entry["dtype"]]
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in location.items():
            tensor.external_data.add(key=key, value=str(value))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return table.digest
