"""Check the dashboard and the alert rules against the metrics that the daemon exports."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from streamasr.service.metrics import Metrics
from tests.integration.conftest import run_daemon
from tests.service.fake import FakeEngine

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "streamasr.json").read_text(encoding="utf-8"))
RULES = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
NOT_SHOWN = {
    "python_info": "does not change",
    "process_virtual_memory_bytes": "reserved, not used",
}
"""Metrics that the dashboard leaves out, with the reason."""
BY_PROMETHEUS = {"up"}
START_S = 30
NAME = re.compile(r"\b(?:streamasr|process|python)_\w+|\bup\b")


def exported() -> dict[str, set[str]]:
    """The names of the samples of every family."""
    families = {}
    for family in text_string_to_metric_families(Metrics(FakeEngine().stats).exposition().decode()):
        if family.name.endswith("_created"):
            continue  # the time of a counter's first use
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        families[family.name] = {family.name + suffix for suffix in suffixes}
    return families


def dashboard_expressions() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


def rules() -> list[dict[str, Any]]:
    return [rule for group in RULES["groups"] for rule in group["rules"]]


def names(expressions: list[str]) -> set[str]:
    """The metrics that expressions read; labels and their values are left out."""
    return {name for text in expressions for name in NAME.findall(re.sub(r"\{[^}]*\}", "", text))}


def test_every_metric_that_is_read_exists() -> None:
    samples = {sample for family in exported().values() for sample in family}
    read = names(dashboard_expressions()) | names([rule["expr"] for rule in rules()])
    assert len(read) >= 30
    assert read - samples - BY_PROMETHEUS == set()


def test_every_metric_is_on_the_dashboard_or_left_out_for_a_reason() -> None:
    shown = names(dashboard_expressions())
    missing = {family for family, samples in exported().items() if not samples & shown}
    assert missing == NOT_SHOWN.keys()


def test_panels_do_not_overlap_and_have_titles() -> None:
    cells: set[tuple[int, int]] = set()
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for panel in DASHBOARD["panels"]:
        assert panel["title"]
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        new = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not new & cells
        cells |= new


def test_every_alert_is_explained() -> None:
    page = (DEPLOY.parent / "docs" / "monitoring.md").read_text(encoding="utf-8")
    assert {rule["alert"] for rule in rules()} == set(re.findall(r"`(Streamasr\w+)`", page))
    assert all(rule["labels"]["severity"] in ("page", "warn") for rule in rules())


def test_every_alert_has_a_test() -> None:
    text = (DEPLOY / "prometheus" / "alerts_test.yml").read_text(encoding="utf-8")
    fires = {
        case["alertname"]
        for test in yaml.safe_load(text)["tests"]
        for case in test["alert_rule_test"]
        if case.get("exp_alerts")
    }
    assert fires == {rule["alert"] for rule in rules()}


def test_alerts_see_the_first_event_of_each_code() -> None:
    """Prometheus finds no increase in a counter that appears with its first event."""
    metrics = Metrics(FakeEngine().stats)
    selected = re.findall(r'(streamasr_\w+_total)\{code=~?"([^"]+)"\}', str(rules()))
    assert len(selected) >= 3
    for name, codes in selected:
        for code in codes.split("|"):
            assert metrics.registry.get_sample_value(name, {"code": code}) == 0


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian: apt install prometheus)")
    return found


def test_promtool_accepts_the_rules_and_their_tests(promtool: str) -> None:
    for arguments in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]):
        run = subprocess.run(
            [promtool, *arguments],
            cwd=DEPLOY / "prometheus",
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stdout + run.stderr


class Prometheus:
    """A running Prometheus."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str, **query: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urlencode(query)}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=START_S) as answer:
            return json.load(answer)["data"]

    def wait_for(self, expression: str) -> list[Any]:
        """Query until there is a result."""
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            try:
                if found := self.get("query", query=expression)["result"]:
                    assert isinstance(found, list)
                    return found
            except OSError:
                pass
            time.sleep(0.2)
        pytest.fail(f"no result of {expression}")


@pytest.fixture
def prometheus(tmp_path: Path, tiny_folder: Path) -> Iterator[Prometheus]:
    """Prometheus with the shipped configuration, in which paths, the target and the interval are replaced."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed (Debian: apt install prometheus)")
    token = "a-secret-of-some-length"
    (tmp_path / "token").write_text(token + "\n")
    with (
        run_daemon("--model", str(tiny_folder), "--token-file", str(tmp_path / "token")) as daemon,
        socket.socket() as probe,
    ):
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
        probe.close()
        text = (DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
        for shipped, value in (
            ("/etc/prometheus/alerts.yml", str(DEPLOY / "prometheus" / "alerts.yml")),
            ("/run/secrets/streamasr_token", str(tmp_path / "token")),
            ("streamasr:8765", f"127.0.0.1:{daemon.port}"),
            ("scrape_interval: 15s", "scrape_interval: 1s"),
            ("evaluation_interval: 15s", "evaluation_interval: 1s"),
        ):
            assert shipped in text
            text = text.replace(shipped, value)
        (tmp_path / "prometheus.yml").write_text(text)
        command = [
            program,
            f"--config.file={tmp_path}/prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/data",
        ]
        command.append(f"--web.listen-address=127.0.0.1:{port}")
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                yield Prometheus(port)
            finally:
                process.terminate()


@pytest.mark.slow
def test_prometheus_scrapes_the_daemon_and_evaluates_everything(prometheus: Prometheus) -> None:
    """About 10 s."""
    (up,) = prometheus.wait_for('up{job="streamasr"} == 1')
    assert up["value"][1] == "1"
    prometheus.wait_for("streamasr_encoder")
    for expression in dashboard_expressions():
        text = expression.replace("$__rate_interval", "1m").replace("$instance", ".*")
        assert "result" in prometheus.get("query", query=text), text
    (group,) = prometheus.get("rules")["groups"]
    assert {rule["name"] for rule in group["rules"]} == {rule["alert"] for rule in rules()}
    prometheus.wait_for("count(ALERTS) or vector(0)")
    assert all(rule["health"] in ("ok", "unknown") for rule in prometheus.get("rules")["groups"][0]["rules"])
