"""Compare the trainer's speed with the plain training loop of tutorials: same encoder, speech, machine and threads.

    python benchmarks/training_speed.py --manifests train-a/manifest.jsonl train-b/manifest.jsonl

The plain loop: utterances in random order, batched as they come and padded with zeros, every file decoded in every
epoch, features in the loop, float32, plain Adam, no worker processes. The trainer: utterances concatenated to rows
of similar length from a cache of decoded audio, automatic mixed precision in bfloat16, fused AdamW, clipping and a
moving average. Neither augments, unless ``--augment`` asks the trainer to do what the recipe ``en-small`` does.
The two take turns in one process, so that other load on the machine affects both. Padding does not count as audio.

Prints speeds and where the time goes, then one JSON line last.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from streamasr.acoustic.whisper import WhisperEncoder
from streamasr.config import FrontendConfig, WhisperEncoderConfig
from streamasr.decoding.tokens import TokenList
from streamasr.errors import StreamasrError
from streamasr.frontend.mel import LogMel
from streamasr.manifest import Utterance, read_manifest
from streamasr.media.reader import read_audio
from streamasr.training.config import (
    AugmentConfig,
    DataConfig,
    LossConfig,
    OptimConfig,
    TrainConfig,
    load_recipe,
)
from streamasr.training.distributed import ProcessGroup
from streamasr.training.objective import Objective
from streamasr.training.trainer import Trainer

SIZES = {
    "tiny": WhisperEncoderConfig(dim=384, heads=6, layers=4),
    "base": WhisperEncoderConfig(dim=512, heads=8, layers=6),
}
NO_AUGMENTATION = AugmentConfig(
    speeds=(1.0,),
    noise_probability=0.0,
    babble_probability=0.0,
    room_probability=0.0,
    band_probability=0.0,
    tilt_db=0.0,
    level_db=(0.0, 0.0),
    frequency_masks=0,
    time_masks_per_second=0.0,
)
CHUNK_FRAMES = 32
TABLE_WIDTH = 110
PHASES = ("data", "front end", "forward", "backward", "optimiser", "other")


@dataclass
class Timeline:
    """Wall seconds by phase, total wall and CPU seconds, and seconds of audio and padding processed."""

    phases: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    audio: float = 0.0
    padded: float = 0.0
    wall: float = 0.0
    cpu: float = 0.0
    _last: float = 0.0
    _began: tuple[float, float] = (0.0, 0.0)

    def start(self) -> None:
        """Start counting."""
        self._last = time.perf_counter()
        self._began = self._last, time.process_time()

    def mark(self, phase: str) -> None:
        """Add the time since the last mark to ``phase``."""
        current = time.perf_counter()
        self.phases[phase] += current - self._last
        self._last = current

    def stop(self) -> None:
        """Stop counting."""
        self.wall += time.perf_counter() - self._began[0]
        self.cpu += time.process_time() - self._began[1]

    def running(self) -> float:
        """Return the wall seconds since :meth:`start`."""
        return time.perf_counter() - self._began[0]


class PlainLoop:
    """Runs a tutorial's training loop in slices."""

    def __init__(
        self, utterances: Sequence[Utterance], config: TrainConfig, tokens: TokenList, batch: int
    ) -> None:
        torch.manual_seed(config.seed)
        self.random = random.Random(config.seed)
        self.utterances, self.tokens, self.batch = list(utterances), tokens, batch
        assert isinstance(config.frontend, FrontendConfig)
        assert isinstance(config.encoder, WhisperEncoderConfig)
        self.frontend = LogMel(config.frontend)
        self.encoder = WhisperEncoder(config.encoder, len(tokens))
        self.optimizer = torch.optim.Adam(self.encoder.parameters(), lr=config.optim.learning_rate)
        self.sample_rate = config.frontend.sample_rate
        self.frame = config.frontend.hop * config.encoder.subsampling

    def run(self, seconds: float, time_line: Timeline) -> None:
        """Train for ``seconds`` seconds."""
        time_line.start()
        while time_line.running() < seconds:
            batch = self.random.sample(self.utterances, self.batch)
            sounds = [torch.from_numpy(read_audio(u.audio, self.sample_rate)) for u in batch]
            targets = [torch.tensor(self.tokens.encode(u.text)) for u in batch]
            time_line.mark("data")
            with torch.no_grad():
                mels = [
                    self.frontend(nn.functional.pad(sound, (0, -len(sound) % self.frame))[None])[0]
                    for sound in sounds
                ]
            lengths = torch.tensor([len(mel) for mel in mels])
            padded = nn.utils.rnn.pad_sequence(mels, batch_first=True)
            time_line.mark("front end")
            log_probs, frames = self.encoder(padded, lengths, CHUNK_FRAMES)
            loss = nn.functional.ctc_loss(
                log_probs.transpose(0, 1),
                torch.cat(targets),
                frames,
                torch.tensor([len(target) for target in targets]),
                blank=self.tokens.blank,
                zero_infinity=True,
            )
            time_line.mark("forward")
            self.optimizer.zero_grad()
            loss.backward()
            time_line.mark("backward")
            self.optimizer.step()
            time_line.mark("optimiser")
            audio = sum(len(sound) for sound in sounds) / self.sample_rate
            time_line.audio += audio
            time_line.padded += padded.shape[0] * padded.shape[1] * self.frame / 2 / self.sample_rate - audio
        time_line.stop()


class AlternatingRuns:
    """Alternates slices of trainer and plain loop; the trainer's ``until``, which ends after all rounds."""

    def __init__(self, plain: PlainLoop, rounds: int, slice_seconds: float, console: Console) -> None:
        self.plain, self.rounds, self.slice_seconds, self.console = plain, rounds, slice_seconds, console
        self.trainer_slices: list[Timeline] = []
        self.plain_slices: list[Timeline] = []
        self.current: Timeline | None = None
        self.begun = 0.0
        self.trainer: Trainer | None = None

    def __call__(self) -> bool:
        """Switch between slices; called before every step. The first step is a warm-up."""
        assert self.trainer is not None
        if self.current is not None:
            self.current.mark("other")
            if self.current.running() < self.slice_seconds:
                return False
            self._end_slice(self.current)
        elif self.trainer.step == 0:
            return False
        if len(self.plain_slices) == self.rounds:
            return True
        self.current, self.begun = Timeline(), self.trainer.seconds
        self.current.start()
        return False

    def _end_slice(self, ours: Timeline) -> None:
        assert self.trainer is not None
        ours.stop()
        ours.audio = self.trainer.seconds - self.begun
        self.current = None
        theirs = Timeline()
        self.plain.run(self.slice_seconds, theirs)
        self.trainer_slices.append(ours)
        self.plain_slices.append(theirs)
        self.console.print(
            f"trainer {ours.audio / ours.wall:.1f}, plain loop {theirs.audio / theirs.wall:.1f} audio s/s"
        )

    def watch(self, trainer: Trainer) -> None:
        """Hook into the trainer's parts to mark the time that they take."""
        self.trainer = trainer
        trainer.optimizer.register_step_pre_hook(lambda *_: self._mark("backward"))
        trainer.optimizer.register_step_post_hook(lambda *_: self._mark("optimiser"))

        def before(module: nn.Module, _arguments: Any) -> None:
            if isinstance(module, LogMel | Objective):
                self._mark("data")

        def after(module: nn.Module, _arguments: Any, _result: Any) -> None:
            if isinstance(module, LogMel | Objective):
                self._mark("front end" if isinstance(module, LogMel) else "forward")

        register_module_forward_pre_hook(before)
        register_module_forward_hook(after)
        batches = trainer.speech.batches

        def batches_with_padding(*arguments: Any) -> Iterator[Any]:
            for prepared in batches(*arguments):
                if self.current is not None:
                    padding = prepared.padding_share
                    self.current.padded += prepared.seconds * padding / (1 - padding)
                yield prepared

        trainer.speech.batches = batches_with_padding  # type: ignore[method-assign, assignment]

    def _mark(self, phase: str) -> None:
        if self.current is not None:
            self.current.mark(phase)


def recipe(args: argparse.Namespace, cache: Path) -> TrainConfig:
    """Return the trainer's recipe: like en-small, from random weights, with all weights trained."""
    data = DataConfig(
        manifests=tuple(args.manifests), rows_per_batch=args.rows, row_seconds=16.0, cache=cache
    )
    augment = load_recipe("en-small").augment if args.augment else NO_AUGMENTATION
    return TrainConfig(
        name="speed",
        precision=args.precision,
        log_every_steps=10**9,
        save_every_steps=10**9,
        evaluate_every_steps=10**9,
        data=data,
        augment=augment,
        loss=LossConfig(consistency=0.0),
        optim=OptimConfig(steps=10**9, freeze_encoder_steps=0, train_stem=True),
        encoder=SIZES[args.size],
    )


def main() -> int:
    """Run the comparison and print the results; return 1 if the data cannot be used."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--manifests", type=Path, nargs="+", required=True, metavar="FILE", help="transcribed speech"
    )
    parser.add_argument("--size", choices=tuple(SIZES), default="tiny", help="of the encoder (%(default)s)")
    parser.add_argument("--rows", type=int, default=4, help="of 16 s in a trainer's batch (%(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="utterances in a plain batch (%(default)s)")
    parser.add_argument("--rounds", type=int, default=6, help="runs of each (%(default)s)")
    parser.add_argument("--slice-seconds", type=float, default=30.0, help="length of a turn (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch, for both (%(default)s)")
    parser.add_argument("--precision", default="bfloat16", help="the trainer's (%(default)s)")
    parser.add_argument("--augment", action="store_true", help="the trainer augments as en-small does")
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="decoded sound, kept (default: a temporary folder)"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    console = Console(stderr=True)
    try:
        with tempfile.TemporaryDirectory() as name:
            config = recipe(args, args.cache or Path(name) / "cache")
            utterances = [u for manifest in args.manifests for u in read_manifest(manifest)]
            trainer = Trainer(
                config, Path(name) / "run", ProcessGroup.from_environment("cpu"), lambda _event: None
            )
            plain = PlainLoop(utterances, config, trainer.tokenizer.tokens, args.batch)
            runs = AlternatingRuns(plain, args.rounds, args.slice_seconds, console)
            runs.watch(trainer)
            trainer.train(until=runs)
    except StreamasrError as error:
        print(f"training_speed: {error.message}", file=sys.stderr)
        return 1
    print_results(args, runs)
    return 0


def print_results(args: argparse.Namespace, runs: AlternatingRuns) -> None:
    """Print medians over the slices; ratios are medians over pairs of slices."""
    sides = {"trainer": runs.trainer_slices, "plain loop": runs.plain_slices}
    table = Table(
        "", "audio s/s", "audio s/CPU s", "padding", *PHASES, title="share of the wall time by phase"
    )
    figures: dict[str, Any] = {}
    for name, lines in sides.items():
        wall = sum(line.wall for line in lines)
        shares = {phase: sum(line.phases[phase] for line in lines) / wall for phase in PHASES}
        padded, audio = (sum(getattr(line, what) for line in lines) for what in ("padded", "audio"))
        figures[name] = {
            "speed": statistics.median(line.audio / line.wall for line in lines),
            "cpu_speed": statistics.median(line.audio / line.cpu for line in lines),
            "padding_share": padded / (padded + audio),
            "phases": shares,
            "ms_per_audio_second": {phase: 1000 * wall * shares[phase] / audio for phase in PHASES},
        }
        measured = figures[name]
        table.add_row(
            name,
            f"{measured['speed']:.1f}",
            f"{measured['cpu_speed']:.1f}",
            f"{measured['padding_share']:.0%}",
            *(f"{shares[phase]:.0%}" for phase in PHASES),
        )
    pairs = list(zip(runs.trainer_slices, runs.plain_slices, strict=True))
    ratios = {
        "wall": statistics.median((a.audio / a.wall) / (b.audio / b.wall) for a, b in pairs),
        "cpu": statistics.median((a.audio / a.cpu) / (b.audio / b.cpu) for a, b in pairs),
    }
    console = Console(width=TABLE_WIDTH)
    console.print(table)
    console.print(
        f"trainer / plain loop: {ratios['wall']:.2f} by the wall clock, {ratios['cpu']:.2f} by CPU time"
    )
    settings = {
        name: getattr(args, name) for name in ("size", "rows", "batch", "threads", "precision", "augment")
    }
    print(
        json.dumps(
            {"benchmark": "training_speed", **settings, "rounds": len(pairs), "ratio": ratios, **figures}
        )
    )


if __name__ == "__main__":
    sys.exit(main())
