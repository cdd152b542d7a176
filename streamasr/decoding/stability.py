"""Which words of the reading under way a partial shows: stability against lag. Knows words and their evidence."""

from __future__ import annotations

from collections.abc import Sequence

from streamasr.config import StabilityConfig
from streamasr.decoding.hypothesis import Word


def words_to_show(words: Sequence[Word], committed: int, stability: StabilityConfig) -> int:
    """How many of ``words`` to show: the ``committed`` ones at least.

    Of the others the last ``hold_words`` are held back (hold-n, Liu et al. 2020), and whatever comes after a word
    that less than ``show_share`` of the readings' probability says.
    """
    shown = max(committed, len(words) - stability.hold_words)
    for place in range(committed, shown):
        if words[place].evidence.share < stability.show_share:
            return place
    return shown
