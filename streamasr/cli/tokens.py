"""Implement ``streamasr tokens``: make a model's tokens from text, word pieces or characters."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from streamasr.decoding.tokens import TokenList
from streamasr.errors import ConfigError
from streamasr.lm.corpus import read_text
from streamasr.text import text_rules
from streamasr.training.tokenizer import load_sentencepiece, sentencepiece_tokens
from streamasr.training.vocabulary import SentencePieceConfig, count_characters, train_sentencepiece

EXAMPLE = """\
streamasr tokens train books.txt.gz train/manifest.jsonl --size 512 --out tokenizer.model
streamasr tokens characters train/manifest.jsonl --language zh --no-separator --out tokens.txt"""

_TEXT_HELP = "one sentence a line, plain or .gz, or a manifest (.jsonl) whose texts are used"
_RAREST_SHOWN = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    defaults = SentencePieceConfig()
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    train = commands.add_parser("train", help="train word pieces with SentencePiece")
    train.add_argument(
        "--size",
        type=int,
        default=defaults.size,
        metavar="N",
        help="number of tokens, including the blank (default: %(default)s)",
    )
    train.add_argument(
        "--method",
        choices=("bpe", "unigram"),
        default=defaults.method,
        help="algorithm (default: %(default)s)",
    )
    train.add_argument(
        "--max-sentences",
        type=int,
        default=defaults.max_sentences,
        metavar="N",
        help="sample this many sentences from longer text (default: %(default)s)",
    )

    characters = commands.add_parser("characters", help="collect the characters of texts")
    characters.add_argument(
        "--min-count",
        type=int,
        default=1,
        metavar="N",
        help="drop characters seen less often (default: %(default)s)",
    )
    characters.add_argument(
        "--no-separator",
        dest="separator",
        action="store_false",
        help="make no token for the space between words, for languages without spaces such as Mandarin",
    )
    characters.add_argument(
        "--counts", type=Path, metavar="FILE", help="write all characters with their counts, tab-separated"
    )
    for command in (train, characters):
        command.add_argument("texts", metavar="TEXT", nargs="+", type=Path, help=_TEXT_HELP)
        command.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to write")
        command.add_argument(
            "--language", default="en", metavar="TAG", help="language of the texts (default: %(default)s)"
        )


def run(args: argparse.Namespace) -> int:
    """Make the tokens and print a summary."""
    args.out.parent.mkdir(parents=True, exist_ok=True)
    return _train(args) if args.action == "train" else _characters(args)


def _texts(paths: list[Path]) -> Iterator[str]:
    return (line for path in paths for line in read_text(path))


def _train(args: argparse.Namespace) -> int:
    config = SentencePieceConfig(size=args.size, method=args.method, max_sentences=args.max_sentences)
    rules = text_rules(args.language)
    args.out.write_bytes(train_sentencepiece(_texts(args.texts), rules, config))
    processor = load_sentencepiece(args.out)
    tokens = sentencepiece_tokens(processor)
    letters = words = pieces = 0
    for _, text in zip(range(args.max_sentences), _texts(args.texts), strict=False):
        normal = rules.normalise(text)
        words += len(normal.split())
        letters += len(normal)
        pieces += len(processor.encode(normal))
    longest = sorted(tokens.tokens[1:], key=len, reverse=True)[:_RAREST_SHOWN]
    print(
        f"{args.out}: {len(tokens)} tokens, {pieces / words:.2f} per word, {letters / pieces:.2f} letters each"
    )
    print(f"longest: {' '.join(longest)}")
    return 0


def _characters(args: argparse.Namespace) -> int:
    if args.min_count <= 0:
        raise ConfigError(f"--min-count must be positive, got {args.min_count}")
    counts = count_characters(_texts(args.texts), text_rules(args.language))
    kept = sorted(character for character, count in counts.items() if count >= args.min_count)
    tokens = TokenList.of_characters(kept, separator=args.separator)
    tokens.save(args.out)
    if args.counts is not None:
        rows = "".join(f"{character}\t{count}\n" for character, count in counts.most_common())
        args.counts.write_text(rows, encoding="utf-8")
    rarest = counts.most_common()[: -_RAREST_SHOWN - 1 : -1]
    print(f"{args.out}: {len(tokens)} tokens, {len(counts) - len(kept)} characters left out")
    print("rarest: " + ", ".join(f"{character} {count}" for character, count in rarest))
    return 0
