"""Read what libsndfile does not, such as AAC, video and URLs, through the program ffmpeg."""

from __future__ import annotations

import contextlib
import math
import os
import re
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from streamasr.errors import DataError
from streamasr.media.decoders import PcmDecoder
from streamasr.media.pcm import Pipe, Samples2D

URL_PROTOCOLS = {
    "http": "http,https,httpproxy,tcp,tls,crypto,data",
    "https": "http,https,httpproxy,tcp,tls,crypto,data",
    "rtsp": "rtsp,rtsps,rtp,srtp,udp,tcp,tls",
    "rtsps": "rtsp,rtsps,rtp,srtp,udp,tcp,tls",
    "rtmp": "rtmp,tcp",
    "rtmps": "rtmps,tcp,tls",
}
"""The schemes of URLs that are read, and the protocols that ffmpeg may use for each: a playlist from a web server
cannot make it read a file of this machine."""
_FILE_PROTOCOLS = "file,crypto,data"
READ_TIMEOUT_S = 30.0
"""Seconds without any data after which a URL is given up."""
_STOP_TIMEOUT_S = 2.0
"""Seconds that ffmpeg has to end before it is killed."""
_LOG_TAIL_BYTES = 20_000
MAX_LOG_BYTES = 4_000_000
"""Most bytes of ffmpeg's messages on the disk: a damaged file causes some for each of its packets."""
_LOG_LINE = re.compile(r"^(?:\[[^\]]* @ [^\]]*\] )*\[(?:error|fatal|panic)\] (?P<message>.+)$", re.MULTILINE)
_DURATION = re.compile(r"Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)")
_CUT = re.compile(r"partial file|ended prematurely|[Tt]runcat|Input buffer exhausted")
_NO_AUDIO = "matches no streams"
_CUT_SLACK_S = 0.1
"""A file with errors is incomplete if it ends by more than this before the duration that it states."""
_SILENT_CUT_SLACK_S = 0.5
"""The same for a file of one audio track without an error; encoders state up to 0.3 s more than there is."""


def find_ffmpeg() -> str | None:
    """Return the path of ffmpeg; ``None`` if it is not installed."""
    return shutil.which("ffmpeg")


def shown_url(url: str) -> str:
    """Return the URL without the user's name and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _limit_files(pid: int) -> None:
    """Limit what a process may write into a file, which for ffmpeg is its log only."""
    with contextlib.suppress(OSError):  # it has ended already
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        most = MAX_LOG_BYTES if hard == resource.RLIM_INFINITY else min(MAX_LOG_BYTES, hard)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))


class FfmpegDecoder:
    """A :class:`~streamasr.media.decoders.Decoder` that runs ffmpeg and reads the first audio track from it.

    Args:
        source: a file or a URL.
        ffmpeg: the program.
        name: begins every error message.
        read_timeout_s: seconds without data after which the source is given up.

    Raises:
        DataError: ffmpeg cannot read the source; the message has ffmpeg's own reason.
    """

    sixteen_bits = False

    def __init__(
        self, source: Path | str, ffmpeg: str, name: str, read_timeout_s: float = READ_TIMEOUT_S
    ) -> None:
        self._name = name
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the decoder
        is_file = isinstance(source, Path)
        scheme = "" if isinstance(source, Path) else urlsplit(source).scheme.lower()
        options = ["-protocol_whitelist", _FILE_PROTOCOLS if is_file else URL_PROTOCOLS[scheme]]
        if scheme.startswith("rtsp"):
            options += ["-rtsp_flags", "prefer_tcp"]
        self._source = f"file:{source}" if is_file else str(source)
        command = [
            *(ffmpeg, "-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+info", *options),
            *("-i", self._source, "-map", "0:a:0", "-c:a", "pcm_f32le"),
            *("-f", "wav", "pipe:1"),
        ]
        # In a session of its own, Ctrl-C reaches this program alone, which stops ffmpeg in good order.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
            restore_signals=False,  # so that a write beyond the limit fails, but does not end ffmpeg
        )
        _limit_files(self._process.pid)
        assert self._process.stdout is not None
        self._pipe = Pipe(self._process.stdout, name, read_timeout_s)
        try:
            self._pcm = PcmDecoder(self._pipe, name)
        except DataError:
            self._stop()
            reason = "" if self._pipe.timed_out else self._last_error()
            self._release()
            if not reason:
                raise
            raise DataError(f"{name}: ffmpeg cannot read it: {reason}") from None
        except BaseException:
            self._stop()
            self._release()
            raise
        self.sample_rate, self.channels = self._pcm.sample_rate, self._pcm.channels
        self._duration_s, self._only_audio = self._stated_duration_s(), self._has_only_audio()
        self.frames = round(self._duration_s * self.sample_rate) if self._duration_s is not None else None
        self.warnings: list[str] = []
        self.incomplete = False
        self._position = 0
        self._ended = False

    def read(self, frames: int) -> Samples2D:
        """See :class:`~streamasr.media.decoders.Decoder`."""
        if self._ended:
            return self._pcm.no_samples()
        try:
            block_SC = self._pcm.read(frames)
        except DataError as error:
            # It sends nothing any more: what came before is worth as much as in a cut file.
            if not self._position:
                raise
            self._ended = self.incomplete = True
            self.warnings.append(error.message.removeprefix(f"{self._name}: "))
            return self._pcm.no_samples()
        self._position += len(block_SC)
        if not len(block_SC):
            self._ended = True
            self._end()
        return block_SC

    def interrupt(self) -> None:
        """See :class:`~streamasr.media.decoders.Decoder`."""
        self._pipe.interrupt()

    def close(self) -> None:
        """See :class:`~streamasr.media.decoders.Decoder`."""
        self._stop()
        self._release()

    def _end(self) -> None:
        """Wait for ffmpeg's exit status, and find out whether the source was complete."""
        if self._pipe.interrupted:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_TIMEOUT_S)
        error, log = self._last_error(), self._read_log()
        missing_s = (self._duration_s or 0.0) - self._position / self.sample_rate
        short = missing_s > (_CUT_SLACK_S if error else _SILENT_CUT_SLACK_S if self._only_audio else math.inf)
        if self._process.poll() != 0 or short or _CUT.search(log):
            self.incomplete = True
            if error:
                self.warnings.append(f"ffmpeg: {error}")

    def _stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _release(self) -> None:
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()

    def _read_log(self) -> str:
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _LOG_TAIL_BYTES))
        return self._log.read().decode("utf-8", "replace")

    def _last_error(self) -> str:
        log = self._read_log()
        if _NO_AUDIO in log:
            return "it has no audio track"
        errors = [match["message"].strip() for match in _LOG_LINE.finditer(log)]
        return errors[-1].rstrip(".").removeprefix(f"{self._source}: ") if errors else ""

    def _has_only_audio(self) -> bool:
        """Whether the stated duration is that of the track that is read, and no estimate."""
        log = self._read_log().partition("Output #0")[0]
        return log.count(": Audio:") == 1 and ": Video:" not in log and "Estimating duration" not in log

    def _stated_duration_s(self) -> float | None:
        found = _DURATION.search(self._read_log())
        if found is None:
            return None
        hours, minutes, seconds = found.groups()
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
