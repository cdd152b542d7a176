"""Check the Kubernetes manifest against the schemas of Kubernetes, and against the daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from streamasr.service.config import ENV_PREFIX, ServerConfig, settings
from streamasr.service.metrics import Metrics
from tests.deploy.test_containers import uploads
from tests.service.conftest import Launch
from tests.service.fake import FakeEngine
from tests.service.test_http import request

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
DOCUMENTS = list(yaml.safe_load_all((FOLDER / "streamasr.yaml").read_text(encoding="utf-8")))
BY_KIND: dict[str, Any] = {document["kind"]: document for document in DOCUMENTS}
POD = BY_KIND["Deployment"]["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]
VERSIONS = ("1.29", "1.33", "1.37")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", BY_KIND)
def test_the_schemas_accept_it(kind: str, version: str) -> None:
    assert kubernetes_validate.validate(BY_KIND[kind], version, strict=True) == version


def test_a_misspelt_field_would_be_found() -> None:
    wrong = {**BY_KIND["Service"], "spec": {**BY_KIND["Service"]["spec"], "sesionAffinity": "None"}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_the_kinds() -> None:
    assert set(BY_KIND) == {"Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler"}
    assert len(DOCUMENTS) == len(BY_KIND)


def test_selectors_find_the_pods() -> None:
    labels = POD["metadata"]["labels"]
    assert BY_KIND["Service"]["spec"]["selector"] == labels
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert BY_KIND[kind]["spec"]["selector"]["matchLabels"] == labels
    target = BY_KIND["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", BY_KIND["Deployment"]["metadata"]["name"])


def test_variables_are_settings_of_the_daemon() -> None:
    names = {variable["name"] for variable in CONTAINER["env"]}
    assert names <= {ENV_PREFIX + name.upper() for name in settings()}
    (mount,) = (each for each in CONTAINER["volumeMounts"] if each["name"] == "token")
    assert {"name": "STREAMASR_TOKEN_FILE", "value": f"{mount['mountPath']}/token"} in CONTAINER["env"]


def test_uploads_fit_into_tmp() -> None:
    """A pod that fills more than ``sizeLimit`` is evicted."""
    (volume,) = (each for each in POD["spec"]["volumes"] if each["name"] == "tmp")
    limit = int(volume["emptyDir"]["sizeLimit"].removesuffix("Gi")) * 1024**3
    values = {each["name"]: each.get("value") for each in CONTAINER["env"]}
    assert limit > uploads(values)


async def test_probes_are_answered(launch: Launch) -> None:
    harness = await launch()
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        check = CONTAINER[probe]["httpGet"]
        assert check["port"] == CONTAINER["ports"][0]["name"]
        assert (await request(harness, check["path"]))[0] == 200
    assert CONTAINER["ports"][0]["containerPort"] == ServerConfig().port


def test_a_pod_has_time_to_drain() -> None:
    _, seconds = CONTAINER["lifecycle"]["preStop"]["exec"]["command"]
    config = ServerConfig()
    needed = float(seconds) + config.drain_timeout_s + config.close_timeout_s
    assert POD["spec"]["terminationGracePeriodSeconds"] >= needed


def test_the_autoscaler_reads_a_metric_that_exists() -> None:
    (metric,) = BY_KIND["HorizontalPodAutoscaler"]["spec"]["metrics"]
    name = metric["pods"]["metric"]["name"]
    assert f"# TYPE {name} gauge" in Metrics(FakeEngine().stats).exposition().decode()
    adapter = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text(encoding="utf-8"))
    assert adapter["rules"]["custom"][0]["seriesQuery"].startswith(f"{name}{{")
    sessions = {v["name"]: v["value"] for v in CONTAINER["env"]}["STREAMASR_MAX_SESSIONS"]
    assert int(metric["pods"]["target"]["averageValue"]) < int(sessions)
