"""Read any audio input, block by block, and report what is wrong with it.

This is the only reader of audio files: ``transcribe`` with and without a daemon, ``listen --file``, the tools for
training data and the trainer use it. Shape suffixes: S samples (frames of audio), C channels.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

import numpy as np

from streamasr.errors import DataError
from streamasr.filename import check_file_name
from streamasr.frontend.pcm import MAX_FLOAT_LEVEL, Samples
from streamasr.frontend.resample import Resampler
from streamasr.media.channels import MonoMixer
from streamasr.media.containers import inspect
from streamasr.media.decoders import Decoder, NotAudioError, PcmDecoder, SoundFileDecoder
from streamasr.media.ffmpeg import READ_TIMEOUT_S, FfmpegDecoder, find_ffmpeg
from streamasr.media.pcm import RAW_RATES, RawFormat, Samples2D

BLOCK_FRAMES = 65_536
"""Samples of each channel read at a time, so that a file of hours needs no more memory than one of seconds."""
SESSION_RATES = range(8_000, 48_001)
"""Sample rates that a session takes, in Hz; a client resamples others."""
_FULL_BLOCK_CHANNELS = 8
"""Files with more channels are read in smaller blocks: there are some with a thousand."""
FORMATS = "WAV, FLAC, Ogg, Opus or MP3"
"""The formats that are read without ffmpeg and that messages name."""


class AudioReader:
    """An open audio input.

    Args:
        decoder: decodes the input; it is closed with the reader.
        name: the input's name, which begins every message.

    Raises:
        DataError: a sample rate that no audio has.
    """

    def __init__(self, decoder: Decoder, name: str) -> None:
        self._decoder = decoder
        self.name = name
        self.sample_rate = decoder.sample_rate
        """Hz."""
        if self.sample_rate not in RAW_RATES:
            decoder.close()
            raise DataError(
                f"{name}: its header states a sample rate of {self.sample_rate} Hz; "
                f"audio has {RAW_RATES[0]} to {RAW_RATES[-1]} Hz"
            )
        self.channels = decoder.channels
        self.frames = decoder.frames
        """Samples of each channel that the input should have; ``None`` if it does not state that."""
        self.sixteen_bits = decoder.sixteen_bits
        """Whether every sample is a 16-bit integer divided by 32,768."""
        self.position = 0
        """Samples of each channel read so far."""
        self.incomplete_at_s: float | None = None
        """Where the input was cut off, in seconds. Known after the last block; ``None`` if it is complete."""
        self._found: list[str] = []

    @property
    def warnings(self) -> list[str]:
        """Sentences about the input, each with its name. Complete after the last block."""
        found = [*self._decoder.warnings, *self._found]
        if self.incomplete_at_s is not None:
            whole_s = (self.frames or 0) / self.sample_rate
            of = f" of {whole_s:.2f} s" if whole_s > self.incomplete_at_s else ""
            found.append(f"incomplete: the audio ends at {self.incomplete_at_s:.2f} s{of}")
        return [f"{self.name}: {sentence}" for sentence in found]

    def blocks(self, block_frames: int | None = None) -> Iterator[Samples2D]:
        """Yield the rest of the input, ``[S, C]`` in −1..1, in blocks of up to ``block_frames`` samples.

        Raises:
            DataError: the input cannot be read, or it has a sample that is no finite number or far too large.
        """
        while True:
            block_SC = self._decoder.read(
                block_frames or min(BLOCK_FRAMES, BLOCK_FRAMES * _FULL_BLOCK_CHANNELS // self.channels)
            )
            if not len(block_SC):
                break
            yield self._checked(block_SC)
            self.position += len(block_SC)
        if self._decoder.incomplete:
            self.incomplete_at_s = self.position / self.sample_rate

    def mono_blocks(self, sample_rate: int, channel: int | None = None) -> Iterator[Samples]:
        """Yield mono samples at ``sample_rate`` Hz: all channels mixed, or the given one, counted from 0.

        Raises:
            DataError: as :meth:`blocks`, or the input has no such channel.
        """
        mixer = MonoMixer(self.name, self.channels, self.sample_rate, channel, self._found.append)
        resampler = Resampler(self.sample_rate, sample_rate)
        for block_SC in self.blocks():
            yield self._limited(resampler.feed(mixer.feed(block_SC)))
        yield self._limited(resampler.feed(mixer.flush()))
        yield self._limited(resampler.flush())

    def channel_blocks(self, sample_rate: int) -> Iterator[list[Samples]]:
        """Yield the samples of every channel at ``sample_rate`` Hz, one array a channel, all of one length.

        Raises:
            DataError: as :meth:`blocks`.
        """
        resamplers = [Resampler(self.sample_rate, sample_rate) for _ in range(self.channels)]
        for block_SC in self.blocks():
            yield [
                self._limited(resampler.feed(np.ascontiguousarray(block_SC[:, channel])))
                for channel, resampler in enumerate(resamplers)
            ]
        yield [self._limited(resampler.flush()) for resampler in resamplers]

    def _limited(self, samples_S: Samples) -> Samples:
        """Clip what a resampler made, if a session would get it already resampled: sessions clip what they get."""
        return samples_S if self.sample_rate in SESSION_RATES else samples_S.clip(-1.0, 1.0)

    def _checked(self, block_SC: Samples2D) -> Samples2D:
        level = float(np.abs(block_SC).max())
        if level <= 1.0:
            return block_SC
        if not level <= MAX_FLOAT_LEVEL:
            unusable_SC = ~(np.abs(block_SC) <= MAX_FLOAT_LEVEL)
            sample, channel = (int(places[0]) for places in np.nonzero(unusable_SC))
            value = block_SC[sample, channel]
            number = self.position + sample
            where = f"sample {number} of channel {channel + 1} ({number / self.sample_rate:.3f} s)"
            if not np.isfinite(value):
                raise DataError(f"{self.name}: {where} is {value}; samples must be finite numbers")
            raise DataError(
                f"{self.name}: {where} has the level {abs(value):g}, full scale is 1: scale the file down first"
            )
        return block_SC.clip(-1.0, 1.0)

    def mark_incomplete(self, warnings: Iterable[str]) -> None:
        """Say that the input is a copy of one that broke off where it ends.

        Args:
            warnings: sentences about the other one, without its name.
        """
        self._decoder.incomplete = True
        self._decoder.warnings += warnings

    def interrupt(self) -> None:
        """Let :meth:`blocks` end soon if it waits for a pipe or a URL. Any thread may call this."""
        self._decoder.interrupt()

    def close(self) -> None:
        """Close the input."""
        self._decoder.close()

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_file(
    path: Path,
    *,
    name: str | None = None,
    raw: RawFormat | None = None,
    read_timeout_s: float = READ_TIMEOUT_S,
) -> AudioReader:
    """Open an audio file of any kind; ffmpeg reads what libsndfile does not.

    Args:
        path: the file.
        name: its name in messages; by default the path.
        raw: the format of a file of raw audio; without it, the file states its format.
        read_timeout_s: seconds that ffmpeg may take to send something.

    Raises:
        DataError: no such file, not audio, or a kind that needs ffmpeg, which is not installed.
    """
    name = name or str(path)
    check_file_name(str(path))
    try:
        if raw is not None:
            decoder = PcmDecoder(path.open("rb"), name, raw)
            decoder.frames = path.stat().st_size // raw.frame_bytes
            return AudioReader(decoder, name)
        try:
            return AudioReader(SoundFileDecoder(path, name), name)
        except NotAudioError as error:
            if not path.stat().st_size:
                raise DataError(f"{name}: the file is empty") from None
            return AudioReader(_with_ffmpeg(path, name, error, read_timeout_s), name)
    except FileNotFoundError:
        raise DataError(f"{name}: no such file") from None
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror or error}") from None


def open_bytes(data: bytes, name: str) -> AudioReader:
    """Open the bytes of an audio file that libsndfile reads; see :func:`open_file`."""
    return AudioReader(SoundFileDecoder(data, name), name)


def read_audio(source: Path | bytes, sample_rate: int, name: str | None = None) -> Samples:
    """Return all samples of a complete file, mixed down and at ``sample_rate`` Hz.

    Raises:
        DataError: as :func:`open_file`, or the file is incomplete: its transcript would not fit what is left.
    """
    with (
        open_bytes(source, name or "audio") if isinstance(source, bytes) else open_file(source, name=name)
    ) as reader:
        blocks = list(reader.mono_blocks(sample_rate))
        if reader.incomplete_at_s is not None:
            raise DataError(reader.warnings[-1])
    return np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.float32)


def _with_ffmpeg(path: Path, name: str, error: NotAudioError, read_timeout_s: float) -> FfmpegDecoder:
    ffmpeg = find_ffmpeg()
    kind = _kind(path)
    if ffmpeg is not None:
        try:
            decoder = FfmpegDecoder(path, ffmpeg, name, read_timeout_s)
            with path.open("rb") as file:
                decoder.incomplete = inspect(file).cut  # of a cut Ogg or AVI file, ffmpeg does not complain
            return decoder
        except DataError as failure:
            if kind:
                raise
            raise DataError(
                f"{name}: not an audio file that can be read ({_reason(failure, name)}); use {FORMATS}"
            ) from None
    if kind:
        command = f"ffmpeg -i {shlex.quote(name)} {shlex.quote(path.stem + '.wav')}"
        raise DataError(
            f"{name}: {kind} needs ffmpeg, which is not installed; install it, or convert: {command}"
        )
    raise DataError(f"{name}: not an audio file that can be read ({_reason(error, name)}); use {FORMATS}")


def _reason(error: DataError, name: str) -> str:
    return error.message.removeprefix(f"{name}: ")


_KINDS = (
    (4, b"ftyp", "MP4 (M4A, MOV)"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska (WebM)"),
    (0, b"\xff\xf1", "AAC"),
    (0, b"\xff\xf9", "AAC"),
    (0, b"\x30\x26\xb2\x75", "Windows Media"),
    (0, b"FLV\x01", "Flash video"),
    (8, b"AVI ", "AVI"),
    (0, b"#!AMR", "AMR"),
    (0, b"wvpk", "WavPack"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"#EXTM3U", "a playlist"),
)
"""Offset and first bytes of formats that ffmpeg reads, and their names."""


_OGG_CODECS = (b"theora", b"\x7fFLAC", b"Speex   ", b"fishead", b"OVP80", b"BBCD")
"""What the first packets of Ogg files hold that libsndfile does not read."""


def _kind(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(512)
    if head[:4] == b"OggS" and any(codec in head for codec in _OGG_CODECS):
        return "Ogg with video, FLAC or Speex"
    if head[:1] == b"\x47" and head[188:189] == b"\x47":
        return "an MPEG transport stream"
    return next((name for at, magic, name in _KINDS if head[at : at + len(magic)] == magic), "")
