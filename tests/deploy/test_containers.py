"""Check the Containerfiles and deploy/compose.yaml against the project's files and the daemon's settings."""

from __future__ import annotations

import re
import tomllib
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
import yaml
from container_image import instructions
from packaging.requirements import Requirement

from streamasr.service.config import ENV_PREFIX, ServerConfig, settings
from tests.integration.test_without_torch import ABSENT

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CONTAINERFILES = sorted(DEPLOY.glob("Containerfile*"))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
VARIABLES = {ENV_PREFIX + name.upper() for name in settings()}


def steps(path: Path) -> list[tuple[str, str]]:
    return list(instructions(path.read_text(encoding="utf-8")))


def final_stage(path: Path) -> dict[str, str]:
    """The last instruction of each kind."""
    found = steps(path)
    start = max(number for number, (name, _) in enumerate(found) if name == "FROM")
    return dict(found[start:])


@pytest.mark.parametrize("path", CONTAINERFILES, ids=lambda path: path.name)
def test_what_is_copied_exists(path: Path) -> None:
    copies = [text.split()[:-1] for name, text in steps(path) if name == "COPY" and "--from" not in text]
    assert copies
    assert [source for sources in copies for source in sources if not (ROOT / source).exists()] == []


@pytest.mark.parametrize("path", CONTAINERFILES, ids=lambda path: path.name)
def test_every_folder_of_the_package_is_copied(path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = set(project["tool"]["setuptools"]["package-dir"].values())
    assert folders <= {text.split()[0] for name, text in steps(path) if name == "COPY"}


@pytest.mark.parametrize("path", CONTAINERFILES, ids=lambda path: path.name)
def test_the_image_runs_as_nobody_and_is_checked(path: Path) -> None:
    stage = final_stage(path)
    assert stage["USER"] == "10001:10001"
    assert stage["ENTRYPOINT"] == '["streamasr"]'
    assert stage["CMD"] == '["serve"]'
    assert f":{ServerConfig().port}/health" in stage["HEALTHCHECK"]
    assert stage["EXPOSE"] == str(ServerConfig().port)
    variables = set(
        re.findall(r"STREAMASR_\w+", " ".join(text for name, text in steps(path) if name == "ENV"))
    )
    assert variables <= VARIABLES


def test_the_cpu_image_installs_a_part_of_the_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    all_of_them = {Requirement(line).name for line in project["dependencies"]}
    lines = (DEPLOY / "requirements-cpu.txt").read_text(encoding="utf-8").splitlines()
    installed = {line for line in lines if not line.startswith("#")}
    assert installed <= all_of_them
    # tests/integration/test_without_torch.py runs a daemon without these.
    assert all_of_them - installed <= {*ABSENT, "pyyaml"}


def test_compose_mounts_files_of_the_project() -> None:
    secrets = {"./secrets/captions.pem", *(each["file"] for each in COMPOSE["secrets"].values())}
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or source in secrets or (DEPLOY / source).exists(), source
        assert set(service.get("secrets", [])) <= COMPOSE["secrets"].keys()
    build = COMPOSE["services"]["streamasr"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).exists()


def test_compose_sets_settings_of_the_daemon_and_lets_it_drain() -> None:
    service = COMPOSE["services"]["streamasr"]
    assert set(service["environment"]) <= VARIABLES
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    seconds = float(service["stop_grace_period"].removesuffix("s"))
    assert seconds > ServerConfig().drain_timeout_s + ServerConfig().close_timeout_s


def test_compose_survives_a_restart_of_each_service() -> None:
    """HAProxy finds the daemon at the address that it had before, and no service shares the network of another one:
    that would be gone after a restart."""
    services = COMPOSE["services"]
    assert {name for name, service in services.items() if "network_mode" in service} == set()
    addresses = {
        name: services[name]["networks"]["default"]["ipv4_address"] for name in ("streamasr", "haproxy")
    }
    (network,) = COMPOSE["networks"]["default"]["ipam"]["config"]
    assert all(ip_address(address) in ip_network(network["subnet"]) for address in addresses.values())
    assert len(set(addresses.values())) == len(addresses)
    assert services["streamasr"]["environment"]["STREAMASR_TRUSTED_PROXIES"] == addresses["haproxy"]
    mounted = {volume.split(":")[0] for volume in services["haproxy"]["volumes"]}
    (configuration,) = (DEPLOY / source for source in mounted if source.endswith(".cfg"))
    assert f"server daemon streamasr:{ServerConfig().port}\n" in configuration.read_text(encoding="utf-8")


def test_no_log_of_compose_fills_the_disk() -> None:
    for service in COMPOSE["services"].values():
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}
        assert service["restart"] == "unless-stopped"


def test_uploads_fit_into_tmp() -> None:
    service = COMPOSE["services"]["streamasr"]
    (tmp,) = service["tmpfs"]
    size = re.fullmatch(r"/tmp:size=(\d+)m", tmp)
    assert size
    assert int(size[1]) * 1024**2 > uploads(service["environment"])


def uploads(environment: dict[str, str]) -> int:
    """The most bytes that uploads take on the disk."""
    count, each = (environment[f"{ENV_PREFIX}MAX_{name}"] for name in ("UPLOADS", "UPLOAD_BYTES"))
    return int(count) * int(each)


def test_prometheus_and_grafana_find_each_other() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    (scrape,) = config["scrape_configs"]
    assert scrape["static_configs"] == [{"targets": [f"streamasr:{ServerConfig().port}"]}]
    assert (
        Path(scrape["authorization"]["credentials_file"]).name in COMPOSE["services"]["prometheus"]["secrets"]
    )
    source = DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml"
    (datasource,) = yaml.safe_load(source.read_text(encoding="utf-8"))["datasources"]
    assert datasource["url"] == "http://prometheus:9090"
    dashboard = (DEPLOY / "grafana" / "streamasr.json").read_text(encoding="utf-8")
    assert set(re.findall(r'"type": "prometheus",\s+"uid": "(\w+)"', dashboard)) == {datasource["uid"]}
