"""Test the installation of the service, with a systemctl that records how it is called."""

import os
from pathlib import Path

import pytest

from streamasr.cli import main
from streamasr.cli.install_service import program

SYSTEMCTL = """#!/bin/sh
echo "$@" >> "{log}"
if [ -e "{broken}" ]; then echo "Failed to connect to bus" >&2; exit 1; fi
"""


class Machine:
    """A home folder, and a systemctl that does nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "systemctl.log"
        self.broken = folder / "broken"
        self.unit = folder / "config" / "systemd" / "user" / "streamasr.service"
        self.socket = self.unit.with_suffix(".socket")
        self.settings = folder / "config" / "streamasr" / "streamasr.env"

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    systemctl = tmp_path / "bin" / "systemctl"
    systemctl.parent.mkdir()
    systemctl.write_text(SYSTEMCTL.format(log=machine.log, broken=machine.broken))
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{systemctl.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("SUDO_USER", raising=False)
    return machine


def test_a_users_service_is_written_and_enabled(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install-service", "--user"]) == 0
    assert f"ExecStart={' '.join(program())} serve" in machine.unit.read_text()
    assert machine.settings.stat().st_mode & 0o777 == 0o600
    assert not machine.socket.exists()
    assert machine.calls() == ["--user daemon-reload", "--user enable --now streamasr.service"]
    output = capsys.readouterr().out
    for words in (
        f"write {machine.unit}",
        f"settings: {machine.settings}",
        "journalctl --user",
        "enable-linger",
    ):
        assert words in output


def test_it_can_be_repeated_and_keeps_the_settings(machine: Machine) -> None:
    assert main(["install-service", "--user"]) == 0
    machine.settings.write_text("STREAMASR_PORT=9000\n")
    assert main(["install-service", "--user", "--socket"]) == 0
    assert machine.settings.read_text() == "STREAMASR_PORT=9000\n"
    assert machine.calls()[-1] == "--user enable --now streamasr.socket"
    assert machine.socket.exists()


def test_nothing_is_done_in_a_dry_run(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install-service", "--user", "--dry-run"]) == 0
    assert not (machine.folder / "config").exists()
    assert machine.calls() == []
    output = capsys.readouterr().out
    assert f"would write {machine.unit}" in output
    assert "would run systemctl --user enable --now streamasr.service" in output


def test_the_units_can_be_printed(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install-service", "--print", "--socket"]) == 0
    output = capsys.readouterr().out
    assert "# streamasr.service\n" in output
    assert "DynamicUser=yes" in output
    assert "ListenStream=127.0.0.1:8765" in output
    assert machine.calls() == []


def test_a_foreign_unit_is_replaced_only_by_force(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.unit.parent.mkdir(parents=True)
    machine.unit.write_text("[Service]\nExecStart=/bin/true\n")
    for extra in ([], ["--dry-run"], ["--uninstall"]):
        assert main(["install-service", "--user", *extra]) == 1
        assert f"{machine.unit} was not written by install-service" in capsys.readouterr().err
    assert machine.unit.read_text() == "[Service]\nExecStart=/bin/true\n"
    assert machine.calls() == []
    assert main(["install-service", "--user", "--force"]) == 0
    assert "Type=notify" in machine.unit.read_text()


def test_uninstalling_removes_the_units_and_keeps_the_settings(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["install-service", "--user", "--socket", "--no-enable"]) == 0
    assert machine.calls() == ["--user daemon-reload"]
    assert "start: systemctl --user enable --now streamasr.socket" in capsys.readouterr().out
    assert main(["install-service", "--user", "--uninstall"]) == 0
    assert machine.calls()[1:] == [
        "--user disable --now streamasr.socket streamasr.service",
        "--user daemon-reload",
    ]
    assert not machine.unit.exists()
    assert not machine.socket.exists()
    assert machine.settings.exists()
    assert f"{machine.settings} stays" in capsys.readouterr().out
    assert main(["install-service", "--user", "--uninstall"]) == 0
    assert "no service is installed" in capsys.readouterr().out


def test_a_failing_systemctl_is_reported(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.broken.touch()
    assert main(["install-service", "--user"]) == 1
    assert "daemon-reload failed: Failed to connect to bus" in capsys.readouterr().err


def test_who_may_not_install_is_told(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["install-service"]) == 1
    assert "needs root" in capsys.readouterr().err
    monkeypatch.setenv("SUDO_USER", "somebody")
    assert main(["install-service", "--user"]) == 1
    assert "run it without sudo" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(machine.folder))
    assert main(["install-service"]) == 1
    assert "no systemd" in capsys.readouterr().err
    assert machine.calls() == []


def test_a_program_in_a_home_folder_is_no_service_of_the_machine(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.executable", str(Path("/home", "somebody", "bin", "python")))
    assert main(["install-service", "--dry-run"]) == 1
    assert "home folders are hidden from it" in capsys.readouterr().err
