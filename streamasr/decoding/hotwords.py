"""Compile the hotwords of a session for the native core, which boosts their scores (context biasing).

A single hotword scores what pyctcdecode's ``HotwordScorer`` gives it: its boost when it is complete, and before that
the share of its letters so far. A phrase scores its boost for each of its words, word by word as long as the phrase
goes on; the score is taken back when the phrase breaks off.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from streamasr.decoding import _native
from streamasr.decoding.hypothesis import Hotword
from streamasr.errors import ConfigError

Hotwords = _native.Hotwords
"""The compiled hotwords of a session: a trie; immutable, may be shared between searches.

``score(text)`` is the score of the words of a text, phrases under way included (natural log).
``score_partial(text, part)`` is the score of the first letters of the next word, ``None`` if no hotword begins so.
"""


def compile_hotwords(hotwords: Iterable[Hotword]) -> Hotwords:
    """Compile ``hotwords``, spelt as the model spells them. For equal texts the highest boost counts.

    Raises:
        ConfigError: a text is empty, or a boost is not a finite number.
    """
    spelt = []
    for hotword in hotwords:
        if not math.isfinite(hotword.boost):
            raise ConfigError(f"hotword {hotword.text!r}: boost must be a finite number, got {hotword.boost}")
        words = hotword.text.split()
        if not words:
            raise ConfigError("a hotword must hold at least one word, got an empty text")
        spelt.append((" ".join(words), hotword.boost))
    return Hotwords(spelt)
