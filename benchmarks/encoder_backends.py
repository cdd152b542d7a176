"""PyTorch against ONNX Runtime, in float32 and with 8-bit weights, step by step on this machine's CPU.

    python benchmarks/encoder_backends.py --models en-small --sizes fastconformer-medium --threads 1
    python benchmarks/encoder_backends.py --sizes fastconformer-small --threads 2 --backends onnxruntime --rounds 7

Each of --models and, with random weights, each of --sizes is made a graph in a temporary folder, and all backends
step through the same sound in turn, round after round: whatever else the machine does falls on all of them. Prints
medians of CPU seconds for a second of audio, over all threads, the median over rounds of the ratio to PyTorch, with
several threads that of the wall clock's seconds, too, and how far the log-probs of any step were from PyTorch's; then
one JSON line last. The encoder alone: no front end, no decoder.
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

import torch
from encoder_cost import FRAME_MS, SIZES, Case, build
from rich.console import Console
from rich.table import Table
from torch import Tensor

from streamasr.acoustic import AnyEncoder, AnyStreamingEncoder, load_encoder, save_encoder
from streamasr.acoustic.onnx.export import write_graph
from streamasr.acoustic.onnx.graph import trace
from streamasr.acoustic.onnx.runtime import OnnxEncoder
from streamasr.config import EncoderConfig
from streamasr.errors import StreamasrError
from streamasr.recognition.backend import WEIGHTS_FILE
from streamasr.recognition.model import read_model_config, resolve_model
from streamasr.units import MS_PER_SECOND

TORCH = "torch"
GRAPHS = {"onnxruntime": False, "onnxruntime-int8": True}
"""Backends that run an exported graph, and whether its weights are in 8 bits."""
SPREAD = 1.5
"""Standard deviation of random weights, times the root of how many a product sums up."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One backend on one kind of step."""

    case: Case
    backend: str
    cpu_s_per_audio_s: float
    wall_ratio: float
    """Of the wall clock's seconds to PyTorch's, the median over rounds."""
    cpu_ratio: float
    furthest: float
    """The largest difference of a log-prob from PyTorch's, in any step."""


def write_graphs(weights: Path, config: EncoderConfig, names: Sequence[str]) -> AnyEncoder:
    """Write the encoder's graphs beside its weights; the encoder itself."""
    from safetensors import safe_open

    with safe_open(weights, "pt") as file:
        vocab_size = file.get_slice("head.weight").get_shape()[0]
    encoder = load_encoder(config, weights, vocab_size)
    if names:
        traced = trace(encoder, config.n_mels)
        for name in names:
            write_graph(
                traced, encoder, config, weights, weights.with_name(f"{name}.onnx"), int8=GRAPHS[name]
            )
    return encoder


@torch.inference_mode()
def measure(
    name: str, made: dict[str, AnyStreamingEncoder], config: EncoderConfig, batches: list[int], rounds: int
) -> list[Measured]:
    """Every chunk size and batch; each round is one step of every backend."""
    measured = []
    for chunk in config.chunk_frames:
        frames = chunk * config.subsampling
        for batch in batches:
            case = Case(name, frames * FRAME_MS, batch)
            audio_s = batch * case.latency_ms / MS_PER_SECOND
            lengths_B = torch.full((batch,), frames)
            states: dict[str, Any] = {backend: made[backend].initial_state(batch) for backend in made}
            cpu: dict[str, list[float]] = {backend: [] for backend in made}
            wall: dict[str, list[float]] = {backend: [] for backend in made}
            furthest = dict.fromkeys(made, 0.0)
            for turn in range(rounds + 2):
                mel_BTM = torch.randn(batch, frames, config.n_mels) * 0.5
                heard: dict[str, Tensor] = {}
                for backend, encoder in made.items():
                    began, cpu_began = time.perf_counter(), time.process_time()
                    out = encoder.step(states[backend], mel_BTM, lengths_B)
                    if turn > 1:  # The first two warm up.
                        cpu[backend].append(time.process_time() - cpu_began)
                        wall[backend].append(time.perf_counter() - began)
                    states[backend], heard[backend] = out.state, out.log_probs_BTV
                for backend, log_probs_BTV in heard.items():
                    off = (log_probs_BTV - heard[TORCH]).abs().max().item()
                    furthest[backend] = max(furthest[backend], off)
            for backend in made:
                wall_ratio, cpu_ratio = (
                    statistics.median(a / b for a, b in zip(spent[backend], spent[TORCH], strict=True))
                    for spent in (wall, cpu)
                )
                cost = statistics.median(cpu[backend]) / audio_s
                measured.append(Measured(case, backend, cost, wall_ratio, cpu_ratio, furthest[backend]))
    return measured


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="*", default=["en-small"], metavar="DIR|NAME")
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=[])
    parser.add_argument(
        "--backends", nargs="*", choices=GRAPHS, default=list(GRAPHS), help="beside PyTorch (all by default)"
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
                config = lay_out(name, weights)
                encoder = write_graphs(weights, config, args.backends)
                for threads in args.threads:
                    torch.set_num_threads(threads)
                    made: dict[str, AnyStreamingEncoder] = {TORCH: encoder}
                    made |= {
                        graph: OnnxEncoder(weights.with_name(f"{graph}.onnx"), threads)
                        for graph in args.backends
                    }
                    measured = measure(name, made, config, args.batches, args.rounds)
                    show(measured, args.batches, name, threads)
                    rows += [{"threads": threads, **asdict(row)} for row in measured]
    except StreamasrError as error:
        print(f"encoder_backends: {error.message}", file=sys.stderr)
        return 1
    print(json.dumps({"benchmark": "encoder_backends", "rows": rows}))
    return 0


def lay_out(name: str, weights: Path) -> EncoderConfig:
    """Put the weights of a size or of a model there; its encoder's configuration."""
    if name in SIZES:
        config = SIZES[name]()
        encoder = build(config)
        for weight in encoder.parameters():
            if (
                weight.dim() > 1
            ):  # Large enough for backends to differ by what they would differ by after training.
                weight.normal_(0.0, SPREAD / weight[0].numel() ** 0.5)
        save_encoder(encoder, weights)
        return config
    folder = resolve_model(name)
    weights.write_bytes((folder / WEIGHTS_FILE).read_bytes())
    return read_model_config(folder).encoder


def show(measured: list[Measured], batches: list[int], name: str, threads: int) -> None:
    """A table: CPU seconds for a second of audio, and in brackets the ratio to PyTorch's; the largest difference."""
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
