"""Normalise text into the form that models write, by language.

Training transcripts, language-model corpora and references for scoring use the same normaliser, so that they
agree about what a word is. A language is a BCP 47 tag or its first part (``en``, ``zh-CN``).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "`": "'", "´": "'"})
_UNDECOMPOSED = str.maketrans(
    {"ß": "ss", "ẞ": "ss", "æ": "ae", "Æ": "ae", "œ": "oe", "Œ": "oe", "ø": "o", "Ø": "o", "ł": "l", "Ł": "l"}
    | {"đ": "d", "Đ": "d", "ð": "d", "Ð": "d", "þ": "th", "Þ": "th", "ħ": "h", "Ħ": "h", "ı": "i"}
)
"""Latin letters that Unicode does not decompose into a letter of English and an accent."""
_NOT_ENGLISH = re.compile(r"[^a-z' ]+")
_QUOTES = re.compile(r"(?<![a-z])'(?![a-z])|''+")
_LOOSE_QUOTES = re.compile(r"(?<!\w)'|'(?!\w)|''+")
SPACELESS = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U000323af"
)
"""Ranges of a regular expression: Han characters and kana, which are written without spaces."""
_NOT_CHINESE = re.compile(r"[^\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323afa-z]+")
_SUPERFLUOUS_SPACE = re.compile(rf"(?<=[{SPACELESS}]) (?=[{SPACELESS}])")
_WORD_BREAK = re.compile(rf"\s+|(?<=[{SPACELESS}])(?=[{SPACELESS}])")
_SPOKEN_SYMBOLS = frozenset("%&@#+=°")


def normalise_english(text: str) -> str:
    """Return lower-case words of ``a–z`` and ``'`` with one space between.

    Accents are dropped (``café`` is ``cafe``, ``Søren`` is ``soren``), every kind of apostrophe becomes ``'`` and
    stays where it touches a letter (``'tis``, ``boys'``); anything else, digits too, separates words. Numbers are
    not spelled out: a reference should contain them as spoken.
    """
    text = text.translate(_APOSTROPHES).translate(_UNDECOMPOSED)
    decomposed = unicodedata.normalize("NFKD", text)
    text = "".join(c for c in decomposed if not unicodedata.combining(c)).lower()
    text = _NOT_ENGLISH.sub(" ", text)
    return " ".join(_QUOTES.sub(" ", text).split())


def normalise_chinese(text: str) -> str:
    """Return Chinese characters and lower-case ``a–z``, without spaces.

    Full-width and other compatibility forms are folded (NFKC: ``ＡＢＣ`` is ``abc``); anything else, also
    digits, is removed. Numbers are not spelled out: a transcript should contain them as spoken (``三`` for 3).
    """
    return _NOT_CHINESE.sub("", unicodedata.normalize("NFKC", text).lower())


def normalise_letters(text: str, *, keep_case: bool = False) -> str:
    """Return words of any script's letters and marks, and of ``'`` inside words, with one space between.

    They are in lower case unless ``keep_case`` is true. Compatibility forms are folded and accents stay (NFKC).
    Anything else, digits too, separates words.
    """
    text = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES))
    text = unicodedata.normalize("NFC", text if keep_case else text.lower())
    text = "".join(c if c == "'" or unicodedata.category(c)[0] in "LM" else " " for c in text)
    return " ".join(_LOOSE_QUOTES.sub(" ", text).split())


def symbols_to_spell_out(text: str) -> set[str]:
    """Return characters of ``text`` that are spoken but dropped by every normaliser: digits, ``%``, ``€``, ….

    A transcript with such a character lacks part of its audio: it should be written as spoken (``twenty``, ``三``).
    """
    return {
        c
        for c in unicodedata.normalize("NFKC", text)
        if c in _SPOKEN_SYMBOLS or unicodedata.category(c) in ("Nd", "No", "Sc")
    }


def join_words(words: Iterable[str]) -> str:
    """Join words with one space between, but none between two characters of Chinese or Japanese."""
    return _SUPERFLUOUS_SPACE.sub("", " ".join(word for word in words if word))


def split_words(text: str) -> list[str]:
    """Split a text into words between which a line may break; the inverse of :func:`join_words`."""
    return [word for word in _WORD_BREAK.split(text) if word]


@dataclass(frozen=True, slots=True)
class TextRules:
    """The text rules of a language."""

    language: str
    normalise: Callable[[str], str]
    """Normalises text; normalised text stays unchanged."""
    unit: Literal["word", "character"]
    """The unit of language models and of the main error rate: WER or CER."""

    def words(self, text: str) -> list[str]:
        """Split normalised text into units: words, or characters if the language has no spaces."""
        return text.split() if self.unit == "word" else list("".join(text.split()))

    def sentence(self, text: str) -> str:
        """Normalise ``text`` for language models, with one space between units."""
        return " ".join(self.words(self.normalise(text)))


def text_rules(language: str) -> TextRules:
    """The rules of a language; languages without their own use :func:`normalise_letters`."""
    match language.lower().replace("_", "-").split("-")[0]:
        case "en":
            return TextRules("en", normalise_english, "word")
        case "zh" | "cmn" | "yue":
            return TextRules("zh", normalise_chinese, "character")
        case other:
            return TextRules(other, normalise_letters, "word")
