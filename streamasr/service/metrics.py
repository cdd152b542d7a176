"""Define the daemon's Prometheus metrics: the service's own counters and the engine's statistics.

``docs/monitoring.md`` explains every metric; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from streamasr.engine.stats import EngineStats, HistogramSnapshot
from streamasr.protocol.codes import ERROR_CODES

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_LAG_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.6, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """All metrics of one daemon, in their own registry."""

    def __init__(self, engine_stats: Callable[[], EngineStats]) -> None:
        self.registry = CollectorRegistry()
        self.connections = Gauge("streamasr_connections", "Open websockets", registry=self.registry)
        self.parked = Gauge(
            "streamasr_sessions_parked",
            "Sessions whose connection broke and that may be resumed",
            registry=self.registry,
        )
        self.certificate_end = Gauge(
            "streamasr_certificate_expiry_timestamp_seconds",
            "End of the validity of tls_cert, in seconds since 1970",
            ["cert"],
            registry=self.registry,
        )
        self.resumed = self._counter(
            "streamasr_resumes", "Requests to resume a session, by outcome", "outcome"
        )
        self.refused = self._counter(
            "streamasr_admissions_refused", "Connections and sessions that were refused", "code"
        )
        self.errors = self._counter("streamasr_session_errors", "Sessions that ended with an error", "code")
        self.messages = self._counter("streamasr_messages", "Websocket messages", "direction", "type")
        self.bytes = self._counter("streamasr_message_bytes", "Bytes of websocket messages", "direction")
        self.pauses = self._counter(
            "streamasr_backpressure_pauses", "Times that reading from a client was paused"
        )
        self.dialect_sessions = self._counter(
            "streamasr_dialect_sessions", "Sessions opened, by dialect", "dialect"
        )
        self.dialect_audio = self._counter(
            "streamasr_dialect_audio_seconds", "Audio received, by dialect", "dialect"
        )
        self.dialect_errors = self._counter(
            "streamasr_dialect_errors", "Connections that ended with an error, by dialect", "dialect", "code"
        )
        self.delivery = self._histogram(
            "streamasr_delivery_seconds", "From the engine emitting a message to sending it", "type"
        )
        self.final_lag = self._histogram(
            "streamasr_final_lag_seconds",
            "From receiving `finalize` or `stop` to sending its answer",
            "request",
        )
        # From 0 on: Prometheus does not see the increase of a counter that begins with its first event.
        for code in ERROR_CODES:
            self.refused.labels(code)
            self.errors.labels(code)
        self.registry.register(_EngineCollector(engine_stats))
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(name, text, labels, registry=self.registry, buckets=_LAG_BUCKETS)


class _EngineCollector(Collector):
    """Reads the engine's counters at each scrape."""

    def __init__(self, stats: Callable[[], EngineStats]) -> None:
        self._stats = stats

    def collect(self) -> Iterable[Metric]:
        """Yield the engine's metrics, all from one snapshot."""
        stats = self._stats()
        yield from _gauges(stats)
        yield from _counters(stats)
        yield _histogram("streamasr_batch_size_chunks", "Chunks per forward pass", stats.batch_size)
        yield _histogram("streamasr_frontend_seconds", "Front end, per step", stats.frontend_s)
        yield _histogram("streamasr_encoder_seconds", "Encoder, per step", stats.encoder_s)
        yield _histogram("streamasr_decoder_seconds", "Decoder, per chunk", stats.decoder_s)
        yield _histogram(
            "streamasr_partial_lag_seconds",
            "From a chunk being complete to its messages being emitted",
            stats.chunk_lag_s,
        )


def _gauges(stats: EngineStats) -> Iterator[Metric]:
    encoder = GaugeMetricFamily(
        "streamasr_encoder",
        "How the encoder computes; always 1",
        labels=("backend", "precision", "instructions"),
    )
    encoder.add_metric([stats.encoder.backend, stats.encoder.precision, stats.encoder.instructions], 1)
    yield encoder
    yield GaugeMetricFamily("streamasr_sessions", "Open sessions", stats.sessions)
    yield GaugeMetricFamily("streamasr_queue_depth", "Sessions with a chunk waiting", stats.queue_depth)
    yield GaugeMetricFamily(
        "streamasr_sessions_limit",
        "Sessions that fit; with max_sessions = auto an estimate",
        stats.max_sessions,
    )
    yield GaugeMetricFamily(
        "streamasr_step_cost_ratio",
        "Duration of steps relative to the measurement at start",
        stats.step_cost_ratio,
    )
    yield GaugeMetricFamily(
        "streamasr_backlog_seconds", "Audio waiting, over all sessions", stats.backlog_ms / 1_000
    )


def _counters(stats: EngineStats) -> Iterator[Metric]:
    yield CounterMetricFamily("streamasr_sessions_opened", "Sessions opened", stats.sessions_opened)
    yield CounterMetricFamily("streamasr_audio_seconds", "Audio recognised", stats.audio_seconds)
    yield CounterMetricFamily("streamasr_steps", "Forward passes", stats.steps)
    yield CounterMetricFamily("streamasr_step_failures", "Forward passes that failed", stats.step_failures)
    yield CounterMetricFamily(
        "streamasr_decode_failures", "Sessions whose decoding failed", stats.decode_failures
    )


def _histogram(name: str, text: str, snapshot: HistogramSnapshot) -> Metric:
    total = 0
    buckets = []
    for bound, count in zip((*snapshot.bounds, float("inf")), snapshot.counts, strict=True):
        total += count
        buckets.append((str(float(bound)) if bound != float("inf") else "+Inf", float(total)))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=snapshot.sum)
