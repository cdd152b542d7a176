"""Compare characters with word pieces, and 50 with 25 frames a second, by short trainings in equal CPU time.

    python benchmarks/en_small_choices.py --data speech --out runs/choices --cpu-seconds 400 \\
        --pretrained pretrained/whisper-tiny.en-encoder.safetensors

Each run has en-small's recipe without augmentation, which so short a training does not repay, on its recordings
without its synthetic speech. The cost of a step is measured first, and sets the number of steps for the CPU
seconds. With frames merged to 25 a second, half of the layers run at that rate; chunks and left context keep their
duration. The pieces are SentencePiece's (BPE) of the training transcripts. Each model is measured streaming at 640
ms: greedy, by beam search, and with the language model of ``--lm``. Also reported: the share of training
utterances that CTC cannot align. Runs are kept under ``--out`` and resumed; a finished one is only measured.

Prints a table, then one JSON line last.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from training_ablation import PLAIN, Errors, measure, print_errors, recordings, train

from streamasr.config import WhisperEncoderConfig
from streamasr.errors import StreamasrError
from streamasr.manifest import read_manifest
from streamasr.recognition.model import resolve_model
from streamasr.text import text_rules
from streamasr.training.config import LossConfig, TokensConfig, TrainConfig
from streamasr.training.distributed import ProcessGroup
from streamasr.training.tokenizer import build_tokenizer
from streamasr.training.trainer import Trainer
from streamasr.training.vocabulary import SentencePieceConfig, train_sentencepiece

CALIBRATION_STEPS = 12
LAYERS = 4
STEPS_PER_REPORT = 20


@dataclass(frozen=True)
class Choice:
    """A kind of tokens and a frame rate."""

    pieces: bool
    merged: bool

    @property
    def name(self) -> str:
        """Name in tables and of folders."""
        return f"{'pieces' if self.pieces else 'characters'}-{25 if self.merged else 50}"


CHOICES = [Choice(pieces, merged) for merged in (False, True) for pieces in (False, True)]


def encoder_of(base: WhisperEncoderConfig, merged: bool) -> WhisperEncoderConfig:
    """Return tiny.en's sizes; if frames are merged, chunks and left context have half as many."""
    encoder = replace(base, dim=384, heads=6, layers=LAYERS, merge_after_layers=0)
    if not merged:
        return encoder
    return replace(
        encoder,
        merge_after_layers=LAYERS // 2,
        left_context_frames=encoder.left_context_frames // 2,
        chunk_frames=tuple(frames // 2 for frames in encoder.chunk_frames),
    )


def recipe_of(base: TrainConfig, args: argparse.Namespace, choice: Choice, pieces: Path) -> TrainConfig:
    """Return the recipe of a choice, without its number of steps."""
    whisper = base.encoder
    assert isinstance(whisper, WhisperEncoderConfig)
    data = replace(
        base.data,
        dev_manifests=(),
        row_seconds=args.row_seconds,
        rows_per_batch=args.rows,
        cache=args.cache or args.out / "cache",
    )
    assert isinstance(base.encoder, WhisperEncoderConfig)
    return replace(
        base,
        name=choice.name,
        pretrained=args.pretrained,
        encoder=encoder_of(whisper, choice.merged),
        tokens=TokensConfig(kind="pieces", file=pieces) if choice.pieces else base.tokens,
        augment=PLAIN,
        loss=LossConfig(consistency=0.0),
        data=data,
    )


def with_steps(config: TrainConfig, steps: int, learning_rate: float) -> TrainConfig:
    """Return the recipe with a schedule of ``steps`` steps."""
    optim = replace(
        config.optim,
        steps=steps,
        learning_rate=learning_rate,
        freeze_encoder_steps=steps // 20,
        warmup_steps=steps // 20,
    )
    return replace(
        config,
        optim=optim,
        log_every_steps=max(1, steps // STEPS_PER_REPORT),
        save_every_steps=max(1, steps // STEPS_PER_REPORT),
        evaluate_every_steps=steps,
    )


def seconds_a_step(config: TrainConfig, learning_rate: float) -> float:
    """Measure the CPU seconds of a step that trains all weights."""
    config = replace(config, optim=replace(config.optim, freeze_encoder_steps=0))
    config = replace(with_steps(config, CALIBRATION_STEPS, learning_rate), save_every_steps=10**9)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, Path(folder), ProcessGroup.from_environment("cpu"), lambda _event: None)
        began: list[float] = []

        def note() -> bool:
            began.append(time.process_time())
            return False

        trainer.train(until=note)
    steps = [later - earlier for earlier, later in pairwise(began)]
    return sum(steps[1:]) / len(steps[1:])


def unalignable(config: TrainConfig) -> float:
    """Return the share of training utterances with more tokens than frames, at original speed."""
    tokenizer = build_tokenizer(config)
    rate = config.frontend.sample_rate / (config.frontend.hop * config.encoder.subsampling)
    short = count = 0
    for path in config.data.manifests:
        for utterance in read_manifest(path):
            ids = tokenizer.encode(utterance.text)
            needed = len(ids) + sum(one == other for one, other in pairwise(ids))
            short += needed > utterance.duration_s * rate
            count += 1
    return short / count


def main() -> int:
    """Train, measure and print the results; return 1 if an input cannot be used."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="where en-small's paths start"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder for each run")
    parser.add_argument("--cpu-seconds", type=float, default=400.0, help="of each run (%(default)s)")
    parser.add_argument("--row-seconds", type=float, default=10.0, help="of a row (%(default)s)")
    parser.add_argument("--rows", type=int, default=2, help="in a batch (%(default)s)")
    parser.add_argument("--learning-rate", type=float, default=2e-4, help="%(default)s")
    parser.add_argument("--pieces", type=int, default=256, help="tokens of the pieces (%(default)s)")
    parser.add_argument(
        "--pretrained", type=Path, required=True, metavar="FILE", help="Whisper tiny.en's encoder weights"
    )
    parser.add_argument(
        "--lm", default="en-small", metavar="MODEL", help="whose language model (%(default)s); none for none"
    )
    names = [choice.name for choice in CHOICES]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--limit", type=int, metavar="N", help="utterances of each dev manifest")
    parser.add_argument("--threads", type=int, default=1, help="of torch (%(default)s)")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="decoded sound (default: in --out)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    console = Console(stderr=True)
    results: dict[str, dict[str, object]] = {}
    errors: dict[str, Errors] = {}
    try:
        lm = None if args.lm == "none" else resolve_model(args.lm)
        base = recordings(args.data)
        args.out.mkdir(parents=True, exist_ok=True)
        pieces = args.out / "tokenizer.model"
        if not pieces.exists():
            texts = (utterance.text for path in base.data.manifests for utterance in read_manifest(path))
            pieces.write_bytes(
                train_sentencepiece(texts, text_rules(base.language), SentencePieceConfig(size=args.pieces))
            )
        for choice in CHOICES:
            if args.only and choice.name not in args.only:
                continue
            config, folder = recipe_of(base, args, choice, pieces), args.out / choice.name
            planned = folder / "steps"
            if not planned.exists():
                folder.mkdir(exist_ok=True)
                steps = round(args.cpu_seconds / seconds_a_step(config, args.learning_rate))
                planned.write_text(str(steps), encoding="utf-8")
            steps = int(planned.read_text(encoding="utf-8"))
            spent = train(with_steps(config, steps, args.learning_rate), folder, console)
            errors[choice.name] = measure(folder / "model", lm, list(base.data.dev_manifests), args.limit)
            results[choice.name] = {
                **asdict(choice),
                **spent,
                "unalignable": unalignable(config),
                "errors": errors[choice.name],
            }
    except StreamasrError as error:
        print(f"en_small_choices: {error.message}", file=sys.stderr)
        return 1
    table = Table("", "steps", "audio h", "CPU s", "unalignable")
    for name, result in results.items():
        table.add_row(
            name,
            f"{result['steps']:.0f}",
            f"{result['hours']:.1f}",
            f"{result['cpu_seconds']:.0f}",
            f"{result['unalignable']:.2%}",
        )
    Console().print(table)
    print_errors(errors)
    settings = {"cpu_seconds": args.cpu_seconds, "pieces": args.pieces, "learning_rate": args.learning_rate}
    print(json.dumps({"benchmark": "en_small_choices", **settings, "runs": results}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
