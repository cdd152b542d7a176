"""Which words of the reading under way a partial shows: stability against lag. Knows how many words there are."""

from __future__ import annotations

from streamasr.config import StabilityConfig


def words_to_show(words: int, committed: int, stability: StabilityConfig) -> int:
    """How many of ``words`` words to show: the ``committed`` ones at least.

    Of the others the last ``hold_words`` are held back (hold-n, Liu et al. 2020).
    """
    return max(committed, words - stability.hold_words)
