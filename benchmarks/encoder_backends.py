"""Compare PyTorch, ONNX Runtime and the native step, in each precision, step by step on this machine's CPU.

    python benchmarks/encoder_backends.py --models en-small --sizes fastconformer-medium --threads 1
    python benchmarks/encoder_backends.py --sizes fastconformer-small --threads 2 --backends onnxruntime --rounds 7

Each of --models and, with random weights, each of --sizes is exported to a temporary folder. All backends step
through the same mel frames in turn, round after round, so that other load on the machine affects all of them. The
states of streams are in slots, as in the daemon.
Prints the median CPU seconds per second of audio over all threads, the median ratio to PyTorch over rounds (with
several threads also of wall-clock time), and the largest difference of log-probs from PyTorch's; then one JSON
line. Measures the encoder only, without front end and decoder.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from encoder_cost import FRAME_MS, SIZES, StepCase, build
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from streamasr.acoustic import AnyEncoder, AnyStreamingEncoder, load_encoder, save_encoder
from streamasr.acoustic.in_place import load_native_encoder, supported_precisions
from streamasr.acoustic.interface import EncoderSlots, InPlaceEncoder
from streamasr.acoustic.onnx.export import write_graph
from streamasr.acoustic.onnx.graph import trace
from streamasr.acoustic.onnx.runtime import OnnxEncoder
from streamasr.config import EncoderConfig, Precision
from streamasr.errors import StreamasrError
from streamasr.recognition.backend import WEIGHTS_FILE
from streamasr.recognition.model import read_model_config, resolve_model
from streamasr.recognition.slots import CopiedSlots
from streamasr.units import MS_PER_SECOND

TORCH = "torch"
GRAPHS = {"onnxruntime": False, "onnxruntime-int8": True}
"""Backends that run an exported graph, and whether its weights have 8 bits."""
NATIVE: dict[str, Precision] = {f"native-{precision}": precision for precision in supported_precisions()}
"""Backends that are the native step, and its precision."""
SPREAD = 1.5
"""Standard deviation of random weights, times the square root of the inputs of a sum."""


@dataclass(frozen=True, slots=True)
class BackendResult:
    """The measurements of one backend in one case."""

    case: StepCase
    backend: str
    cpu_s_per_audio_s: float
    wall_ratio: float
    """Wall-clock time divided by PyTorch's, the median over rounds."""
    cpu_ratio: float
    furthest: float
    """Largest difference of a log-prob from PyTorch's in any step."""


def load_encoders(
    weights: Path, config: EncoderConfig, names: Sequence[str], threads: int
) -> dict[str, AnyStreamingEncoder]:
    """Load PyTorch's encoder and those of ``names``; write the graphs beside the weights if they are missing."""
    from safetensors import safe_open

    with safe_open(weights, "pt") as file:
        vocab_size = file.get_slice("head.weight").get_shape()[0]
    encoder: AnyEncoder = load_encoder(config, weights, vocab_size)
    encoders: dict[str, AnyStreamingEncoder] = {TORCH: encoder}
    traced = None
    for name in names:
        if name in NATIVE:
            encoders[name] = load_native_encoder(
                config, weights, vocab_size, lambda: encoder, precision=NATIVE[name], threads=threads
            )
            continue
        graph = weights.with_name(f"{name}.onnx")
        if not graph.is_file():
            traced = traced or trace(encoder, config.n_mels)
            write_graph(traced, encoder, config, weights, graph, int8=GRAPHS[name])
        encoders[name] = OnnxEncoder(graph, threads)
    return encoders


def open_slots(encoder: AnyStreamingEncoder, slots: int) -> EncoderSlots:
    """Return the slots that the daemon would open."""
    return (
        encoder.open_slots(slots)
        if isinstance(encoder, InPlaceEncoder)
        else CopiedSlots(encoder, slots, "cpu")
    )


@torch.inference_mode()
def measure(
    name: str,
    encoders: dict[str, AnyStreamingEncoder],
    config: EncoderConfig,
    batches: list[int],
    *,
    rounds: int,
    chunks: Sequence[int],
) -> list[BackendResult]:
    """Measure every chunk size and batch size; each round is one step of every backend."""
    measured = []
    for chunk in chunks:
        frames = chunk * config.subsampling
        for batch in batches:
            case = StepCase(name, frames * FRAME_MS, batch)
            audio_s = batch * case.latency_ms / MS_PER_SECOND
            lengths_B = np.full(batch, frames)
            slots = {backend: open_slots(encoder, batch) for backend, encoder in encoders.items()}
            for slot in range(batch):
                for one in slots.values():
                    one.reset(slot)
            cpu: dict[str, list[float]] = {backend: [] for backend in encoders}
            wall: dict[str, list[float]] = {backend: [] for backend in encoders}
            furthest = dict.fromkeys(encoders, 0.0)
            for turn in range(rounds + 2):
                mel_BTM = (torch.randn(batch, frames, config.n_mels) * 0.5).numpy()
                log_probs: dict[str, NDArray[np.floating[Any]]] = {}
                for backend in encoders:
                    began, cpu_began = time.perf_counter(), time.process_time()
                    log_probs[backend], frames_B = slots[backend].step(range(batch), mel_BTM, lengths_B)
                    if turn > 1:  # The first two turns warm up.
                        cpu[backend].append(time.process_time() - cpu_began)
                        wall[backend].append(time.perf_counter() - began)
                for backend, log_probs_BTV in log_probs.items():
                    off = np.abs(log_probs_BTV - log_probs[TORCH])[:, : frames_B[0]].max()
                    furthest[backend] = max(furthest[backend], float(off))
            for backend in encoders:
                wall_ratio, cpu_ratio = (
                    statistics.median(a / b for a, b in zip(spent[backend], spent[TORCH], strict=True))
                    for spent in (wall, cpu)
                )
                cost = statistics.median(cpu[backend]) / audio_s
                measured.append(BackendResult(case, backend, cost, wall_ratio, cpu_ratio, furthest[backend]))
    return measured


def main() -> int:
    """Run the measurements and print the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="*", default=["en-small"], metavar="DIR|NAME")
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=[])
    parser.add_argument(
        "--backends",
        nargs="*",
        choices=[*GRAPHS, *NATIVE],
        default=[*GRAPHS, *NATIVE],
        help="besides PyTorch (default: all)",
    )
    parser.add_argument(
        "--chunks", nargs="+", type=int, metavar="N", help="in encoder frames (default: the model's)"
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    try:
        for name in (*args.models, *args.sizes):
            with tempfile.TemporaryDirectory() as scratch:
                weights = Path(scratch) / WEIGHTS_FILE
                config = prepare_weights(name, weights)
                for threads in args.threads:
                    torch.set_num_threads(threads)
                    encoders = load_encoders(weights, config, args.backends, threads)
                    chunks = args.chunks or config.chunk_frames
                    measured = measure(
                        name, encoders, config, args.batches, rounds=args.rounds, chunks=chunks
                    )
                    show(measured, args.batches, name, threads)
                    rows += [{"threads": threads, **asdict(row)} for row in measured]
    except StreamasrError as error:
        print(f"encoder_backends: {error.message}", file=sys.stderr)
        return 1
    print(json.dumps({"benchmark": "encoder_backends", "rows": rows}))
    return 0


def prepare_weights(name: str, weights: Path) -> EncoderConfig:
    """Write the weights of a size or of a model to ``weights``; return the encoder's configuration."""
    if name in SIZES:
        config = SIZES[name]()
        encoder = build(config)
        for weight in encoder.parameters():
            if weight.dim() > 1:
                # Large enough to give the differences between backends that trained weights give.
                weight.normal_(0.0, SPREAD / weight[0].numel() ** 0.5)
        save_encoder(encoder, weights)
        return config
    folder = resolve_model(name)
    weights.write_bytes((folder / WEIGHTS_FILE).read_bytes())
    return read_model_config(folder).encoder


def show(measured: list[BackendResult], batches: list[int], name: str, threads: int) -> None:
    """Print a table: CPU seconds per second of audio with the ratio to PyTorch's in brackets; largest difference."""
    title = f"{name}, {threads} thread{'s' * (threads > 1)}"
    table = Table("chunk", "backend", *(f"batch {batch}" for batch in batches), "log-probs off", title=title)
    for latency, backend in dict.fromkeys((row.case.latency_ms, row.backend) for row in measured):
        rows = [row for row in measured if (row.case.latency_ms, row.backend) == (latency, backend)]
        cells = (
            f"{row.cpu_s_per_audio_s:.4f} ({row.cpu_ratio:.2f}"
            + (f", wall {row.wall_ratio:.2f})" if threads > 1 else ")")
            for row in rows
        )
        table.add_row(f"{latency} ms", backend, *cells, f"{max(row.furthest for row in rows):.1e}")
    Console(width=110).print(table)


if __name__ == "__main__":
    sys.exit(main())
