"""Test that the units are valid for systemd and sandboxed as documented."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from streamasr.service.config import ENV_PREFIX, ServerConfig, settings
from streamasr.service.units import make_units

UNITS = Path(__file__).parents[2] / "systemd"
USER_UNIT = UNITS / "user" / "streamasr.service"
MAX_EXPOSURE = 1.5

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units with a command that exists on this machine; those of a user are in the folder ``user``."""
    (tmp_path / "user").mkdir()
    for user in (False, True):
        made = make_units([sys.executable, "-m", "streamasr.cli"], user=user, socket=True)
        for name, text in made.items():
            ((tmp_path / "user" if user else tmp_path) / name).write_text(text)
    return tmp_path


def analyze(*args: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@needs_systemd
@pytest.mark.parametrize("name", ["streamasr.service", "streamasr.socket"])
def test_the_unit_is_valid(units: Path, name: str) -> None:
    result = analyze("verify", "--man=no", str(units / name))
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("name", ["streamasr.service", "streamasr.socket"])
def test_the_unit_of_a_user_is_valid(units: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(units))
    result = analyze("verify", "--user", "--man=no", str(units / "user" / name))
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


@needs_systemd
def test_the_service_is_sandboxed(units: Path) -> None:
    result = analyze("security", "--offline=true", "--no-pager", str(units / "streamasr.service"))
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", result.stdout)
    assert found, result.stdout + result.stderr
    assert float(found.group(1)) <= MAX_EXPOSURE


def values(name: str) -> dict[str, str]:
    lines = (UNITS / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


@pytest.mark.parametrize("name", ["streamasr.service", "user/streamasr.service"])
def test_no_core_dump_is_written(name: str) -> None:
    assert values(name)["LimitCORE"] == "0"


@pytest.mark.parametrize("name", ["streamasr.service", "user/streamasr.service"])
def test_systemd_never_gives_the_daemon_up(name: str) -> None:
    """By default, a unit that fails five times in ten seconds is not started again."""
    assert (values(name)["StartLimitIntervalSec"], values(name)["Restart"]) == ("0", "on-failure")


def test_systemd_waits_longer_than_the_daemon_drains() -> None:
    service = values("streamasr.service")
    config = ServerConfig()
    assert int(service["TimeoutStopSec"]) > config.drain_timeout_s + config.close_timeout_s
    assert int(service["WatchdogSec"]) > config.stalled_s
    assert (service["Type"], service["DynamicUser"]) == ("notify", "yes")


def test_the_socket_uses_the_daemons_default_address() -> None:
    config = ServerConfig()
    assert values("streamasr.socket")["ListenStream"] == f"{config.host}:{config.port}"


def test_the_example_contains_existing_settings() -> None:
    text = (UNITS / "streamasr.env.example").read_text()
    named = {name.lower() for name in re.findall(rf"^#?{ENV_PREFIX}(\w+)=", text, re.M)}
    assert "model" in named
    assert named <= set(settings())
