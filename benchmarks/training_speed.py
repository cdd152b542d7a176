"""The trainer's speed beside the plain loop that tutorials show: the same encoder, speech, machine and threads.

    python benchmarks/training_speed.py --manifests train-a/manifest.jsonl train-b/manifest.jsonl

The plain loop: utterances in random order, batched as they come and padded with zeros, every file decoded each time
it is heard, features in the loop, float32, plain Adam, no worker processes. The trainer: utterances strung together
to rows of like length from the decoded cache, automatic mixed precision in bfloat16, fused AdamW, clipping and a
moving average. Neither augments, unless ``--augment`` asks the trainer to do what the recipe ``en-small`` does.
The two take turns in one process, so that a busy machine hurts both alike. What counts is audio without padding.

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

from streamasr.acoustic import build_encoder
from streamasr.config import WhisperEncoderConfig
from streamasr.decoding.tokens import TokenList
from streamasr.errors import StreamasrError
from streamasr.frontend.build import build_frontend
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
SILENT = AugmentConfig(
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
    """Wall seconds by phase, wall and CPU seconds in all, and the audio that they bought."""

    phases: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    audio: float = 0.0
    padded: float = 0.0
    wall: float = 0.0
    cpu: float = 0.0
    _last: float = 0.0
    _began: tuple[float, float] = (0.0, 0.0)

    def start(self) -> None:
        """Count from now on."""
        self._last = time.perf_counter()
        self._began = self._last, time.process_time()

    def mark(self, phase: str) -> None:
        """What was done since the last mark was ``phase``."""
        now = time.perf_counter()
        self.phases[phase] += now - self._last
        self._last = now

    def stop(self) -> None:
        """Count no longer."""
        self.wall += time.perf_counter() - self._began[0]
        self.cpu += time.process_time() - self._began[1]

    def running(self) -> float:
        """Wall seconds since :meth:`start`."""
        return time.perf_counter() - self._began[0]


class PlainLoop:
    """What a tutorial's training loop does, in slices."""

    def __init__(
        self, utterances: Sequence[Utterance], config: TrainConfig, tokens: TokenList, batch: int
    ) -> None:
        torch.manual_seed(config.seed)
        self.random = random.Random(config.seed)
        self.utterances, self.tokens, self.batch = list(utterances), tokens, batch
        self.frontend = build_frontend(config.frontend)
        self.encoder = build_encoder(config.encoder, len(tokens))
        self.optimizer = torch.optim.Adam(self.encoder.parameters(), lr=config.optim.learning_rate)
        self.sample_rate = config.frontend.sample_rate
        self.frame = config.frontend.hop * config.encoder.subsampling

    def run(self, seconds: float, time_line: Timeline) -> None:
        """Train for so long."""
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


class Turns:
    """The trainer's ``until``: after each of its slices the plain loop has one; ends when there were enough."""

    def __init__(self, plain: PlainLoop, rounds: int, slice_seconds: float, console: Console) -> None:
        self.plain, self.rounds, self.slice_seconds, self.console = plain, rounds, slice_seconds, console
        self.ours: list[Timeline] = []
        self.theirs: list[Timeline] = []
        self.now: Timeline | None = None
        self.begun = 0.0
        self.trainer: Trainer | None = None

    def __call__(self) -> bool:
        """Called before every step; the first step of all is left out as a warm-up."""
        assert self.trainer is not None
        if self.now is not None:
            self.now.mark("other")
            if self.now.running() < self.slice_seconds:
                return False
            self._end_slice(self.now)
        elif self.trainer.step == 0:
            return False
        if len(self.theirs) == self.rounds:
            return True
        self.now, self.begun = Timeline(), self.trainer.seconds
        self.now.start()
        return False

    def _end_slice(self, ours: Timeline) -> None:
        assert self.trainer is not None
        ours.stop()
        ours.audio = self.trainer.seconds - self.begun
        self.now = None
        theirs = Timeline()
        self.plain.run(self.slice_seconds, theirs)
        self.ours.append(ours)
        self.theirs.append(theirs)
        self.console.print(
            f"trainer {ours.audio / ours.wall:.1f}, plain loop {theirs.audio / theirs.wall:.1f} audio s/s"
        )

    def watch(self, trainer: Trainer) -> None:
        """Have the trainer's parts mark the time they took."""
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

        def noted(*arguments: Any) -> Iterator[Any]:
            for prepared in batches(*arguments):
                if self.now is not None:
                    padding = prepared.padding_share
                    self.now.padded += prepared.seconds * padding / (1 - padding)
                yield prepared

        trainer.speech.batches = noted  # type: ignore[method-assign,assignment]  # counts around the method

    def _mark(self, phase: str) -> None:
        if self.now is not None:
            self.now.mark(phase)


def recipe(args: argparse.Namespace, cache: Path) -> TrainConfig:
    """The trainer's side: en-small's form, from random weights, everything learning."""
    data = DataConfig(
        manifests=tuple(args.manifests), rows_per_batch=args.rows, row_seconds=16.0, cache=cache
    )
    augment = load_recipe("en-small").augment if args.augment else SILENT
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
    """Measure and print; 1 where the data cannot be used."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--manifests", type=Path, nargs="+", required=True, metavar="FILE", help="transcribed speech"
    )
    parser.add_argument("--size", choices=tuple(SIZES), default="tiny", help="of the encoder (%(default)s)")
    parser.add_argument("--rows", type=int, default=4, help="of 16 s in a trainer's batch (%(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="utterances in a plain batch (%(default)s)")
    parser.add_argument("--rounds", type=int, default=6, help="turns of each (%(default)s)")
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
            turns = Turns(plain, args.rounds, args.slice_seconds, console)
            turns.watch(trainer)
            trainer.train(until=turns)
    except StreamasrError as error:
        print(f"training_speed: {error.message}", file=sys.stderr)
        return 1
    print_results(args, turns)
    return 0


def print_results(args: argparse.Namespace, turns: Turns) -> None:
    """Medians over the turns; the ratio is the median of the pairs' ratios."""
    sides = {"trainer": turns.ours, "plain loop": turns.theirs}
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
        made = figures[name]
        table.add_row(
            name,
            f"{made['speed']:.1f}",
            f"{made['cpu_speed']:.1f}",
            f"{made['padding_share']:.0%}",
            *(f"{shares[phase]:.0%}" for phase in PHASES),
        )
    pairs = list(zip(turns.ours, turns.theirs, strict=True))
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
