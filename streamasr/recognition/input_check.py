"""Check that the bytes of a session are what its ``start`` message stated."""

from __future__ import annotations

from streamasr.errors import AudioError
from streamasr.frontend.mixups import BLOCK_BYTES, Reading, likely_encoding
from streamasr.frontend.pcm import decode_pcm, frame_bytes
from streamasr.media.channels import are_opposite
from streamasr.media.signatures import HEAD_BYTES, detect_container, wave_format
from streamasr.recognition.options import SessionOptions

_WINDOW_BLOCKS = 64
"""Blocks of one look at the samples: 3.2 s of 16 kHz ``pcm_s16le``."""
_WINDOWS = 4
"""How many such looks are taken, one after the other, until one has sound enough to judge."""

_REMEDIES: dict[Reading, str] = {
    "pcm_s16be": "big-endian 16-bit integers; swap the two bytes of every sample"
}


_OPPOSITE = (
    "the two channels have opposite phases and cancel each other out when they are mixed, as with a swapped wire; "
    'send one of them, with "channels":1 in start'
)


class InputCheck:
    """Looks at the first seconds of a session's bytes, and only at them: format, encoding, and phase of two channels.

    It keeps at most 8 KiB and one window of 64 blocks (100 KiB a channel), and nothing after the last window.

    Args:
        options: what ``start`` stated.
    """

    def __init__(self, options: SessionOptions) -> None:
        self._options = options
        self._head: bytes | None = b""
        self._window = bytearray()
        self._windows_left = _WINDOWS

    def check(self, data: bytes) -> str | None:
        """Look at more bytes. Return the text of a warning if they do not look as stated; at most once.

        Raises:
            AudioError: the session began with a container or a compressed format.
        """
        if self._head is not None:
            self._head = (self._head + data)[:HEAD_BYTES]
            self._refuse_containers(self._head)
            if len(self._head) == HEAD_BYTES:
                self._head = None
        if not self._windows_left:
            return None
        window_bytes = _WINDOW_BLOCKS * BLOCK_BYTES * self._options.channels
        self._window += data[: window_bytes - len(self._window)]
        return self.judge() if len(self._window) == window_bytes else None

    def judge(self) -> str | None:
        """Judge the bytes collected so far. Return the text of a warning if they do not look as stated."""
        if not self._windows_left:
            return None
        window = bytes(self._window)
        self._window.clear()
        warning = None
        if found := likely_encoding(window, self._options.encoding, self._options.channels):
            warning = f"{self._stated} but they look like {_remedy(found)}"
        elif self._options.channels == 2 and self._cancels_out(window):
            warning = _OPPOSITE
        self._windows_left = 0 if warning else self._windows_left - 1
        return warning

    def explain(self, data: bytes) -> str:
        """Return what else ``data``, which cannot be decoded, may be; empty if that cannot be said."""
        found = likely_encoding(data, self._options.encoding, self._options.channels, min_votes=1)
        return f"; the bytes look like {_remedy(found)}" if found else ""

    def _cancels_out(self, window: bytes) -> bool:
        """Whether the two channels have opposite phases, so that their mean is next to silence."""
        whole = len(window) - len(window) % frame_bytes(self._options.encoding, 2)
        try:
            samples_S = decode_pcm(window[:whole], self._options.encoding, 1)
        except AudioError:  # which ends the session
            return False
        return are_opposite(samples_S.reshape(-1, 2))

    @property
    def _stated(self) -> str:
        return f"start stated {self._options.encoding} samples,"

    def _refuse_containers(self, head: bytes) -> None:
        found = detect_container(head)
        wave = wave_format(head)
        if wave is not None and (wave.encoding, wave.sample_rate, wave.channels) != (
            self._options.encoding,
            self._options.sample_rate,
            self._options.channels,
        ):
            found = str(wave)
        if found is None:
            return
        raise AudioError(
            f"this is {found}; the session expects raw {self._options.encoding} samples of "
            f"{self._options.sample_rate} Hz without a header: decode it first (in a browser, take samples from an "
            "AudioWorklet), for example with `ffmpeg -i FILE -f s16le -ar 16000 -ac 1 -`"
        )


def _remedy(found: Reading) -> str:
    return _REMEDIES.get(found, f'{found}; set "encoding":"{found}" in start')
