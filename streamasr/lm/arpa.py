"""Write a back-off model as ARPA text, the exchange format of n-gram tools, with base-10 logarithms."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from streamasr.lm.kneser_ney import BackoffModel, Floats

_ZERO_LOG10 = -99.0
"""The logarithm that ARPA files use for the probability zero of ``<s>``."""


def write_arpa(model: BackoffModel, path: Path) -> None:
    """Write ``model`` to ``path``, whose folder must exist."""
    with path.open("w", encoding="utf-8") as file:
        file.write("\\data\\\n")
        for k, order in enumerate(model.orders, start=1):
            file.write(f"ngram {k}={len(order)}\n")
        texts: list[str] = []
        for k, order in enumerate(model.orders, start=1):
            words = (model.words[w] for w in order.table.word)
            if k == 1:
                texts = list(words)
            else:
                texts = [f"{texts[p]} {w}" for p, w in zip(order.table.prefix, words, strict=True)]
            file.write(f"\n\\{k}-grams:\n")
            logs = log10(order.prob)
            if k == model.order:
                file.writelines(f"{p:.7g}\t{text}\n" for p, text in zip(logs, texts, strict=True))
            else:
                backoffs = np.log10(model.backoff(k))
                rows = zip(logs, texts, backoffs, strict=True)
                file.writelines(f"{p:.7g}\t{text}\t{b:.7g}\n" for p, text, b in rows)
        file.write("\n\\end\\\n")


def log10(prob: Floats) -> Floats:
    """Return the base-10 logarithms of probabilities; a probability of zero gives -99, as in ARPA files and KenLM."""
    logs = np.full(len(prob), _ZERO_LOG10)
    np.log10(prob, out=logs, where=prob > 0)
    return logs
