"""Hotwords: words and phrases a session listens for, and what hearing them is worth.

Knows words and letters only, no beams and no language model. A single hotword is worth exactly what
pyctcdecode's ``HotwordScorer`` gives it: its boost once whole, and while it is being spelt the share of its
letters heard so far. A phrase is worth its boost for each of its words, credited word by word as long as the
phrase goes on, and taken back when it breaks off. Nothing is looked up by its text while frames are heard:
the native core keeps the place of every word in a trie of all hotwords.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from streamasr.decoding import _native
from streamasr.decoding.hypothesis import Hotword
from streamasr.errors import ConfigError

Hotwords = _native.Hotwords
"""A session's hotwords, ready to listen for; immutable, may be shared by its searches.

``score(text)`` is what the words of a text are worth, phrases under way included (natural log);
``score_part(text, part)`` what the beginning of the next word is worth, ``None`` where no hotword begins so.
"""


def listen_for(hotwords: Iterable[Hotword]) -> Hotwords:
    """Make ``hotwords``, spelt as the model spells them, ready. Of equal texts the highest boost counts.

    Raises:
        ConfigError: an empty text, or a boost that is not a finite number.
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
