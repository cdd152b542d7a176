"""Run certbot's deploy hook as certbot does, with programs that only note their arguments."""

import os
import subprocess
from pathlib import Path

import pytest

HOOK = Path(__file__).parents[2] / "deploy" / "certbot-hook"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Variables of a hook that writes ``captions.pem``; calls of other programs go to ``calls``."""
    for name in ("systemctl", "docker"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/calls\n')
        program.chmod(0o755)
    lineage = tmp_path / "live"
    lineage.mkdir()
    renew(lineage, 1)
    return {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "RENEWED_LINEAGE": str(lineage),
        "CAPTIONS_PEM": str(tmp_path / "captions.pem"),
    }


def renew(lineage: Path, number: int) -> None:
    (lineage / "fullchain.pem").write_text(f"chain {number}\n")
    (lineage / "privkey.pem").write_text(f"key {number}\n")


def test_a_renewed_certificate_and_its_key_reach_haproxy(tmp_path: Path, environment: dict[str, str]) -> None:
    target = tmp_path / "captions.pem"
    for number in (1, 2):
        renew(tmp_path / "live", number)
        subprocess.run([HOOK], env=environment, check=True)
        assert target.read_text() == f"chain {number}\nkey {number}\n"
        assert target.stat().st_mode & 0o777 == 0o600
    calls = (tmp_path / "calls").read_text()
    assert calls == "systemctl is-active --quiet haproxy\nsystemctl reload haproxy\n" * 2


def test_without_haproxy_only_the_file_is_written(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "systemctl").write_text("#!/bin/sh\nexit 3\n")
    subprocess.run([HOOK], env=environment, check=True)
    assert (tmp_path / "captions.pem").exists()


def test_a_container_keeps_its_mounted_file(tmp_path: Path, environment: dict[str, str]) -> None:
    compose = tmp_path / "compose.yaml"
    environment["CAPTIONS_COMPOSE"] = str(compose)
    subprocess.run([HOOK], env=environment, check=True)  # the first certificate: nothing runs yet
    assert not (tmp_path / "calls").exists()
    mounted = tmp_path / "secrets" / "captions.pem"
    mounted.parent.mkdir()
    mounted.write_text("old")
    file = mounted.stat().st_ino
    subprocess.run([HOOK], env=environment, check=True)
    assert (mounted.read_text(), mounted.stat().st_ino) == ("chain 1\nkey 1\n", file)
    assert (tmp_path / "calls").read_text() == f"docker compose --file {compose} kill --signal HUP haproxy\n"


def test_without_a_new_certificate_the_old_one_stays(tmp_path: Path, environment: dict[str, str]) -> None:
    target = tmp_path / "captions.pem"
    target.write_text("old")
    (tmp_path / "live" / "privkey.pem").unlink()
    run = subprocess.run([HOOK], env=environment, capture_output=True, check=False)
    assert run.returncode != 0
    assert target.read_text() == "old"
