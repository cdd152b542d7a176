"""Compare the recipe ``digits`` with the model that tutorials build for the same task, in equal wall time.

    streamasr data import fsdd free-spoken-digit-dataset speech/digits/train.jsonl --split train
    streamasr data import fsdd free-spoken-digit-dataset speech/digits/test.jsonl --split test
    python benchmarks/digits_baseline.py --data speech

The tutorial's model: 13 MFCC, two bidirectional LSTM layers of 128, a linear layer, CTC over letters, Adam at
1e-3, batches of 32 utterances in random order, padded as they come, no augmentation, float32, greedy decoding of
whole utterances. The recipe's weights are measured through the model folder, streamed by the code that the daemon
runs, greedily, in chunks of at most 640 ms. The two take turns in one process with the same threads, so that other
load on the machine affects both; time for measurements is not counted. A digit is correct if its whole word is.

Prints accuracy against time, then one JSON line last.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torchaudio
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from streamasr.errors import StreamasrError
from streamasr.evaluation.decoding_pass import Mode, PassCost, decode_files
from streamasr.manifest import Utterance, read_manifest
from streamasr.media.reader import read_audio
from streamasr.recognition.model import load_model
from streamasr.training.config import load_recipe
from streamasr.training.distributed import ProcessGroup
from streamasr.training.trainer import Trainer

SAMPLE_RATE = 8_000
LETTERS = "efghinorstuvwxz"
"""Token ``i + 1`` is letter ``i``; token 0 is the blank."""
BATCH = 32
LEARNING_RATE = 1e-3
GOOD = 0.95
LATENCY_MS = 640


class Stopwatch:
    """Sums wall and CPU seconds between calls of :meth:`start` and :meth:`stop`."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0
        self._since: tuple[float, float] | None = None

    def start(self) -> None:
        """Start counting."""
        self._since = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """Stop counting; does nothing if already stopped."""
        if self._since is not None:
            self.wall += time.perf_counter() - self._since[0]
            self.cpu += time.process_time() - self._since[1]
            self._since = None

    def read(self) -> float:
        """Return the wall seconds so far."""
        running = time.perf_counter() - self._since[0] if self._since is not None else 0.0
        return self.wall + running


class TutorialModel(nn.Module):
    """Two BiLSTM layers of 128 over 13 MFCC, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.mfcc = torchaudio.transforms.MFCC(
            SAMPLE_RATE, n_mfcc=13, melkwargs={"n_fft": 256, "hop_length": 80, "n_mels": 40}
        )
        self.lstm = nn.LSTM(13, 128, num_layers=2, bidirectional=True, batch_first=True)
        self.linear = nn.Linear(256, len(LETTERS) + 1)

    def forward(self, sounds: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return log-probs [B, T, V] of a batch of samples, and their lengths."""
        features = [self.mfcc(sound).T for sound in sounds]
        padded = nn.utils.rnn.pad_sequence(features, batch_first=True)
        hidden, _ = self.lstm(padded)
        return self.linear(hidden).log_softmax(-1), torch.tensor([len(feature) for feature in features])


class Tutorial:
    """Runs the tutorial's training loop in slices."""

    def __init__(self, train: list[Utterance], test: list[Utterance], seed: int) -> None:
        torch.manual_seed(seed)
        self.random = random.Random(seed)
        self.train, self.test = (
            [(torch.from_numpy(read_audio(u.audio, SAMPLE_RATE)), u.text) for u in utterances]
            for utterances in (train, test)
        )
        self.model = TutorialModel()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE)
        self.watch = Stopwatch()
        self.queue: list[tuple[Tensor, str]] = []
        self.epochs = 0.0

    def train_until(self, wall: float) -> None:
        """Continue until ``wall`` seconds of training are reached."""
        self.watch.start()
        while self.watch.read() < wall:
            if not self.queue:
                self.queue = self.random.sample(self.train, len(self.train))
            batch, self.queue = self.queue[:BATCH], self.queue[BATCH:]
            log_probs, lengths = self.model([sound for sound, _ in batch])
            targets = [torch.tensor([LETTERS.index(letter) + 1 for letter in text]) for _, text in batch]
            loss = nn.functional.ctc_loss(
                log_probs.transpose(0, 1),
                torch.cat(targets),
                lengths,
                torch.tensor([len(target) for target in targets]),
                zero_infinity=True,
            )
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.epochs += len(batch) / len(self.train)
        self.watch.stop()

    @torch.no_grad()
    def accuracy(self) -> float:
        """Return the share of test words that are recognised correctly."""
        right = 0
        for sound, text in self.test:
            log_probs, _ = self.model([sound])
            collapsed = torch.unique_consecutive(log_probs[0].argmax(-1)).tolist()
            right += "".join(LETTERS[token - 1] for token in collapsed if token) == text
        return right / len(self.test)


@dataclass(frozen=True)
class Point:
    """Accuracy of both models after the same wall time."""

    seconds: float
    recipe: float
    tutorial: float
    recipe_cpu: float = 0.0
    """CPU seconds of the training so far."""
    tutorial_cpu: float = 0.0


def recipe_accuracy(folder: Path, test: list[Utterance]) -> float:
    """Return the share of test words that the streamed model recognises correctly."""
    model = load_model(folder, device="cpu")
    answers = decode_files(
        model,
        [utterance.audio for utterance in test],
        chunk_frames=model.chunk_frames_for(LATENCY_MS),
        modes=[Mode.GREEDY],
        batch=16,
        cost=PassCost(),
    )
    return sum(result.text == test[result.index].text for (result,) in answers) / len(test)


def compare(data: Path, recipe: str, seed: int, every_seconds: float, console: Console) -> dict[str, Any]:
    """Train both models to the end of the recipe's schedule, and measure both every ``every_seconds``."""
    config = load_recipe(recipe).rooted(data)
    train, test = read_manifest(config.data.manifests[0]), read_manifest(config.data.dev_manifests[0])
    config = replace(config, seed=seed, data=replace(config.data, dev_manifests=()))
    tutorial = Tutorial(train, test, seed)
    watch, points = Stopwatch(), [Point(0.0, 0.0, 0.0)]

    def measure() -> None:
        trainer.export()
        tutorial.train_until(watch.wall)
        right = recipe_accuracy(folder / "model", test), tutorial.accuracy()
        points.append(Point(watch.wall, *right, watch.cpu, tutorial.watch.cpu))
        point = points[-1]
        console.print(f"{point.seconds:5.0f} s  recipe {point.recipe:.2%}  tutorial {point.tutorial:.2%}")

    def pause() -> bool:
        """Measure now and then, with the clock stopped; called before every step."""
        watch.stop()
        if watch.wall >= points[-1].seconds + every_seconds:
            measure()
        watch.start()
        return False

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trainer = Trainer(config, folder, ProcessGroup.from_environment("cpu"), lambda _event: None)
        trainer.train(until=pause)
        watch.stop()
        measure()
    return {
        "seed": seed,
        "steps": trainer.step,
        "audio_hours": trainer.seconds / 3600,
        "tutorial_epochs": tutorial.epochs,
        "wall_seconds": watch.wall,
        "cpu_seconds": {"recipe": watch.cpu, "tutorial": tutorial.watch.cpu},
        "seconds_to_good": {
            "recipe": next(((p.seconds, p.recipe_cpu) for p in points if p.recipe >= GOOD), None),
            "tutorial": next(((p.seconds, p.tutorial_cpu) for p in points if p.tutorial >= GOOD), None),
        },
        "final": {"recipe": points[-1].recipe, "tutorial": points[-1].tutorial},
        "best": {"recipe": max(p.recipe for p in points), "tutorial": max(p.tutorial for p in points)},
        "curve": [astuple(point) for point in points[1:]],
    }


def main() -> int:
    """Run the comparison and print the results; return 1 if the data or the recipe cannot be used."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="folder of the recipe's relative paths"
    )
    parser.add_argument("--recipe", default="digits", help="name or file (%(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="one run each (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch, for both (%(default)s)")
    parser.add_argument(
        "--every-seconds", type=float, default=15.0, help="of training between measurements (%(default)s)"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    console = Console(stderr=True)
    try:
        runs = [compare(args.data, args.recipe, seed, args.every_seconds, console) for seed in args.seeds]
    except StreamasrError as error:
        print(f"digits_baseline: {error.message}", file=sys.stderr)
        return 1
    table = Table("seed", "wall s", "", f"s to {GOOD:.0%} (CPU s)", "accuracy at the end", "best", "CPU s")
    for run in runs:
        for who in ("recipe", "tutorial"):
            good = run["seconds_to_good"][who]
            table.add_row(
                str(run["seed"]),
                f"{run['wall_seconds']:.0f}",
                who,
                "never" if good is None else f"{good[0]:.0f} ({good[1]:.0f})",
                f"{run['final'][who]:.2%}",
                f"{run['best'][who]:.2%}",
                f"{run['cpu_seconds'][who]:.0f}",
            )
    Console().print(table)
    print(json.dumps({"benchmark": "digits_baseline", "threads": args.threads, "runs": runs}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
