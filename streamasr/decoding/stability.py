"""Choose the words of the current hypothesis that a partial shows."""

from __future__ import annotations

from streamasr.config import StabilityConfig


def words_to_show(words: int, committed: int, stability: StabilityConfig) -> int:
    """Return how many of ``words`` words to show: at least the ``committed`` ones.

    Of the others the last ``hold_words`` are held back (hold-n, Liu et al. 2020).
    """
    return max(committed, words - stability.hold_words)
