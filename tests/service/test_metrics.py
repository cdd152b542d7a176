"""Test what the metrics count, and that the documentation explains every metric."""

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from streamasr.protocol.messages import Finalize, Stop
from streamasr.service.metrics import Metrics
from tests.service.conftest import Launch
from tests.service.fake import FakeEngine


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


async def test_a_session_is_counted(launch: Launch) -> None:
    harness = await launch()
    metrics = harness.server.metrics
    client = await harness.session()
    assert value(metrics, "streamasr_connections") == 1
    await client.send(b"abcd")
    await client.send(Finalize(id="x"))
    await client.send(Stop())
    await client.rest()
    await harness.server.drain()
    assert value(metrics, "streamasr_connections") == 0
    assert value(metrics, "streamasr_messages_total", direction="in", type="audio") == 1
    assert value(metrics, "streamasr_messages_total", direction="in", type="text") == 3
    assert value(metrics, "streamasr_messages_total", direction="out", type="done") == 1
    assert value(metrics, "streamasr_final_lag_seconds_count", request="finalize") == 1
    assert value(metrics, "streamasr_final_lag_seconds_count", request="stop") == 1
    assert value(metrics, "streamasr_delivery_seconds_count", type="ready") == 1


async def test_refusals_and_errors_are_counted_separately(launch: Launch) -> None:
    harness = await launch()
    for started in (True, False):
        client = await (harness.session() if started else harness.connect())
        await client.send("{")
        await client.rest()
    await harness.server.drain()
    metrics = harness.server.metrics
    assert value(metrics, "streamasr_session_errors_total", code="bad_message") == 1
    assert value(metrics, "streamasr_admissions_refused_total", code="bad_message") == 1


def test_engine_histograms_are_cumulative() -> None:
    metrics = Metrics(FakeEngine().stats)
    assert value(metrics, "streamasr_encoder_seconds_bucket", le="0.02") == 0
    assert value(metrics, "streamasr_encoder_seconds_bucket", le="0.05") == 1
    assert value(metrics, "streamasr_encoder_seconds_bucket", le="+Inf") == 1
    assert value(metrics, "streamasr_encoder_seconds_count") == 1
    assert value(metrics, "streamasr_encoder_seconds_sum") == 0.03
    assert value(metrics, "streamasr_audio_seconds_total") == 1.5


def test_monitoring_md_explains_every_metric() -> None:
    doc = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text()
    explained = set(re.findall(r"^\| `(streamasr_\w+)` \|", doc, re.M))
    exposition = Metrics(FakeEngine().stats).exposition().decode()
    exposed = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(exposition)
        if family.name.startswith("streamasr_") and not family.name.endswith("_created")
    }
    assert explained == exposed
