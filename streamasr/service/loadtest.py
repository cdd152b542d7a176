"""Play real-time streams into a running daemon and measure the lag of its captions.

The load test uses only the protocol or a dialect, so it works with a daemon on another machine.
"""

from __future__ import annotations

import asyncio
import math
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol
from urllib.error import URLError
from urllib.parse import urlsplit, urlunsplit

from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from streamasr.dialects.base import Frame
from streamasr.dialects.clients import CLIENTS, LiveClient, NativeClient
from streamasr.errors import ConfigError, StreamasrError
from streamasr.protocol.messages import Done, Error, Final, Partial, Ready, Start
from streamasr.protocol.serialisation import parse_server_message
from streamasr.service.emission import Emission, ReferenceWord
from streamasr.service.lag import SentAudio, StreamLag, percentiles
from streamasr.units import MS_PER_SECOND

MESSAGE_MS = 40
"""Audio of one message, as a microphone client would send it."""
SAMPLE_RATE = 16_000
_BYTES_PER_MS = 2 * SAMPLE_RATE // MS_PER_SECOND
_ANSWER_TIMEOUT_S = 60.0
"""Longest wait for ``done`` after ``stop``."""
_MINUTE_S = 60.0
_READ_BYTES = 65_536
TCP_PORT = 10_300
"""Wyoming's usual port."""
MOST_STREAMS = 4_096
"""The search for the limit goes no further."""


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
    tcp_port: int = TCP_PORT
    """The daemon's port for a dialect that is not HTTP."""
    dialect: str = "native"
    """The protocol that the streams speak, one of :data:`~streamasr.dialects.clients.CLIENTS`."""
    reference: tuple[ReferenceWord, ...] = ()
    """The words that are said in ``pcm``, in order; without them there are no emission latencies."""

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

    def first_message(self, index: int) -> int:
        """Return the number of the message with which a stream begins: each stream begins at another place."""
        return index * self._messages // self.streams

    def message(self, number: int) -> bytes:
        """Return a message of the repeated audio."""
        size = MESSAGE_MS * _BYTES_PER_MS
        offset = number % self._messages * size
        return self.pcm[offset : offset + size]

    def reference_of(self, index: int) -> list[ReferenceWord]:
        """Return the words of the reference that end in a stream, with their times in it."""
        audio_ms, offset_ms = self._messages * MESSAGE_MS, self.first_message(index) * MESSAGE_MS
        rounds = range(int((offset_ms + self.duration_s * MS_PER_SECOND) // audio_ms) + 1)
        words = (
            replace(word, end_ms=word.end_ms + turn * audio_ms - offset_ms)
            for turn in rounds
            for word in self.reference
        )
        return [word for word in words if 0 < word.end_ms <= self.duration_s * MS_PER_SECOND]

    @property
    def _messages(self) -> int:
        return len(self.pcm) // (MESSAGE_MS * _BYTES_PER_MS)


@dataclass(frozen=True, kw_only=True)
class LoadMinute:
    """One minute of a load test."""

    partials: int
    partial_lag_ms: dict[str, float | None]
    resident_mb: float | None
    """Memory of the daemon at its end, in 10^6 bytes."""


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
    engine_lag_ms: dict[str, float | None]
    """From a complete chunk to its messages, by the daemon's own metric, whose steps are coarse; also for chunks
    without messages, and in dialects whose messages have no times."""
    final_lag_ms: dict[str, float | None]
    """From the end of the last word to its final, including the silence between."""
    first_partial_ms: dict[str, float | None]
    """From the first audio to the first partial."""
    flush_ms: dict[str, float | None]
    """From ``stop`` to ``done``."""
    emission_shown_ms: dict[str, float | None]
    """From the end of a word of the reference to the first message that shows it."""
    emission_committed_ms: dict[str, float | None]
    """From the end of a word of the reference to the first message that commits it."""
    speech_end_ms: dict[str, float | None]
    """From the end of an utterance's last word, by the reference, to its final."""
    reference_words: int
    reference_words_found: int
    """How many of them were shown, with their text and time."""
    changed_per_100_words: float | None
    """Shown words that change, for 100 words of the finals; see :class:`~streamasr.service.emission.Emission`."""
    cpu_s_per_audio_s: float | None
    """CPU seconds of the daemon per second of audio; ``None`` if its metrics cannot be read."""
    batch_chunks: float | None
    """Mean number of chunks in a step."""
    resident_mb: float | None
    """Memory of the daemon at the end, in 10^6 bytes."""
    minutes: tuple[LoadMinute, ...]
    """What happened in each minute of the test."""
    errors: tuple[str, ...]
    """The distinct error messages of the failed streams."""


@dataclass(frozen=True, slots=True)
class _StreamResult:
    """The measurements of one completed stream."""

    lag: StreamLag
    emission: Emission
    reference_words: int
    latency_ms: int
    audio_ms: int
    flush_ms: float


async def run_load(plan: LoadPlan) -> LoadReport:
    """Play all streams concurrently, with starts spread over one chunk as with independent clients."""
    before = await asyncio.to_thread(_read_usage, plan)
    started_at = time.monotonic()
    memory: list[float | None] = []
    watching = asyncio.create_task(_watch_memory(plan, memory))
    streams = (_play(plan, index) for index in range(plan.streams))
    results = await asyncio.gather(*streams, return_exceptions=True)
    watching.cancel()
    after = await asyncio.to_thread(_read_usage, plan)
    completed = [stream for stream in results if isinstance(stream, _StreamResult)]
    errors = sorted({str(error) or type(error).__name__ for error in results if isinstance(error, Exception)})
    lags = [lag for stream in completed for lag in stream.lag.partials()]
    emissions = [stream.emission for stream in completed]
    final_words = sum(emission.final_words for emission in emissions)
    changed = sum(emission.changed_words for emission in emissions)

    def spread(of: Callable[[_StreamResult], Iterable[float]]) -> dict[str, float | None]:
        return percentiles(value for stream in completed for value in of(stream))

    return LoadReport(
        streams=plan.streams,
        failed=plan.streams - len(completed),
        latency_ms=completed[0].latency_ms if completed else plan.latency_ms,
        audio_s=round(sum(stream.audio_ms for stream in completed) / MS_PER_SECOND, 1),
        partials=len(lags),
        finals=sum(len(stream.lag.final_ms) for stream in completed),
        partial_lag_ms=percentiles(lag for _, lag in lags),
        engine_lag_ms=_engine_lag(before, after),
        final_lag_ms=spread(lambda stream: stream.lag.final_ms),
        first_partial_ms=percentiles(
            stream.lag.first_partial_ms for stream in completed if stream.lag.first_partial_ms is not None
        ),
        flush_ms=percentiles(stream.flush_ms for stream in completed),
        emission_shown_ms=spread(lambda stream: stream.emission.shown_ms),
        emission_committed_ms=spread(lambda stream: stream.emission.committed_ms),
        speech_end_ms=spread(lambda stream: stream.emission.speech_end_ms),
        reference_words=sum(stream.reference_words for stream in completed),
        reference_words_found=sum(len(emission.shown_ms) for emission in emissions),
        changed_per_100_words=round(100 * changed / final_words, 1) if final_words else None,
        cpu_s_per_audio_s=_ratio(before, after, "cpu_s", "audio_s", 4),
        batch_chunks=_ratio(before, after, "chunks", "steps", 2),
        resident_mb=None if after is None else after.resident_mb,
        minutes=_minutes(lags, started_at, memory),
        errors=tuple(errors),
    )


@dataclass(frozen=True, slots=True)
class LoadLimit:
    """The result of :func:`find_limit`."""

    streams: int
    """The most streams that kept the lag; 0 if not even one did."""
    max_lag_ms: float
    reports: tuple[LoadReport, ...]
    """All load tests, in their order."""


class LimitSearch:
    """Says which numbers of streams to try: doubled until one is not carried, then approached by bisection.

    Args:
        first: the first number tried.
        most: no larger number is reached by doubling.
        share: the limit is approached to this part of it.
    """

    def __init__(self, first: int, most: int, *, share: int) -> None:
        self.good = 0
        """The most streams that were carried so far."""
        self._bad: int | None = None
        self._first, self._most, self._share = first, most, share

    def next(self) -> int | None:
        """The next number to try; ``None`` if the limit is known."""
        if self._bad is None:
            doubled = 2 * self.good or self._first
            return doubled if not self.good or doubled <= self._most else None
        known = self._bad - self.good <= max(1, self.good // self._share)
        return None if known else (self.good + self._bad) // 2

    def note(self, streams: int, *, carried: bool) -> None:
        """Take note of whether ``streams`` were carried."""
        if carried:
            self.good = streams
        else:
            self._bad = streams


async def find_limit(
    plan: LoadPlan, max_lag_ms: float, observe: Callable[[LoadReport], None] = lambda _: None
) -> LoadLimit:
    """Find how many streams the daemon serves with a 95th percentile of the partials' lag of ``max_lag_ms``.

    The number is doubled until the lag is exceeded or a stream fails, for example because the daemon refuses it, and
    then approached by bisection to an eighth of it.

    Args:
        plan: the load test; its number of streams is the first one tried.
        max_lag_ms: the highest acceptable lag.
        observe: called after each load test.
    """
    reports: list[LoadReport] = []

    async def carries(streams: int) -> bool:
        report = await run_load(replace(plan, streams=streams))
        reports.append(report)
        observe(report)
        return keeps_lag(report, max_lag_ms)

    search = LimitSearch(plan.streams, MOST_STREAMS, share=8)
    while (streams := search.next()) is not None:
        search.note(streams, carried=await carries(streams))
    return LoadLimit(search.good, max_lag_ms, tuple(reports))


def keeps_lag(report: LoadReport, max_lag_ms: float) -> bool:
    """Whether no stream failed, and the lag is acceptable in the partials and at the end of the streams.

    Without partials, the lag is that of the daemon's own metric.
    """
    lag_ms, flush_ms = report.partial_lag_ms["p95"], report.flush_ms["p95"]
    lag_ms = report.engine_lag_ms["p95"] if lag_ms is None else lag_ms
    late = lag_ms is None or lag_ms > max_lag_ms
    return not (report.failed or late or flush_ms is None or flush_ms > max_lag_ms + report.latency_ms)


async def _watch_memory(plan: LoadPlan, memory: list[float | None]) -> None:
    """Append the daemon's memory at the end of each minute."""
    while True:
        await asyncio.sleep(_MINUTE_S)
        usage = await asyncio.to_thread(_read_usage, plan)
        memory.append(None if usage is None else usage.resident_mb)


def _minutes(
    lags: list[tuple[float, float]], started_at: float, memory: list[float | None]
) -> tuple[LoadMinute, ...]:
    by_minute: list[list[float]] = [[] for _ in memory]
    for at, lag_ms in lags:
        minute = int((at - started_at) // _MINUTE_S)
        if minute < len(by_minute):
            by_minute[minute].append(lag_ms)
    return tuple(
        LoadMinute(partials=len(found), partial_lag_ms=percentiles(found), resident_mb=resident_mb)
        for found, resident_mb in zip(by_minute, memory, strict=True)
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
            reference = plan.reference_of(index)
            emission = Emission(sent, reference)
            receiver = asyncio.create_task(_receive_until_done(socket, client, lag, emission))
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
            return _StreamResult(lag, emission, len(reference), ready.latency_ms, done.audio_ms, flush_ms)
    except (ConnectionClosed, InvalidHandshake, OSError, TimeoutError) as error:
        raise StreamasrError(f"{plan.url}: {error or 'no answer'}") from None


async def _ask_ready(plan: LoadPlan) -> Ready:
    """Return what the daemon answers to the session of the plan, in the native protocol."""
    client = NativeClient(plan.start)
    async with _connect(plan, client) as socket:
        for frame in client.open():
            await socket.send(frame)
        return await _receive_ready(socket)


class _Socket(Protocol):
    """An open connection."""

    async def send(self, message: Frame, /) -> None:
        """Send a frame."""

    async def recv(self) -> Frame:
        """Return the next frame."""


class _TcpSocket:
    """A TCP connection; its frames are bytes, cut anywhere.

    Raises:
        OSError: the connection is closed.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, message: Frame, /) -> None:
        """Send a frame."""
        assert isinstance(message, bytes), "a TCP connection has no text messages"
        self._writer.write(message)
        await self._writer.drain()

    async def recv(self) -> Frame:
        """Return the next bytes."""
        data = await self._reader.read(_READ_BYTES)
        if not data:
            raise OSError("the daemon closed the connection")
        return data


@asynccontextmanager
async def _connect_tcp(plan: LoadPlan) -> AsyncIterator[_TcpSocket]:
    reader, writer = await asyncio.open_connection(urlsplit(plan.url).hostname, plan.tcp_port)
    try:
        yield _TcpSocket(reader, writer)
    finally:
        writer.close()


def _connect(plan: LoadPlan, client: LiveClient) -> AbstractAsyncContextManager[_Socket]:
    if not client.path:
        return _connect_tcp(plan)
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
    plan: LoadPlan, index: int, socket: _Socket, client: LiveClient, sent: SentAudio
) -> None:
    """Send each message when its audio would have been spoken. Each stream starts at another place of the file."""
    started_at, first = time.monotonic(), plan.first_message(index)
    for number in range(max(1, round(plan.duration_s * MS_PER_SECOND / MESSAGE_MS))):
        due_at = started_at + (number + 1) * MESSAGE_MS / MS_PER_SECOND
        await asyncio.sleep(max(0.0, due_at - time.monotonic()))
        await socket.send(client.audio(plan.message(first + number)))
        sent.add((number + 1) * MESSAGE_MS, time.monotonic())


async def _receive_until_done(
    socket: _Socket, client: LiveClient, lag: StreamLag, emission: Emission
) -> Done:
    while True:
        frame = await socket.recv()
        now = time.monotonic()
        for message in client.receive(frame):
            match message:
                case Error():
                    raise StreamasrError(f"{message.code}: {message.message}")
                case Partial():
                    lag.partial(message.end_ms, now)
                    emission.message(message, now)
                case Final():
                    lag.final(message.end_ms, now)
                    emission.message(message, now)
                case Done():
                    return message


async def _receive_ready(socket: _Socket) -> Ready:
    message = parse_server_message(str(await socket.recv()))
    if isinstance(message, Error):
        raise StreamasrError(f"{message.code}: {message.message}")
    if not isinstance(message, Ready):
        raise StreamasrError(f"expected ready, got {message.type}")
    return message


@dataclass(frozen=True, slots=True)
class _Usage:
    """What the daemon has used and done so far."""

    cpu_s: float
    audio_s: float
    chunks: float
    steps: float
    resident_mb: float
    lag_counts: tuple[tuple[float, float], ...]
    """Upper bounds in seconds, and how many chunks had at most this lag."""


_LAG_BUCKET = "streamasr_partial_lag_seconds_bucket"
_METRICS = {
    "cpu_s": "process_cpu_seconds_total",
    "audio_s": "streamasr_audio_seconds_total",
    "chunks": "streamasr_batch_size_chunks_sum",
    "steps": "streamasr_batch_size_chunks_count",
    "resident_mb": "process_resident_memory_bytes",
}


def _read_usage(plan: LoadPlan) -> _Usage | None:
    """Read the daemon's usage from ``/metrics``; ``None`` if that fails."""
    parts = urlsplit(plan.url)
    url = urlunsplit(("https" if parts.scheme == "wss" else "http", parts.netloc, "/metrics", "", ""))
    headers = {"Authorization": f"Bearer {plan.token}"} if plan.token else {}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=10) as response:
            text = response.read().decode()
    except (URLError, OSError):
        return None
    found = [s for family in text_string_to_metric_families(text) for s in family.samples]
    samples = {s.name: s.value for s in found}
    lag_counts = tuple((float(s.labels["le"]), s.value) for s in found if s.name == _LAG_BUCKET)
    try:
        values = {name: samples[metric] for name, metric in _METRICS.items()}
    except KeyError:
        return None
    resident_mb = round(values.pop("resident_mb") / 1e6, 1)
    return _Usage(**values, resident_mb=resident_mb, lag_counts=lag_counts)


def _engine_lag(before: _Usage | None, after: _Usage | None) -> dict[str, float | None]:
    """Return percentiles of the lags between two readings, as Prometheus's ``histogram_quantile`` estimates them."""
    counts: list[tuple[float, float]] = []
    if before is not None and after is not None:
        counts = [
            (bound, count - earlier)
            for (bound, count), (_, earlier) in zip(after.lag_counts, before.lag_counts, strict=True)
        ]
    return {name: _quantile(counts, q) for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}


def _quantile(counts: list[tuple[float, float]], q: float) -> float | None:
    """Return a quantile in milliseconds, interpolated in its bucket; the last finite bound if it is above it."""
    if not counts or not counts[-1][1]:
        return None
    rank, low, below = q * counts[-1][1], 0.0, 0.0
    for bound, count in counts:
        if count >= rank:
            share = (rank - below) / (count - below)
            seconds = low if math.isinf(bound) else low + (bound - low) * share
            return round(seconds * MS_PER_SECOND, 1)
        low, below = bound, count
    return None


def _ratio(
    before: _Usage | None, after: _Usage | None, numerator: str, denominator: str, digits: int
) -> float | None:
    """Return by how much one number grew for each unit of another; ``None`` if that is unknown."""
    if before is None or after is None:
        return None
    grown = getattr(after, denominator) - getattr(before, denominator)
    return (
        round((getattr(after, numerator) - getattr(before, numerator)) / grown, digits) if grown > 0 else None
    )
