"""Decode audio into blocks of samples, with libsndfile or from a stream of PCM.

Shape suffixes: S samples (frames of audio), C channels.
"""

from __future__ import annotations

import io
import itertools
import os
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import soundfile

from streamasr.errors import DataError
from streamasr.media.containers import Layout, PatchedFile, inspect, looks_like_audio
from streamasr.media.pcm import ByteStream, Pipe, RawFormat, Samples2D, decode_raw, read_wave_header

_SIXTEEN_BITS = frozenset({"PCM_U8", "PCM_S8", "PCM_16", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM"})
"""Encodings of libsndfile whose samples fit into 16 bits without loss."""
_RAW_SIXTEEN_BITS = frozenset({"pcm_u8", "pcm_s8", "pcm_s16le", "pcm_s16be", "mulaw", "alaw"})
_MPEG_SLACK = 1_152
"""Samples of the last MPEG frame that a decoder may hold back at the end of a complete file."""
_UNKNOWN_FRAMES = 1 << 62
_LOOKED_AT_BYTES = 4_096
"""How much of what a pipe sends after the stated end of a WAV stream is looked at."""


class Decoder(Protocol):
    """An open input."""

    sample_rate: int
    """Hz."""
    channels: int
    frames: int | None
    """Samples of each channel that the input should have; ``None`` if it does not state that."""
    sixteen_bits: bool
    """Whether every sample is a 16-bit integer divided by 32,768."""
    warnings: list[str]
    """Sentences without the input's name, for example about a header that was never filled in."""
    incomplete: bool
    """Whether the input ended before its end. Known once :meth:`read` has returned no sample."""

    def read(self, frames: int) -> Samples2D:
        """Return up to ``frames`` samples of each channel, ``[S, C]``; none at the end.

        Raises:
            DataError: the input could not be read; the message begins with its name.
        """
        ...

    def interrupt(self) -> None:
        """Let :meth:`read` return soon, and nothing from then on, if it has to wait. Any thread may call this."""
        ...

    def close(self) -> None:
        """Close the input."""
        ...


def _reason(error: soundfile.LibsndfileError) -> str:
    """Return libsndfile's reason; for an MP3 file without a frame, it claims that there is no file."""
    reason: str = error.error_string.rstrip(".")
    return "no audio in it" if reason.startswith("File does not exist") else reason


class _SequentialSoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """A file read strictly forwards.

    soundfile moves to a file's position anew after every read from a seekable file. In a file that was cut off,
    libsndfile fails there, or it returns samples from an old buffer as those that are missing.
    """

    def seekable(self) -> bool:
        return False


class NotAudioError(DataError):
    """libsndfile does not read the file; ffmpeg may."""


class SoundFileDecoder:
    """A :class:`Decoder` for a file, or the bytes of one, that libsndfile reads.

    Args:
        source: the file, or its bytes.
        name: begins every error message.

    Raises:
        DataError: libsndfile cannot read the file.
        OSError: there is no such file, or it cannot be opened.
    """

    def __init__(self, source: Path | bytes, name: str) -> None:
        self._name = name
        self._bytes: BinaryIO = source.open("rb") if isinstance(source, Path) else io.BytesIO(source)
        try:
            layout = inspect(self._bytes)
            self._sounds = self._open(source, layout)
        except soundfile.LibsndfileError as error:
            self._bytes.close()
            raise NotAudioError(f"{name}: {_reason(error)}") from None
        except BaseException:
            self._bytes.close()
            raise
        self._sound = first = self._sounds.pop(0)
        self.sample_rate: int = first.samplerate
        self.channels: int = first.channels
        self.sixteen_bits = first.subtype in _SIXTEEN_BITS
        frames = first.frames + sum(sound.frames for sound in self._sounds)
        self.frames: int | None = frames if frames < _UNKNOWN_FRAMES else None
        self.warnings = [layout.warning] if layout.warning else []
        self.incomplete = layout.cut
        self._position = self._before = 0
        self._slack = _MPEG_SLACK if self._sound.format == "MP3" else 0
        self._ended = False

    def _open(self, source: Path | bytes, layout: Layout) -> list[_SequentialSoundFile]:
        """Open the file; libsndfile reads only one stream of a chained Ogg file, so that each is opened."""
        if layout.links:
            return [
                _SequentialSoundFile(PatchedFile(self._bytes, Layout(skipped_bytes=begin, end=end)))
                for begin, end in itertools.pairwise((*layout.links, None))
                if begin is not None
            ]
        if (
            isinstance(source, Path)
            and not (layout.prefix or layout.patches or layout.end)
            and not _has_telling_name(source)
        ):
            return [_SequentialSoundFile(os.fsencode(source))]
        return [_SequentialSoundFile(PatchedFile(self._bytes, layout))]

    def read(self, frames: int) -> Samples2D:
        """See :class:`Decoder`."""
        block_SC = self._read(frames)
        while not len(block_SC) and self._sounds:
            self._next_sound()
            block_SC = self._read(frames)
        return block_SC

    def _next_sound(self) -> None:
        """Go on with the next stream of a chained Ogg file."""
        self._sound.close()
        self._sound, self._ended = self._sounds.pop(0), False
        self._before += self._position
        self._position = 0
        found, expected = (self._sound.samplerate, self._sound.channels), (self.sample_rate, self.channels)
        if found != expected:
            raise DataError(
                f"{self._name}: the format changes at {self._before / self.sample_rate:.2f} s, from "
                f"{expected[0]} Hz with {expected[1]} channels to {found[0]} Hz with {found[1]}; split the file there"
            )

    def _read(self, frames: int) -> Samples2D:
        if self._ended:
            return np.zeros((0, self.channels), dtype=np.float32)
        block_SC = np.zeros((frames, self.channels), dtype=np.float32)
        try:
            decoded = len(self._sound.read(out=block_SC))
        except soundfile.LibsndfileError as error:
            # What was decoded before the damage is in the block.
            self._ended = self.incomplete = True
            decoded = self._told_position() - self._position
            if not self._before and not self._position and not decoded:
                raise DataError(f"{self._name}: nothing can be decoded: {_reason(error)}") from None
        self._position += decoded
        if not decoded:
            self._ended = True
            missing = (
                0 if self.frames is None or self._sounds else self.frames - self._before - self._position
            )
            self.incomplete = self.incomplete or missing > self._slack
        return block_SC[:decoded]

    def _told_position(self) -> int:
        """Return libsndfile's position; for formats without one, such as GSM 6.10, that of the last block."""
        try:
            return int(self._sound.tell())
        except soundfile.LibsndfileError:
            return self._position

    def interrupt(self) -> None:
        """See :class:`Decoder`. A file is never waited for."""

    def close(self) -> None:
        """See :class:`Decoder`."""
        for sound in (self._sound, *self._sounds):
            sound.close()
        self._bytes.close()


def _has_telling_name(path: Path) -> bool:
    """Whether soundfile would go by the name, not the content: every ``.raw`` is audio without a header to it."""
    return path.suffix.lower() == ".raw"


def can_decode_end(path: Path, frames: int) -> bool:
    """Whether libsndfile can go to the last of a file's ``frames`` samples and decode it."""
    if _has_telling_name(path):
        return False
    try:
        with soundfile.SoundFile(os.fsencode(path)) as sound:
            sound.seek(max(0, frames - 1))
            return len(sound.read(1)) == min(1, frames)
    except soundfile.LibsndfileError:
        return False


class PcmDecoder:
    """A :class:`Decoder` for PCM that comes through a pipe or from a file.

    Args:
        stream: the bytes; closed with the decoder.
        name: begins every error message.
        raw: the format of raw audio; without it, the bytes must be a WAV stream.

    Raises:
        DataError: not a WAV stream.
    """

    def __init__(self, stream: ByteStream, name: str, raw: RawFormat | None = None) -> None:
        self._stream = stream
        self._unread_bytes: int | None = None
        """Bytes of audio that are still to come; ``None`` if nobody has said how many."""
        if raw is None:
            raw, self._unread_bytes = read_wave_header(stream, name)
        self._raw, self._rest = raw, b""
        self.sample_rate, self.channels = raw.sample_rate, raw.channels
        self.sixteen_bits = raw.encoding in _RAW_SIXTEEN_BITS
        self.frames: int | None = (
            None if self._unread_bytes is None else self._unread_bytes // raw.frame_bytes
        )
        self.warnings: list[str] = []
        self.incomplete = False

    def read(self, frames: int) -> Samples2D:
        """See :class:`Decoder`."""
        size = self._raw.frame_bytes
        while True:
            data = self._next_bytes(frames * size - len(self._rest))
            if not data and self._rest:
                self.warnings.append(
                    f"{len(self._rest)} bytes at its end are not a whole sample and were left out"
                )
                self._rest = b""
            self._rest += data
            whole = len(self._rest) // size * size
            if whole or not data:
                block, self._rest = self._rest[:whole], self._rest[whole:]
                return decode_raw(block, self._raw)

    def no_samples(self) -> Samples2D:
        """Return a block of no samples."""
        return np.zeros((0, self.channels), dtype=np.float32)

    def _next_bytes(self, wanted: int) -> bytes:
        """Return up to ``wanted`` bytes, none of them after the stated end, where a WAV stream may have metadata."""
        if self._unread_bytes is None:
            return self._stream.read(wanted)
        if not self._unread_bytes:
            return b""
        data = self._stream.read(min(wanted, self._unread_bytes))
        self._unread_bytes -= len(data)
        pipe = self._stream if isinstance(self._stream, Pipe) else None
        self.incomplete = not data and not (pipe and pipe.interrupted)
        if not self._unread_bytes and pipe and looks_like_audio(pipe.read_waiting(_LOOKED_AT_BYTES)):
            self.warnings.append("what comes after the length that its header gives is not read")
        return data

    def interrupt(self) -> None:
        """See :class:`Decoder`."""
        if isinstance(self._stream, Pipe):
            self._stream.interrupt()

    def close(self) -> None:
        """See :class:`Decoder`."""
        self._stream.close()
