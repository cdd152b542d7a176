"""Compare ways to write capitals and punctuation on written text: the packaged model, rules, and truecase.

    python benchmarks/punctuation_peers.py dev.txt.gz

The model is measured twice: with each line as an utterance, and with all lines joined to one. The other ways are told
where lines end. truecase (PyPI, https://github.com/daltonfury42/truecase) writes capitals only.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from streamasr.formatting import formatter_for
from streamasr.punctuation.base import Punctuated
from streamasr.punctuation.corpus import read_lines
from streamasr.punctuation.loading import load_punctuator
from streamasr.punctuation.model_file import PUNCTUATION_FILE
from streamasr.punctuation.scoring import LineWriter, score, write_by_model, write_by_rules
from streamasr.recognition import resolve_model

MODEL = "en-small"


def write_by_truecase() -> LineWriter:
    """Return a writer with the capitals of truecase, and no marks."""
    from truecase.TrueCaser import TrueCaser

    caser = TrueCaser()

    def write(lines: Iterable[Sequence[str]]) -> Iterator[list[Punctuated]]:
        for words in lines:
            cased = caser.get_true_case_from_tokens(list(words))
            yield [
                Punctuated(text if text.lower() == word else word, "")
                for word, text in zip(words, cased, strict=True)
            ]

    return write


def main() -> None:
    """Print one line for each way, and the time of the model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", type=Path, help="written text, one line each utterance")
    args = parser.parse_args()
    lines = list(read_lines([args.text]))
    folder = resolve_model(MODEL)
    punctuator = load_punctuator(folder)
    assert punctuator is not None
    rules = formatter_for("en")
    writers = {
        f"{MODEL}": write_by_model(punctuator),
        f"{MODEL}, joined lines": write_by_model(punctuator, joined=True),
        "rules": write_by_rules(rules),
        "rules, full stops": write_by_rules(rules, "."),
        "truecase": write_by_truecase(),
    }
    print(f"{'F1':24}{'.':>8}{',':>8}{'?':>8}{'capitals':>10}{'inside sentences':>18}")
    words = 0
    for name, writer in writers.items():
        scores = score(lines, "en", writer)
        marks = "".join(f"{scores.counts[mark].f1:8.3f}" for mark in ".,?")
        capitals, inside = (scores.counts[kind].f1 for kind in ("capitals", "capitals inside sentences"))
        print(f"{name:24}{marks}{capitals:10.3f}{inside:18.3f}")
        words = scores.words
    path = folder / PUNCTUATION_FILE
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    print(f"\n{words} words; {PUNCTUATION_FILE} {digest}, {path.stat().st_size / 1e6:.1f} MB")
    print(f"{_milliseconds_per_word(lines):.2f} ms of CPU time a word, one thread")


def _milliseconds_per_word(lines: Sequence[str], count: int = 2_000) -> float:
    """The median over lines of the time a word takes, in a process that has seen its words before."""
    punctuator = load_punctuator(resolve_model(MODEL))
    assert punctuator is not None
    words = " ".join(lines).lower().split()[:count]
    state = punctuator.initial_state()
    times = []
    for at in range(0, len(words), 20):
        began = time.process_time()
        state, _ = punctuator.step(state, words[at : at + 20], None, None)
        times.append((time.process_time() - began) / len(words[at : at + 20]))
    return 1e3 * sorted(times)[len(times) // 2]


if __name__ == "__main__":
    main()
