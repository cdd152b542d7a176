"""Text as the models write it. Knows no tokens, no audio and no file.

Training transcripts, language-model corpora and references for scoring all pass through here, so that
they agree about what a word is.
"""

from __future__ import annotations

import re
import unicodedata

_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "`": "'", "´": "'"})
_NOT_ENGLISH = re.compile(r"[^a-z' ]+")
_QUOTES = re.compile(r"(?<![a-z])'(?![a-z])|''+")


def normalise_english(text: str) -> str:
    """Lower-case words of ``a–z`` and ``'``, one space between, none around.

    Accents are dropped (``café`` is ``cafe``), every kind of apostrophe becomes ``'`` and stays where it
    touches a letter (``'tis``, ``boys'``); anything else, digits too, parts words. Numbers are not spelt out:
    a reference should hold them as spoken.
    """
    text = text.translate(_APOSTROPHES)
    decomposed = unicodedata.normalize("NFKD", text)
    text = "".join(c for c in decomposed if not unicodedata.combining(c)).lower()
    text = _NOT_ENGLISH.sub(" ", text)
    return " ".join(_QUOTES.sub(" ", text).split())
