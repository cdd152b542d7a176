"""Measure the cost of a step of each encoder family and size, with random weights.

    python benchmarks/encoder_cost.py --sizes whisper-base fastconformer-medium --batches 1 4 16
    python benchmarks/encoder_cost.py --device cuda --sizes fastconformer-large --batches 64 256 1024 \\
      --dtype bfloat16 --peak-tflops 989 --bandwidth-gb 4800

On a CPU: CPU seconds for a second of audio, over all threads; medians of rounds in which every case takes one step,
so that whatever else the machine does falls on all of them. On a GPU: streams at real time that the encoder's steps
alone would allow, with and without CUDA graphs, beside the device's floor: the time that the step's arithmetic and
the bytes of weights and states would take at the peaks that --peak-tflops and --bandwidth-gb name. Prints a table,
then one JSON line last.
"""

from __future__ import annotations

import argparse
import importlib.resources
import json
import statistics
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from streamasr.acoustic import AnyEncoder, build_encoder
from streamasr.config import EncoderConfig, FastConformerEncoderConfig, WhisperEncoderConfig
from streamasr.toml import from_mapping
from streamasr.units import MS_PER_SECOND

FRAME_MS = 10
"""Length of a mel frame."""
VOCABULARY = {"whisper": 29, "fastconformer": 1025}
"""Tokens: characters for the one family, word pieces for the other."""


def _whisper(dim: int, heads: int, layers: int) -> WhisperEncoderConfig:
    return WhisperEncoderConfig(
        dim=dim, heads=heads, layers=layers, position_period_frames=1500, position_wavelength_frames=0
    )


def _recipe(size: str) -> FastConformerEncoderConfig:
    recipes = importlib.resources.files("streamasr.training") / "recipes"
    text = (recipes / f"fastconformer-ctc-{size}-streaming.toml").read_text(encoding="utf-8")
    return from_mapping(FastConformerEncoderConfig, tomllib.loads(text)["encoder"])


SIZES: dict[str, Callable[[], EncoderConfig]] = {
    "whisper-tiny": lambda: _whisper(384, 6, 4),
    "whisper-base": lambda: _whisper(512, 8, 6),
    "fastconformer-small": lambda: _recipe("small"),
    "fastconformer-medium": lambda: _recipe("medium"),
    "fastconformer-large": lambda: _recipe("large"),
}
"""Name to configuration: Whisper's own sizes, and those of the recipes."""


@dataclass(frozen=True, slots=True)
class StepCase:
    """Encoder size, chunk length and batch size of a step."""

    size: str
    latency_ms: int
    batch: int


@dataclass(frozen=True, slots=True)
class StepCost:
    """The operations and bytes that a step of one stream needs on any device."""

    flops: int
    """Multiplications and additions in matrix products and convolutions."""
    state_bytes: int
    weight_bytes: int
    """Read once for the whole batch."""

    def floor_s(self, batch: int, peak_flops: float, bandwidth: float) -> float:
        """Return the least seconds of a step: at the device's peak, or at its bandwidth for weights and states."""
        moved = self.weight_bytes + 2 * batch * self.state_bytes
        return max(batch * self.flops / peak_flops, moved / bandwidth)


class Stepper:
    """Steps a batch of streams through the same chunk again and again."""

    def __init__(self, encoder: AnyEncoder, n_mels: int, chunk: int, batch: int) -> None:
        weight = encoder.head.weight
        self.encoder = encoder
        self.mel_BTM: Tensor = torch.randn(batch, chunk * encoder.subsampling, n_mels).to(weight)
        self.lengths_B = torch.full((batch,), self.mel_BTM.shape[1], device=weight.device)
        self.state: Any = encoder.initial_state(batch)

    def __call__(self) -> Tensor:
        """Take one step of all streams."""
        out = self.encoder.step(self.state, self.mel_BTM, self.lengths_B)
        self.state = out.state
        return out.log_probs_BTV


def build(config: EncoderConfig) -> AnyEncoder:
    """Return the encoder with random weights, ready to step."""
    torch.manual_seed(0)
    return build_encoder(config, VOCABULARY[config.family]).eval().requires_grad_(False)


@torch.inference_mode()
def count_flops(stepper: Stepper) -> int:
    """Count the FLOPs of one step, without positions, which are computed once for all steps."""
    stepper()
    # The counter does not support fused attention on a CPU.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        stepper()
    return int(counter.get_total_flops())


def count_step_cost(encoder: AnyEncoder, n_mels: int, chunk: int) -> StepCost:
    """Count one step of one stream, on the CPU."""
    stepper = Stepper(encoder, n_mels, chunk, batch=1)
    element = encoder.head.weight.element_size()
    return StepCost(
        flops=count_flops(stepper),
        state_bytes=sum(leaf.numel() * leaf.element_size() for leaf in stepper.state),
        weight_bytes=sum(weight.numel() for weight in encoder.parameters()) * element,
    )


def latency_ms(encoder: AnyEncoder, chunk: int) -> int:
    """Return the milliseconds of audio in a chunk."""
    return chunk * encoder.subsampling * FRAME_MS


def measure_cpu(sizes: Sequence[str], batches: Sequence[int], rounds: int) -> dict[StepCase, float]:
    """Return the CPU seconds per second of audio, by case."""
    steppers: dict[StepCase, Stepper] = {}
    for size in sizes:
        config = SIZES[size]()
        encoder = build(config)
        for chunk in encoder.chunk_frames:
            for batch in batches:
                case = StepCase(size, latency_ms(encoder, chunk), batch)
                steppers[case] = Stepper(encoder, config.n_mels, chunk, batch)
    spent: dict[StepCase, list[float]] = {case: [] for case in steppers}
    # Only here: tensors made in inference mode have no version counter, which the encoder needs of its weights.
    with torch.inference_mode():
        for turn in range(rounds + 1):
            for case, step in steppers.items():
                began = time.process_time()
                step()
                if turn:  # The first turn warms up.
                    spent[case].append(time.process_time() - began)
    return {
        case: statistics.median(times) / (case.batch * case.latency_ms / MS_PER_SECOND)
        for case, times in spent.items()
    }


@torch.inference_mode()
def measure_cuda(stepper: Stepper, rounds: int, *, graphs: bool) -> float:
    """Return the median seconds of a step on the GPU, as a CUDA graph or launched kernel by kernel."""
    for _ in range(3):
        stepper()
    run: Callable[[], object] = stepper
    if graphs:
        static: Any = type(stepper.state)(*(leaf.clone() for leaf in stepper.state))
        stepper.state = static
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            stepper()
            for leaf, new in zip(static, stepper.state, strict=True):
                leaf.copy_(new)
        run = graph.replay
    times = []
    for _ in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / MS_PER_SECOND)
    return float(statistics.median(times))


def main() -> int:
    """Run the measurements and print the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--threads", type=int, default=1, help="threads of PyTorch on a CPU (default: %(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (%(default)s)")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="data type on a GPU"
    )
    parser.add_argument(
        "--peak-tflops", type=float, help="peak of the GPU with this data type, for the lower bound"
    )
    parser.add_argument(
        "--bandwidth-gb", type=float, help="memory bandwidth of the GPU in GB/s, for the lower bound"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.device != "cpu":
        return _cuda(args)
    costs = measure_cpu(args.sizes, args.batches, args.rounds)
    table = Table("encoder", "parameters", "chunk", *(f"batch {batch}" for batch in args.batches))
    for size in args.sizes:
        encoder = build(SIZES[size]())
        count = sum(weight.numel() for weight in encoder.parameters())
        for chunk in encoder.chunk_frames:
            ms = latency_ms(encoder, chunk)
            cells = (f"{costs[StepCase(size, ms, batch)]:.4f}" for batch in args.batches)
            table.add_row(size, f"{count / 1e6:.1f} M", f"{ms} ms", *cells)
    Console(width=100).print(table)
    rows = [{**asdict(case), "cpu_s_per_audio_s": cost} for case, cost in costs.items()]
    print(json.dumps({"benchmark": "encoder_cost", "threads": args.threads, "cases": rows}))
    return 0


def _cuda(args: argparse.Namespace) -> int:
    if not torch.cuda.is_available():
        print("encoder_cost: no CUDA device here", file=sys.stderr)
        return 1
    floor_known = args.peak_tflops is not None and args.bandwidth_gb is not None
    dtype, rows = getattr(torch, args.dtype), []
    table = Table(
        "encoder", "chunk", "batch", "graph", "ms a step", "floor ms", "streams", "GFLOP", "state MB"
    )
    for size in args.sizes:
        config = SIZES[size]()
        encoder = build(config)
        costs_by_chunk = {
            chunk: count_step_cost(encoder.to(dtype), config.n_mels, chunk) for chunk in encoder.chunk_frames
        }
        encoder.to(args.device)
        for chunk, step_cost in costs_by_chunk.items():
            ms = latency_ms(encoder, chunk)
            for batch in args.batches:
                floor_s = (
                    step_cost.floor_s(batch, args.peak_tflops * 1e12, args.bandwidth_gb * 1e9)
                    if floor_known
                    else None
                )
                for graphs in (False, True):
                    stepper = Stepper(encoder, config.n_mels, chunk, batch)
                    step_s = measure_cuda(stepper, args.rounds, graphs=graphs)
                    streams = batch * ms / MS_PER_SECOND / step_s
                    rows.append(
                        {"size": size, "latency_ms": ms, "batch": batch, "graphs": graphs, "step_s": step_s}
                        | {"floor_s": floor_s, "streams": streams, **asdict(step_cost)}
                    )
                    shown = "-" if floor_s is None else f"{1e3 * floor_s:.3f}"
                    cells = (
                        f"{1e3 * step_s:.3f}",
                        shown,
                        f"{streams:.0f}",
                        f"{batch * step_cost.flops / 1e9:.1f}",
                    )
                    table.add_row(
                        size,
                        f"{ms} ms",
                        str(batch),
                        "yes" if graphs else "no",
                        *cells,
                        f"{batch * step_cost.state_bytes / 1e6:.0f}",
                    )
    Console(width=120).print(table)
    device = torch.cuda.get_device_name()
    print(json.dumps({"benchmark": "encoder_cost", "device": device, "dtype": args.dtype, "cases": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
