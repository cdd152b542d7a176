"""Convert recognised words to their written form, with the times and confidences of the words they replace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from streamasr.decoding.hypothesis import Word
from streamasr.formatting import Formatter


class WordFormatter:
    """Applies a language's formatting rules to the words of one session's utterances.

    Args:
        formatter: the language's rules; ``None`` leaves words as they were spoken.
    """

    def __init__(self, formatter: Formatter | None) -> None:
        self._formatter = formatter
        self.begins_sentence = True
        """Whether the current utterance begins a sentence."""

    def format(self, words: Sequence[Word], committed: int) -> tuple[tuple[Word, ...], int]:
        """Return the written words of an utterance, and how many of them are final.

        Args:
            words: the spoken words.
            committed: number of spoken words that never change again. Fewer written words may be final: *five* may
                still follow *twenty*.
        """
        if self._formatter is None:
            return tuple(words), committed
        texts = [word.text for word in words]
        stable = self._formatter.stable_count(texts[:committed])
        written: list[Word] = []
        spoken_words = stable_words = 0
        for text, count in self._formatter.write(texts, begins_sentence=self.begins_sentence):
            written.append(merge(text, words[spoken_words : spoken_words + count]))
            spoken_words += count
            stable_words += spoken_words <= stable
        return tuple(written), stable_words


def merge(text: str, words: Sequence[Word]) -> Word:
    """Return one word in place of several, from the first one's start to the last one's end.

    Its confidence is the probability that all are right: the product of theirs, as if errors were independent.
    """
    return replace(
        words[0],
        text=text,
        end_frame=words[-1].end_frame,
        confidence=prod(word.confidence for word in words),
    )
