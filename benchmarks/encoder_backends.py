"""PyTorch against ONNX Runtime, in float32 and with 8-bit weights, step by step on this machine's CPU.

    python benchmarks/encoder_backends.py --models en-small --sizes fastconformer-medium --threads 1

Each of --models and, with random weights, each of --sizes is exported to a folder that is deleted afterwards (the
export checks itself), and stepped by all backends in turn, round after round: whatever else the machine does falls on
all of them. Prints medians of CPU seconds for a second of audio, over all threads, and the median over rounds of the
ratio to PyTorch; then one JSON line last. The encoder alone: no front end, no decoder.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from encoder_cost import FRAME_MS, SIZES, VOCABULARY, Case
from rich.console import Console
from rich.table import Table

from streamasr.acoustic import StreamingEncoder, build_encoder, load_encoder, save_encoder
from streamasr.acoustic.onnx.export import export_encoder
from streamasr.acoustic.onnx.runtime import OnnxEncoder
from streamasr.config import EncoderConfig
from streamasr.engine.backend import WEIGHTS_FILE
from streamasr.engine.model import read_model_config, resolve_model
from streamasr.errors import StreamasrError
from streamasr.units import MS_PER_SECOND

BACKENDS = ("torch", "onnxruntime", "onnxruntime int8")


@dataclass(frozen=True, slots=True)
class Measured:
    """One backend on one kind of step."""

    case: Case
    backend: str
    cpu_s_per_audio_s: float
    wall_ratio: float
    """Of the wall clock's seconds to PyTorch's, the median over rounds."""
    cpu_ratio: float


def encoders(weights: Path, config: EncoderConfig, folder: Path, threads: int) -> dict[str, StreamingEncoder]:
    """The encoder under every backend; graphs are written into ``folder``."""
    from safetensors import safe_open

    with safe_open(weights, "pt") as file:
        vocab_size = file.get_slice("head.weight").get_shape()[0]
    encoder = load_encoder(config, weights, vocab_size)
    made: dict[str, StreamingEncoder] = {"torch": encoder}
    mel_FM = torch.randn(1_000, config.n_mels, generator=torch.Generator().manual_seed(0)) * 0.5
    for name in BACKENDS[1:]:
        graph = folder / f"{name.replace(' ', '-')}.onnx"
        if not graph.exists():
            agreement = export_encoder(encoder, config, weights, graph, mel_FM, int8=name.endswith("int8"))
            print(f"{weights.parent.name}, {name}: {agreement}", file=sys.stderr)
        made[name] = OnnxEncoder(graph, threads)
    return made


@torch.inference_mode()
def measure(
    name: str, made: dict[str, StreamingEncoder], config: EncoderConfig, batches: list[int], rounds: int
) -> list[Measured]:
    """Every chunk size and batch; each round is one step of every backend."""
    measured = []
    for chunk in config.chunk_frames:
        frames = chunk * config.subsampling
        for batch in batches:
            case = Case(name, frames * FRAME_MS, batch)
            audio_s = batch * case.latency_ms / MS_PER_SECOND
            mel_BTM = torch.randn(batch, frames, config.n_mels)
            lengths_B = torch.full((batch,), frames)
            states: dict[str, Any] = {backend: made[backend].initial_state(batch) for backend in made}
            cpu: dict[str, list[float]] = {backend: [] for backend in made}
            wall: dict[str, list[float]] = {backend: [] for backend in made}
            for turn in range(rounds + 2):
                for backend, encoder in made.items():
                    began, cpu_began = time.perf_counter(), time.process_time()
                    states[backend] = encoder.step(states[backend], mel_BTM, lengths_B).state
                    if turn > 1:  # The first two warm up.
                        cpu[backend].append(time.process_time() - cpu_began)
                        wall[backend].append(time.perf_counter() - began)
            for backend in made:
                ratios = [
                    statistics.median(a / b for a, b in zip(spent[backend], spent["torch"], strict=True))
                    for spent in (wall, cpu)
                ]
                measured.append(Measured(case, backend, statistics.median(cpu[backend]) / audio_s, *ratios))
    return measured


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="*", default=["en-small"], metavar="DIR|NAME")
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=[])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    try:
        for threads in args.threads:
            torch.set_num_threads(threads)
            for name in (*args.models, *args.sizes):
                with tempfile.TemporaryDirectory() as scratch:
                    folder = Path(scratch)
                    if name in SIZES:
                        config, weights = SIZES[name](), folder / WEIGHTS_FILE
                        torch.manual_seed(0)
                        save_encoder(build_encoder(config, VOCABULARY[config.family]), weights)
                    else:
                        config = read_model_config(resolve_model(name)).encoder
                        weights = folder / WEIGHTS_FILE
                        weights.write_bytes((resolve_model(name) / WEIGHTS_FILE).read_bytes())
                    made = encoders(weights, config, folder, threads)
                    measured = measure(name, made, config, args.batches, args.rounds)
                show(measured, args.batches, f"{name}, {threads} thread{'s' * (threads > 1)}")
                rows += [{"threads": threads, **asdict(row)} for row in measured]
    except StreamasrError as error:
        print(f"encoder_backends: {error.message}", file=sys.stderr)
        return 1
    print(json.dumps({"benchmark": "encoder_backends", "rows": rows}))
    return 0


def show(measured: list[Measured], batches: list[int], title: str) -> None:
    """A table: CPU seconds for a second of audio, and in brackets the ratio to PyTorch's."""
    table = Table("chunk", "backend", *(f"batch {batch}" for batch in batches), title=title)
    for latency in dict.fromkeys(row.case.latency_ms for row in measured):
        for backend in BACKENDS:
            cells = (
                f"{row.cpu_s_per_audio_s:.4f} ({row.cpu_ratio:.2f})"
                for row in measured
                if (row.case.latency_ms, row.backend) == (latency, backend)
            )
            table.add_row(f"{latency} ms", backend, *cells)
    Console(width=100).print(table)


if __name__ == "__main__":
    sys.exit(main())
