"""Turn utterances that grow into pieces of text that are only ever appended."""

from __future__ import annotations

from streamasr.text import join_words


class Deltas:
    """The transcript of one recording, sent in pieces. All pieces together are :attr:`text`."""

    def __init__(self) -> None:
        self.text = ""
        """What all pieces so far make together."""
        self._before = ""
        """The text of the utterances that are finished."""

    def grow(self, committed: str) -> str:
        """Return the piece that the committed words of the current utterance add; empty if they add none."""
        grown = join_words([part for part in (self._before, committed) if part])
        added = grown.removeprefix(self.text)
        self.text += added
        return added

    def finish(self, text: str) -> str:
        """Return the piece that the final ``text`` of the current utterance adds; empty if it adds none."""
        added = self.grow(text)
        self._before = self.text
        return added
