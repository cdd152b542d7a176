"""Implement ``streamasr lm train``: train the neural language model that chooses the text of finals."""

from __future__ import annotations

import argparse
from itertools import chain
from pathlib import Path

from streamasr.decoding.neural_lm import NEURAL_LM_FILE, NeuralLmConfig, load_stored_neural_lm


def add_arguments(parser: argparse.ArgumentParser, text_help: str) -> None:
    """Add the command's arguments."""
    sizes = NeuralLmConfig()
    parser.add_argument(
        "texts",
        metavar="TEXT",
        nargs="+",
        type=Path,
        help=f"{text_help}; sentences that follow one another help",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write to, usually a model folder"
    )
    parser.add_argument(
        "--language", metavar="TAG", help="language of the text (default: that of the model in --out, or en)"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=60.0,
        metavar="M",
        help="train for M minutes (default: %(default)g)",
    )
    parser.add_argument(
        "--vocab-size",
        type=int,
        default=sizes.words,
        metavar="N",
        help="size of the table of words (default: %(default)s)",
    )
    parser.add_argument(
        "--start",
        type=Path,
        metavar="FILE",
        help=f"begin with this {NEURAL_LM_FILE} and its table of words, as to fit it to other text",
    )
    parser.add_argument(
        "--learning-rate",
        type=float,
        default=3e-3,
        metavar="R",
        help="highest learning rate; it falls to zero (default: %(default)g)",
    )
    parser.add_argument(
        "--threads", type=int, default=2, metavar="N", help="CPU threads (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")


def run(args: argparse.Namespace, language: str) -> int:
    """Train, with a progress bar, and print the perplexity on held-out sentences."""
    from streamasr.cli.training_bar import training_bar
    from streamasr.lm.corpus import read_sentences
    from streamasr.lm.neural_training import NeuralTrainConfig, train_neural_lm

    config = NeuralTrainConfig(
        minutes=args.minutes, learning_rate=args.learning_rate, threads=args.threads, seed=args.seed
    )
    sizes = NeuralLmConfig(words=args.vocab_size)
    start = load_stored_neural_lm(args.start) if args.start is not None else None
    path = args.out / NEURAL_LM_FILE
    with training_bar() as bar:
        sentences = chain.from_iterable(read_sentences(text, language) for text in args.texts)
        perplexity = train_neural_lm(sentences, path, config, sizes, start=start, report=bar.update)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, perplexity {perplexity:.1f} on held-out sentences")
    return 0
