"""A session's words as they are written: pieces with the times and confidences of the words they stand for.

Knows words and the rules of a language; no message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from streamasr.decoding.hypothesis import Word
from streamasr.formatting import Formatter


class WordFormatter:
    """Writes the words of one session's utterances.

    Args:
        formatter: the language's rules; ``None`` leaves words as they were said.
    """

    def __init__(self, formatter: Formatter | None) -> None:
        self._formatter = formatter
        self.begins_sentence = True
        """Whether the utterance under way begins a sentence."""

    def format(self, words: Sequence[Word], committed: int) -> tuple[tuple[Word, ...], int]:
        """The words of an utterance, and how many of them never change again.

        Args:
            words: as they were said.
            committed: how many of them never change again. Of these, some may wait for words to follow: after
                *twenty* there may come *five*.
        """
        if self._formatter is None:
            return tuple(words), committed
        texts = [word.text for word in words]
        stable = self._formatter.stable_count(texts[:committed])
        written: list[Word] = []
        at = stable_pieces = 0
        for text, count in self._formatter.write(texts, begins_sentence=self.begins_sentence):
            written.append(merge(text, words[at : at + count]))
            at += count
            stable_pieces += at <= stable
        return tuple(written), stable_pieces


def merge(text: str, words: Sequence[Word]) -> Word:
    """One word in the place of several: from the first one's start to the last one's end, right if all are.

    Its confidence is the product of theirs, as if they were right or wrong independently.
    """
    return replace(
        words[0],
        text=text,
        end_frame=words[-1].end_frame,
        confidence=prod(word.confidence for word in words),
    )
