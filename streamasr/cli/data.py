"""Implement ``streamasr data``: import datasets, check manifests, preview augmentation, pack shards."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from streamasr.training.data.importers import DATASETS
from streamasr.training.data.inspection.check import CheckOptions

if TYPE_CHECKING:
    from streamasr.training.data.inspection.check import CheckResult
    from streamasr.training.tokenizer import Tokenizer

EXAMPLE = """\
streamasr data import librispeech LibriSpeech/dev-clean speech/dev-clean.jsonl
streamasr data check speech/dev-clean.jsonl --tokens en-small --png dev-clean.png
streamasr data preview speech/dev-clean.jsonl --recipe en-small --data speech --out preview
streamasr data degrade speech/dev-clean.jsonl --snr-db 10 --noise noise/manifest.jsonl --out noisy
streamasr data shard speech/train.jsonl shards/train --shard-mb 256"""

_FINDINGS_SHOWN = 20
"""Findings of each kind that are printed without ``--all``."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_import(actions.add_parser("import", help="make a manifest of a published data set or of a folder"))
    _add_check(actions.add_parser("check", help="check manifests for errors and print statistics"))
    _add_preview(
        actions.add_parser("preview", help="write augmented audio and its mel frames, to listen and look at")
    )
    _add_degrade(
        actions.add_parser("degrade", help="write copies of recordings degraded by rooms, noise or codecs")
    )
    _add_shard(
        actions.add_parser("shard", help="pack manifests into tar files for streaming during training")
    )


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", choices=DATASETS, metavar="DATASET", help=", ".join(DATASETS))
    parser.add_argument("source", type=Path, metavar="SOURCE", help="folder of the data set, as published")
    parser.add_argument("out", type=Path, metavar="OUT.jsonl", help="the manifest to write")
    parser.add_argument("--split", metavar="NAME", help="the dataset's split, by its published name")
    parser.add_argument(
        "--only-speaker",
        action="append",
        default=[],
        metavar="NAME",
        help="import only this speaker; may be repeated",
    )
    parser.add_argument(
        "--exclude-speaker",
        action="append",
        default=[],
        metavar="NAME",
        help="leave out this speaker; may be repeated",
    )
    parser.add_argument(
        "--language", metavar="TAG", help="language of the transcripts (default: the dataset's)"
    )
    parser.add_argument(
        "--skipped", type=Path, metavar="FILE", help="write skipped files and reasons to FILE, tab-separated"
    )
    _add_workers(parser)


def _add_check(parser: argparse.ArgumentParser) -> None:
    defaults = CheckOptions()
    parser.add_argument("manifests", type=Path, nargs="+", metavar="MANIFEST", help="manifest (JSON lines)")
    parser.add_argument(
        "--tokens",
        metavar="FILE|RECIPE",
        help="tokens.txt, tokenizer.model, or a recipe: check that it can spell the transcripts",
    )
    parser.add_argument(
        "--language", default="en", metavar="TAG", help="language of the text, for --tokens FILE"
    )
    parser.add_argument(
        "--frame-rate",
        type=float,
        default=defaults.frame_rate,
        metavar="HZ",
        help="encoder frames per second (default: %(default)g)",
    )
    parser.add_argument(
        "--tolerance-s",
        type=float,
        default=defaults.tolerance_s,
        metavar="S",
        help="tolerance of durations (default: %(default)g)",
    )
    parser.add_argument("--png", type=Path, metavar="FILE", help="save histograms as PNG")
    parser.add_argument("--json", action="store_true", help="print one JSON object with every finding")
    parser.add_argument("--all", action="store_true", help="print every finding")
    _add_workers(parser)


def _add_preview(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("manifest", type=Path, metavar="MANIFEST", help="manifest (JSON lines)")
    parser.add_argument(
        "--recipe", required=True, help="recipe with the augmentation: a TOML file or a packaged name"
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="folder of the recipe's relative paths (default: .)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for WAV files and the picture"
    )
    parser.add_argument(
        "--count", type=int, default=6, metavar="N", help="number of utterances (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="seed of the random choices (default: %(default)s)"
    )


def _add_degrade(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("manifest", type=Path, metavar="MANIFEST", help="manifest (JSON lines)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the copies")
    parser.add_argument(
        "--rt60", type=float, metavar="S", help="simulate rooms with this reverberation time, in seconds"
    )
    parser.add_argument("--snr-db", type=float, metavar="DB", help="add noise at this signal-to-noise ratio")
    parser.add_argument(
        "--noise", type=Path, metavar="MANIFEST", help="manifest of recorded noises, for --snr-db"
    )
    parser.add_argument("--codec", metavar="NAME", help="encode and decode with a codec, such as gsm")
    parser.add_argument("--gain-db", type=float, default=0.0, metavar="DB", help="change the level")
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="seed of the random choices (default: 1)"
    )
    _add_workers(parser)


def _add_shard(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("manifests", type=Path, nargs="+", metavar="MANIFEST", help="manifest (JSON lines)")
    parser.add_argument("out", type=Path, metavar="OUT_DIR", help="a new folder")
    parser.add_argument(
        "--shard-mb",
        type=float,
        default=256.0,
        metavar="MB",
        help="size of a shard in megabytes (default: %(default)g)",
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="seed of the order (default: %(default)s)"
    )
    _add_workers(parser)


def _add_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, metavar="N", help="worker processes (default: one per CPU)")


def run(args: argparse.Namespace) -> int:
    """Run the action; ``check`` returns 1 if it finds errors."""
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "import": _import,
        "check": _check,
        "preview": _preview,
        "degrade": _degrade,
        "shard": _shard,
    }
    return actions[args.action](args)


def _import(args: argparse.Namespace) -> int:
    from streamasr.training.data.importers import importer
    from streamasr.training.data.importers.layout import Selection
    from streamasr.training.data.importers.manifest_writer import write_manifest

    dataset = importer(args.dataset)
    selection = Selection(
        split=args.split,
        only_speakers=tuple(args.only_speaker),
        exclude_speakers=tuple(args.exclude_speaker),
    )
    language = args.language or dataset.LANGUAGE or args.source.resolve().name
    with _progress_bar("reading audio") as progress:
        found = dataset.find(args.source, selection)
        imported = write_manifest(
            found,
            args.out,
            language=language,
            selection=selection,
            workers=args.workers,
            progress=progress,
        )
    print(
        f"{args.out}: {imported.utterances} utterances, {imported.hours:.2f} h, {imported.speakers} speakers"
    )
    if imported.skipped:
        print(f"skipped {len(imported.skipped)}:")
        for reason, count, first in imported.reasons():
            print(f"  {count} × {reason}, first {first}")
    if args.skipped is not None:
        lines = (f"{case.what}\t{case.reason}\n" for case in imported.skipped)
        args.skipped.write_text("".join(lines), encoding="utf-8")
    return 0


def _check(args: argparse.Namespace) -> int:
    from streamasr.training.data.inspection.check import check_manifests

    tokenizer, fastest = _tokens(args.tokens, args.language)
    options = CheckOptions(
        tolerance_s=args.tolerance_s, frame_rate=args.frame_rate, fastest=fastest, workers=args.workers
    )
    with _progress_bar("checking") as progress:
        checked = check_manifests(args.manifests, options, tokenizer, progress)
    if args.png is not None:
        from streamasr.training.data.inspection.plots import draw_histograms

        draw_histograms(checked.values, ", ".join(map(str, args.manifests)), args.png)
    if args.json:
        findings = [
            {
                "manifest": str(finding.manifest),
                "line": finding.line,
                "kind": finding.kind,
                "error": finding.is_error,
                "message": finding.message,
            }
            for finding in checked.findings
        ]
        print(json.dumps({**checked.summary(), "findings": findings}, ensure_ascii=False))
    else:
        _print_checked(checked, everything=args.all)
    return 1 if checked.errors else 0


def _tokens(name: str | None, language: str) -> tuple[Tokenizer | None, float]:
    """Return the tokenizer that ``--tokens`` names, and the highest speed of its recipe's augmentation."""
    from streamasr.decoding.tokens import TokenList
    from streamasr.text import text_rules
    from streamasr.training.config import load_recipe
    from streamasr.training.tokenizer import (
        Tokenizer,
        build_tokenizer,
        load_sentencepiece,
        sentencepiece_tokens,
    )

    if name is None:
        return None, 1.0
    path = Path(name)
    if path.suffix == ".txt":
        return Tokenizer(TokenList.load(path), text_rules(language)), 1.0
    if path.suffix == ".model":
        pieces = load_sentencepiece(path)
        return Tokenizer(sentencepiece_tokens(pieces), text_rules(language), pieces, path), 1.0
    recipe = load_recipe(name)
    return build_tokenizer(recipe), max(recipe.augment.speeds)


def _print_checked(checked: CheckResult, *, everything: bool) -> None:
    shown: dict[str, int] = {}
    for finding in checked.findings:
        shown[finding.kind] = shown.get(finding.kind, 0) + 1
        if everything or shown[finding.kind] <= _FINDINGS_SHOWN:
            print(finding)
    for kind, count in shown.items():
        if not everything and count > _FINDINGS_SHOWN:
            print(f"… and {count - _FINDINGS_SHOWN} more of the kind {kind} (--all prints them)")
    summary = checked.summary()
    rates = ", ".join(f"{rate} Hz ({count})" for rate, count in sorted(checked.sample_rates.items()))
    print(
        f"{summary['utterances']} utterances, {summary['hours']:.2f} h, {summary['speakers']} speakers, "
        f"{len(checked.characters)} characters, {rates or 'no audio'}"
    )
    spreads = summary["values"]
    assert isinstance(spreads, dict)
    for name, spread in spreads.items():
        if spread is not None:
            figures = "  ".join(f"{key} {value:.2f}" for key, value in spread.items())
            print(f"  {name:<22} {figures}")
    print(f"{summary['errors']} errors, {summary['warnings']} warnings")


def _preview(args: argparse.Namespace) -> int:
    from streamasr.training.config import load_recipe
    from streamasr.training.data.augmentation.sources import load_augmentation_sources
    from streamasr.training.data.inspection.preview import PLOT, preview

    config = load_recipe(args.recipe).rooted(args.data)
    with _progress_bar("noise and rooms") as progress:
        sources = load_augmentation_sources(config, config.data.cache or args.out / "cache", progress)
    for item in preview(args.manifest, config, sources, args.out, count=args.count, seed=args.seed):
        print(f"{item.augmented}: {item.utterance.text}")
    print(args.out / PLOT)
    return 0


def _degrade(args: argparse.Namespace) -> int:
    from streamasr.training.data.augmentation.degrade import Condition, degrade

    condition = Condition(
        rt60_seconds=args.rt60, snr_db=args.snr_db, codec=args.codec, gain_db=args.gain_db, seed=args.seed
    )
    with _progress_bar("degrading") as progress:
        path = degrade(
            args.manifest, args.out, condition, noise=args.noise, workers=args.workers, progress=progress
        )
    print(path)
    return 0


def _shard(args: argparse.Namespace) -> int:
    from streamasr.training.data.shards.packing import write_shards

    with _progress_bar("packing") as progress:
        sharded = write_shards(
            args.manifests,
            args.out,
            shard_mb=args.shard_mb,
            seed=args.seed,
            workers=args.workers,
            progress=progress,
        )
    for reason in sharded.unreadable:
        print(f"left out: {reason}")
    hours = sum(shard.seconds for shard in sharded.shards) / 3600
    utterances = sum(shard.utterances for shard in sharded.shards)
    print(f"{args.out}: {len(sharded.shards)} shards, {utterances} utterances, {hours:.2f} h")
    return 0


@contextmanager
def _progress_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on standard error; it disappears at the end."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr, emoji=False), transient=True) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
