"""Implement ``streamasr lm``: build, train, measure and tune the language models of a model folder."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from streamasr.cli import lm_train, lm_tune
from streamasr.config import ModelConfig
from streamasr.lm.build import LmConfig, build_lm, perplexity
from streamasr.lm.corpus import read_sentences
from streamasr.toml import load_toml

EXAMPLE = """\
streamasr lm build books.txt.gz talk.txt.gz --out models/mine --max-mb 25 --held-out dev.txt
streamasr lm build books.txt.gz,talk.txt.gz learners.jsonl --weights 0.9 0.1 --order 4 --out models/mine
streamasr lm train books.txt.gz talk.txt.gz --out models/mine
streamasr lm perplexity models/mine/lm.bin dev.jsonl
streamasr lm tune --model models/mine --manifest dev/manifest.jsonl --write"""

_TEXT_HELP = "one sentence a line, plain or .gz, or a manifest (.jsonl) whose texts are used"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    defaults = LmConfig()
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    build = commands.add_parser("build", help="build lm.bin and unigrams.txt from text")
    build.add_argument(
        "texts", metavar="TEXT", nargs="+", help=f"{_TEXT_HELP}; join files by commas to make them one source"
    )
    build.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write to, usually a model folder"
    )
    build.add_argument(
        "--order",
        type=int,
        default=defaults.order,
        metavar="N",
        help="order of the n-gram model (default: %(default)s)",
    )
    build.add_argument(
        "--vocab-size",
        type=int,
        default=defaults.max_words,
        metavar="N",
        help="keep the N most frequent words (default: %(default)s)",
    )
    build.add_argument(
        "--min-count",
        type=int,
        default=defaults.min_count,
        metavar="N",
        help="drop words seen less often (default: %(default)s)",
    )
    build.add_argument(
        "--weights",
        type=float,
        nargs="+",
        metavar="W",
        help="mix the sources with these weights, one for each TEXT (default: pool the texts)",
    )
    size = build.add_mutually_exclusive_group()
    size.add_argument(
        "--max-mb",
        type=float,
        default=defaults.max_mb,
        metavar="MB",
        help="prune until lm.bin is at most this large (default: %(default)s)",
    )
    size.add_argument(
        "--prune",
        type=float,
        metavar="T",
        help="prune at this relative entropy instead, in nats per word; 0 keeps all",
    )
    build.add_argument("--arpa", type=Path, metavar="FILE", help="also write the model as ARPA text")
    build.add_argument(
        "--held-out", type=Path, metavar="FILE", help="report perplexity and unknown words of this text"
    )
    build.add_argument(
        "--language",
        metavar="TAG",
        help="language of the text (default: that of the model in --out, or en)",
    )

    train = commands.add_parser("train", help="train neural_lm.safetensors, which chooses the text of finals")
    lm_train.add_arguments(train, _TEXT_HELP)

    measure = commands.add_parser("perplexity", help="measure the perplexity of a language model on text")
    measure.add_argument(
        "lm", metavar="LM", type=Path, help="KenLM binary, ARPA file or neural_lm.safetensors"
    )
    measure.add_argument("text", metavar="TEXT", type=Path, help=_TEXT_HELP)
    measure.add_argument("--language", default="en", metavar="TAG", help="default: %(default)s")
    measure.add_argument("--json", action="store_true", help="print one JSON object")

    lm_tune.add_arguments(commands.add_parser("tune", help="find the decoder weights with the fewest errors"))


def run(args: argparse.Namespace) -> int:
    """Run the action."""
    if args.action == "tune":
        return lm_tune.run(args)
    if args.action == "perplexity":
        print(_measure(args.lm, args.text, args.language, as_json=args.json))
        return 0
    language = args.language or _language_of(args.out)
    if args.action == "train":
        return lm_train.run(args, language)
    config = LmConfig(
        language=language,
        order=args.order,
        max_words=args.vocab_size,
        min_count=args.min_count,
        max_mb=args.max_mb,
        prune_threshold=args.prune,
        weights=None if args.weights is None else tuple(args.weights),
    )
    sources = [[Path(name) for name in text.split(",")] for text in args.texts]
    lm = build_lm(sources, args.out, config, arpa=args.arpa)
    if args.held_out is not None:
        print(_measure(lm, args.held_out, language, as_json=False))
    return 0


def _language_of(folder: Path) -> str:
    """The language of the model in ``folder``; English if there is no model yet."""
    path = folder / "config.toml"
    return load_toml(ModelConfig, path).language if path.is_file() else LmConfig().language


def _measure(lm: Path, text: Path, language: str, *, as_json: bool) -> str:
    sentences = read_sentences(text, language)
    if lm.suffix == ".safetensors":
        from streamasr.decoding.neural_lm import NeuralLanguageModel
        from streamasr.lm.neural_perplexity import neural_perplexity

        measured = neural_perplexity(NeuralLanguageModel.load(lm), [list(sentences)])
    else:
        measured = perplexity(lm, sentences)
    if as_json:
        figures = {
            "perplexity": measured.perplexity,
            "words": measured.words,
            "oov_words": measured.oov_words,
        }
        return json.dumps(figures)
    return (
        f"{text}: perplexity {measured.perplexity:.1f}, "
        f"{measured.oov_words} of {measured.words} words ({measured.oov_rate:.2%}) unknown"
    )
