"""Choose the hotwords of a prompt: the names and terms in it, not its ordinary words."""

from __future__ import annotations

import re
from collections.abc import Iterable

from streamasr.protocol.limits import DEFAULT_LIMITS
from streamasr.protocol.messages import HotwordSpec

_LIST_WORDS = 4
"""A prompt whose parts between commas have at most this many words is a list of terms."""
_PARTS = re.compile(r"[,;\n、，；]+")
_SENTENCES = re.compile(r"(?<=[.!?:。！？])\s+|\n+")
_EDGES = " \t\"'“”‘’()[]{}<>.!?:…*_"


def prompt_hotwords(keywords: Iterable[str], prompt: str) -> tuple[HotwordSpec, ...]:
    """Return the hotwords of exact ``keywords`` and of a ``prompt``, each once, as many as a session may have.

    A prompt that is a list (``ZyntriQix, Digique Plus``) gives all its parts. Of a sentence come the words that are
    written like names: with a capital or a digit, except a plain capital at the beginning of a sentence.
    """
    terms = [*(keyword.strip() for keyword in keywords), *_terms(prompt)]
    return _hotwords(terms)


def phrase_hotwords(phrases: Iterable[str]) -> tuple[HotwordSpec, ...]:
    """Return the hotwords of ``phrases``, each once, as many as a session may have.

    A phrase of more than four words is read as a list of words: it has a vocabulary, not a term.
    """
    parts = (phrase.split() for phrase in phrases)
    return _hotwords(
        term for words in parts for term in ([" ".join(words)] if len(words) <= _LIST_WORDS else words)
    )


def _hotwords(terms: Iterable[str]) -> tuple[HotwordSpec, ...]:
    usable = (term for term in terms if term and len(term) <= DEFAULT_LIMITS.hotword_chars and _is_text(term))
    return tuple(HotwordSpec(text=term) for term in list(dict.fromkeys(usable))[: DEFAULT_LIMITS.hotwords])


def _is_text(term: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in term)


def _terms(prompt: str) -> list[str]:
    parts = [part.strip(_EDGES) for part in _PARTS.split(prompt) if part.strip(_EDGES)]
    if len(parts) > 1 and all(len(part.split()) <= _LIST_WORDS for part in parts):
        return parts
    return [word for sentence in _SENTENCES.split(prompt) for word in _names(sentence)]


def _names(sentence: str) -> Iterable[str]:
    for number, part in enumerate(sentence.split()):
        word = part.strip(_EDGES + ",;").removesuffix("'s").removesuffix("’s")
        inside = any(char.isupper() or char.isdigit() for char in word[1:])
        begins = word[:1].isupper() or word[:1].isdigit()
        if len(word) > 1 and (inside or (begins and number > 0)):
            yield word
