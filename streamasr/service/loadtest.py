"""Play real-time streams into a running daemon and measure the lag of its captions.

The load test uses only the protocol or a dialect, so it works with a daemon on another machine.
"""

from __future__ import annotations

import asyncio
import time
import urllib.request
from dataclasses import dataclass
from urllib.error import URLError
from urllib.parse import urlsplit, urlunsplit

from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from streamasr.dialects.clients import CLIENTS, LiveClient, NativeClient
from streamasr.errors import ConfigError, StreamasrError
from streamasr.protocol.messages import Done, Error, Final, Partial, Ready, Start
from streamasr.protocol.serialisation import parse_server_message
from streamasr.service.lag import SentAudio, StreamLag, percentiles
from streamasr.units import MS_PER_SECOND

MESSAGE_MS = 40
"""Audio of one message, as a microphone client would send it."""
SAMPLE_RATE = 16_000
_BYTES_PER_MS = 2 * SAMPLE_RATE // MS_PER_SECOND
_ANSWER_TIMEOUT_S = 60.0
"""Longest wait for ``done`` after ``stop``."""


@dataclass(frozen=True, kw_only=True)
class LoadPlan:
    """The settings of a load test."""

    url: str
    """The daemon's stream."""
    pcm: bytes
    """Mono ``pcm_s16le`` at 16 kHz; repeated if it is shorter than ``duration_s``."""
    streams: int
    """Concurrent streams."""
    latency_ms: int
    """Requested latency of each stream."""
    duration_s: float
    """Length of each stream."""
    token: str | None = None
    dialect: str = "native"
    """The protocol that the streams speak, one of :data:`~streamasr.dialects.clients.CLIENTS`."""

    def __post_init__(self) -> None:
        if self.streams < 1:
            raise ConfigError(f"the number of streams must be at least 1, got {self.streams}")
        if self.duration_s <= 0:
            raise ConfigError(f"the duration must be positive, got {self.duration_s:g} s")
        if len(self.pcm) < MESSAGE_MS * _BYTES_PER_MS:
            raise ConfigError(f"the audio must be at least {MESSAGE_MS} ms long")
        if self.dialect not in CLIENTS:
            raise ConfigError(f"dialect: expected one of {', '.join(CLIENTS)}, got {self.dialect!r}")
        if self.dialect != "native" and self.latency_ms != Start().latency_ms:
            raise ConfigError(
                f"only the native protocol can ask for a latency; leave it at {Start().latency_ms}"
            )

    @property
    def start(self) -> Start:
        """The session of each stream."""
        return Start(sample_rate=SAMPLE_RATE, latency_ms=self.latency_ms, token=self.token)


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """The results of a load test. Lags are in milliseconds, as ``p50``, ``p95`` and ``p99``."""

    streams: int
    failed: int
    latency_ms: int
    audio_s: float
    partials: int
    finals: int
    partial_lag_ms: dict[str, float | None]
    """From the end of a chunk to its partial; see :class:`~streamasr.service.lag.StreamLag`."""
    final_lag_ms: dict[str, float | None]
    """From the end of the last word to its final, including the silence between."""
    first_partial_ms: dict[str, float | None]
    """From the first audio to the first partial."""
    flush_ms: dict[str, float | None]
    """From ``stop`` to ``done``."""
    cpu_s_per_audio_s: float | None
    """CPU seconds of the daemon per second of audio; ``None`` if its metrics cannot be read."""
    errors: tuple[str, ...]
    """The distinct error messages of the failed streams."""


@dataclass(frozen=True, slots=True)
class _StreamResult:
    """The measurements of one completed stream."""

    lag: StreamLag
    latency_ms: int
    audio_ms: int
    flush_ms: float


async def run_load(plan: LoadPlan) -> LoadReport:
    """Play all streams concurrently, with starts spread over one chunk as with independent clients."""
    before = await asyncio.to_thread(_read_usage, plan)
    streams = (_play(plan, index) for index in range(plan.streams))
    results = await asyncio.gather(*streams, return_exceptions=True)
    after = await asyncio.to_thread(_read_usage, plan)
    completed = [stream for stream in results if isinstance(stream, _StreamResult)]
    errors = sorted({str(error) or type(error).__name__ for error in results if isinstance(error, Exception)})
    cpu = None
    if before and after and after[1] > before[1]:
        cpu = round((after[0] - before[0]) / (after[1] - before[1]), 4)
    return LoadReport(
        streams=plan.streams,
        failed=plan.streams - len(completed),
        latency_ms=completed[0].latency_ms if completed else plan.latency_ms,
        audio_s=round(sum(stream.audio_ms for stream in completed) / MS_PER_SECOND, 1),
        partials=sum(len(stream.lag.partial_ms) for stream in completed),
        finals=sum(len(stream.lag.final_ms) for stream in completed),
        partial_lag_ms=percentiles(lag for stream in completed for lag in stream.lag.partial_ms),
        final_lag_ms=percentiles(lag for stream in completed for lag in stream.lag.final_ms),
        first_partial_ms=percentiles(
            stream.lag.first_partial_ms for stream in completed if stream.lag.first_partial_ms is not None
        ),
        flush_ms=percentiles(stream.flush_ms for stream in completed),
        cpu_s_per_audio_s=cpu,
        errors=tuple(errors),
    )


async def _play(plan: LoadPlan, index: int) -> _StreamResult:
    await asyncio.sleep(index * plan.latency_ms / MS_PER_SECOND / plan.streams)
    client = CLIENTS[plan.dialect](plan.start)
    try:
        # Other dialects do not report the length of a step.
        ready = None if plan.dialect == "native" else await _ask_ready(plan)
        async with _connect(plan, client) as socket:
            for frame in client.open():
                await socket.send(frame)
            ready = ready or await _receive_ready(socket)
            sent = SentAudio()
            lag = StreamLag(ready.latency_ms, sent, ready.hop_ms)
            receiver = asyncio.create_task(_receive_until_done(socket, client, lag))
            try:
                await _send_in_real_time(plan, index, socket, client, sent)
                lag.stop()
                stopped_at = time.monotonic()
                await socket.send(client.stop())
                async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                    done = await receiver
            finally:
                receiver.cancel()
            flush_ms = (time.monotonic() - stopped_at) * MS_PER_SECOND
            return _StreamResult(lag, ready.latency_ms, done.audio_ms, flush_ms)
    except (ConnectionClosed, InvalidHandshake, OSError, TimeoutError) as error:
        raise StreamasrError(f"{plan.url}: {error or 'no answer'}") from None


async def _ask_ready(plan: LoadPlan) -> Ready:
    """Return what the daemon answers to the session of the plan, in the native protocol."""
    client = NativeClient(plan.start)
    async with _connect(plan, client) as socket:
        for frame in client.open():
            await socket.send(frame)
        return await _receive_ready(socket)


def _connect(plan: LoadPlan, client: LiveClient) -> connect:
    headers = {"Authorization": f"Bearer {plan.token}"} if plan.token else {}
    parts = urlsplit(plan.url)
    path = parts.path.removesuffix(NativeClient.path) + client.path
    url = (
        plan.url
        if isinstance(client, NativeClient)
        else urlunsplit(parts._replace(path=path, query=client.query()))
    )
    return connect(url, additional_headers=headers, compression=None, proxy=None, ping_timeout=None)


async def _send_in_real_time(
    plan: LoadPlan, index: int, socket: ClientConnection, client: LiveClient, sent: SentAudio
) -> None:
    """Send each message when its audio would have been spoken. Each stream starts at another place of the file."""
    size = MESSAGE_MS * _BYTES_PER_MS
    messages = len(plan.pcm) // size
    started_at = time.monotonic()
    for number in range(max(1, round(plan.duration_s * MS_PER_SECOND / MESSAGE_MS))):
        due_at = started_at + (number + 1) * MESSAGE_MS / MS_PER_SECOND
        await asyncio.sleep(max(0.0, due_at - time.monotonic()))
        offset = (number + index * messages // plan.streams) % messages * size
        await socket.send(client.audio(plan.pcm[offset : offset + size]))
        sent.add((number + 1) * MESSAGE_MS, time.monotonic())


async def _receive_until_done(socket: ClientConnection, client: LiveClient, lag: StreamLag) -> Done:
    while True:
        frame = await socket.recv()
        now = time.monotonic()
        for message in client.receive(frame):
            match message:
                case Error():
                    raise StreamasrError(f"{message.code}: {message.message}")
                case Partial():
                    lag.partial(message.end_ms, now)
                case Final():
                    lag.final(message.end_ms, now)
                case Done():
                    return message


async def _receive_ready(socket: ClientConnection) -> Ready:
    message = parse_server_message(str(await socket.recv()))
    if isinstance(message, Error):
        raise StreamasrError(f"{message.code}: {message.message}")
    if not isinstance(message, Ready):
        raise StreamasrError(f"expected ready, got {message.type}")
    return message


def _read_usage(plan: LoadPlan) -> tuple[float, float] | None:
    """Read the daemon's CPU seconds and seconds of audio so far from ``/metrics``; ``None`` if that fails."""
    parts = urlsplit(plan.url)
    url = urlunsplit(("https" if parts.scheme == "wss" else "http", parts.netloc, "/metrics", "", ""))
    headers = {"Authorization": f"Bearer {plan.token}"} if plan.token else {}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=10) as response:
            text = response.read().decode()
    except (URLError, OSError):
        return None
    samples = {s.name: s.value for family in text_string_to_metric_families(text) for s in family.samples}
    try:
        return samples["process_cpu_seconds_total"], samples["streamasr_audio_seconds_total"]
    except KeyError:
        return None
