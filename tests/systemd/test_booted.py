"""Run the units under a living systemd: a Debian that is booted in a container.

The tests share one container and run in their order: about three minutes on two cores. ``tests/systemd/container.py``
says what they need.
"""

import ctypes
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from websockets.sync.client import ClientConnection, connect

from streamasr.protocol.messages import Done, Final, Ready, ServerMessage, Start, Stop
from streamasr.protocol.serialisation import encode, parse_server_message
from streamasr.scoring import word_edits
from tests.service.conftest import make_certificate
from tests.systemd.container import Container, boot, debian_root

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SERVICE, SOCKET = "streamasr.service", "streamasr.socket"
PORT = 8765
URL = f"ws://127.0.0.1:{PORT}/v1/stream"
PROGRAM = "/opt/streamasr/bin/streamasr"
CLIPS = Path(__file__).parents[1] / "data" / "librispeech"
CLONE_NEWNET = 0x40000000
WATCHDOG_S = 8
"""Instead of a minute, by a drop-in."""


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A machine with the service of the machine installed."""
    with boot(debian_root(), tmp_path_factory.mktemp("container") / "console.log") as running:
        running.run(PROGRAM, "install-service")
        yield running


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All clips, one after the other, with pauses."""
    pause = np.zeros(16_000, dtype=np.float32)
    parts = [part for clip in sorted(CLIPS.glob("*.flac")) for part in (soundfile.read(clip)[0], pause)]
    path = tmp_path_factory.mktemp("audio") / "recording.wav"
    soundfile.write(path, np.concatenate(parts), 16_000)
    return path


@pytest.fixture(scope="module")
def undisturbed(container: Container, recording: Path) -> str:
    """What a client of an undisturbed daemon gets."""
    with listener(container, recording) as process:
        return text_of(process)


def listener(container: Container, recording: Path) -> subprocess.Popen[str]:
    """Start ``streamasr listen``, which sends the recording in real time."""
    command = [sys.executable, "-m", "streamasr.cli", "listen", "--file", str(recording), "--url", URL]
    return subprocess.Popen(
        container.in_network(*command), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def text_of(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 0
    return " ".join(output.split())


def assert_all_words(text: str, undisturbed: str) -> None:
    """Check that no word is lost.

    A word may be recognised differently: after an interruption, audio is sent again from the last final on, so the
    model does not hear what was said before.
    """
    edits = word_edits(undisturbed, text)
    assert len(undisturbed.split()) > 40
    assert edits.deletions <= edits.insertions, text
    assert edits.substitutions + edits.insertions + edits.deletions <= 3, text


def connected_socket(container: Container) -> socket.socket:
    """Connect to the daemon: only a thread of its own enters the network of the container."""
    made: list[socket.socket] = []

    def enter_and_connect() -> None:
        network = os.open(f"{container.root.parent}/ns/net", os.O_RDONLY)
        assert ctypes.CDLL(None, use_errno=True).setns(network, CLONE_NEWNET) == 0
        os.close(network)
        made.append(socket.create_connection(("127.0.0.1", PORT), timeout=120))

    thread = threading.Thread(target=enter_and_connect)
    thread.start()
    thread.join()
    assert made, "the daemon refused the connection"
    return made[0]


def open_session(container: Container) -> ClientConnection:
    client = connect(URL, sock=connected_socket(container), open_timeout=120, ping_interval=None, legacy=True)
    client.send(encode(Start()))
    assert isinstance(receive(client), Ready)
    return client


def receive(client: ClientConnection) -> ServerMessage:
    return parse_server_message(str(client.recv(timeout=60)))


def active(container: Container, unit: str = SERVICE) -> Callable[[], bool]:
    return lambda: container.show(unit, "ActiveState") == "active"


def test_the_service_is_ready_when_the_model_is_loaded(container: Container) -> None:
    assert container.show(SERVICE, "ActiveState") == "active"
    assert container.show(SERVICE, "StatusText") == "0 sessions"
    assert "Started streamasr.service" in container.journal("-u", SERVICE)
    assert container.run("systemctl", "is-enabled", SERVICE) == "enabled"
    client = open_session(container)
    client.send(encode(Stop()))
    assert isinstance(receive(client), Done)


def test_the_log_is_in_the_journal_with_its_fields(container: Container) -> None:
    client = open_session(container)
    client.send(bytes(32_000))
    client.send(encode(Stop()))
    while not isinstance(receive(client), Done):
        pass
    client.close()

    def entries() -> list[dict[str, str]]:
        lines = container.journal("-o", "json", f"_SYSTEMD_UNIT={SERVICE}", "STREAMASR_EVENT=session_closed")
        return [json.loads(line) for line in lines.splitlines()]

    container.wait("no entry", lambda: any(entry["STREAMASR_AUDIO_MS"] == "1000" for entry in entries()))
    entry = entries()[-1]
    assert (entry["STREAMASR_OUTCOME"], entry["PRIORITY"], entry["_TRANSPORT"]) == ("done", "6", "journal")
    assert entry["MESSAGE"].startswith(f"session_closed session={entry['STREAMASR_SESSION']}")
    assert entry["SYSLOG_IDENTIFIER"] == "streamasr"


def test_the_sandbox_is_in_force(container: Container) -> None:
    report = container.run("systemd-analyze", "security", "--no-pager", SERVICE)
    assert float(report.split("exposure level for streamasr.service: ")[1].split()[0]) <= 1.5
    process = container.show(SERVICE, "MainPID")
    lines = container.run("cat", f"/proc/{process}/status").splitlines()
    status = dict(line.split(":", 1) for line in lines if ":" in line)
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert "0" not in status["Uid"].split()
    inside = ["nsenter", f"--target={process}", "--mount", "--root", "--wd"]
    container.run("mkdir", "-p", str(Path("/home", "visitor")))
    assert container.run(*inside, "ls", "-A", "/home") == ""
    for folder in ("/usr", "/etc", "/opt"):
        assert "Read-only" in container.run(*inside, "sh", "-c", f"touch {folder}/x 2>&1", check=False)
    container.run(*inside, "touch", "/var/lib/streamasr/x")
    limits = container.run("cat", f"/proc/{process}/limits")
    assert "Max core file size        0                    0" in limits


def test_stopping_in_mid_sentence_sends_the_finals(container: Container, recording: Path) -> None:
    samples, _ = soundfile.read(recording, dtype="int16")
    client = open_session(container)
    client.send(samples[:48_000].tobytes())
    stopping = subprocess.Popen(container.command("systemctl", "stop", SERVICE))
    messages = [receive(client)]
    while not isinstance(messages[-1], Done):
        messages.append(receive(client))
    assert any(isinstance(message, Final) for message in messages)
    with pytest.raises(Exception, match="1001"):
        receive(client)
    assert stopping.wait(60) == 0
    assert container.show(SERVICE, "Result") == "success"
    assert container.show(SERVICE, "ExecMainStatus") == "0"
    container.run("systemctl", "start", SERVICE)


def test_a_restart_loses_no_word(container: Container, recording: Path, undisturbed: str) -> None:
    with listener(container, recording) as process:
        time.sleep(8)  # in the middle of the recording
        container.run("systemctl", "restart", SERVICE)
        assert_all_words(text_of(process), undisturbed)


def test_a_killed_daemon_is_started_again_and_loses_no_word(
    container: Container, recording: Path, undisturbed: str
) -> None:
    with listener(container, recording) as process:
        time.sleep(8)
        container.run("systemctl", "kill", "--signal=KILL", SERVICE)
        assert_all_words(text_of(process), undisturbed)
    assert container.show(SERVICE, "NRestarts") == "1"


def test_the_watchdog_ends_a_stopped_daemon(container: Container, recording: Path, undisturbed: str) -> None:
    container.write(
        f"/run/systemd/system/{SERVICE}.d/watchdog.conf", f"[Service]\nWatchdogSec={WATCHDOG_S}\n"
    )
    container.run("systemctl", "daemon-reload")
    container.run("systemctl", "restart", SERVICE)
    before = container.show(SERVICE, "MainPID")
    with listener(container, recording) as process:
        time.sleep(8)
        container.run("systemctl", "kill", "--signal=STOP", SERVICE)
        container.wait("no restart", lambda: container.show(SERVICE, "NRestarts") == "1")
        container.wait("not active", active(container))
        assert_all_words(text_of(process), undisturbed)
    assert container.show(SERVICE, "MainPID") != before
    assert "Watchdog timeout" in container.journal("-u", SERVICE)
    container.run("rm", "-r", f"/run/systemd/system/{SERVICE}.d")
    container.run("systemctl", "daemon-reload")


def shown_certificate(container: Container) -> str:
    """The certificate that a new connection is shown, as PEM."""
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    with trust.wrap_socket(connected_socket(container)) as client:
        certificate = client.getpeercert(binary_form=True)
    assert certificate is not None
    return ssl.DER_cert_to_PEM_cert(certificate)


def test_a_renewed_certificate_is_used_without_a_restart(container: Container, tmp_path: Path) -> None:
    """The key is readable by root and a group of the service, as docs/systemd.md recommends."""
    folders = tmp_path / "first", tmp_path / "second"
    certificates = []
    for folder in folders:
        folder.mkdir()
        certificates.append(make_certificate(folder))
    place = "/etc/streamasr/captions.pem"
    container.run("groupadd", "--system", "captions-tls")

    def deploy(file: Path) -> None:
        container.write(place, file.read_text(), 0o640)
        container.run("chgrp", "captions-tls", place)

    deploy(certificates[0])
    settings = f"STREAMASR_TLS_CERT={place} STREAMASR_TLS_KEY={place}"
    drop_in = f"/run/systemd/system/{SERVICE}.d/tls.conf"
    container.write(drop_in, f"[Service]\nSupplementaryGroups=captions-tls\nEnvironment={settings}\n")
    container.run("systemctl", "daemon-reload")
    container.run("systemctl", "restart", SERVICE)
    process = container.show(SERVICE, "MainPID")
    assert shown_certificate(container) in certificates[0].read_text()
    deploy(certificates[1])
    container.run("systemctl", "reload", SERVICE)
    container.wait("old", lambda: shown_certificate(container) in certificates[1].read_text())
    assert container.show(SERVICE, "MainPID") == process

    credentials = (
        f"LoadCredential=captions.pem:{place}\nEnvironment={settings.replace(place, '%d/captions.pem')}"
    )
    container.run("chmod", "600", place)
    container.write(drop_in, f"[Service]\n{credentials}\n")
    container.run("systemctl", "daemon-reload")
    container.run("systemctl", "restart", SERVICE)
    assert shown_certificate(container) in certificates[1].read_text()
    container.run("rm", "-r", f"/run/systemd/system/{SERVICE}.d")
    container.run("systemctl", "daemon-reload")


def test_the_first_connection_starts_the_daemon_and_a_restart_loses_none(container: Container) -> None:
    container.run(PROGRAM, "install-service", "--uninstall")
    container.run(PROGRAM, "install-service", "--socket")
    assert active(container, SOCKET)()
    assert container.show(SERVICE, "ActiveState") == "inactive"
    assert ask(container) == b"HTTP/1.1 200 OK", "of the daemon that this connection has started"
    assert container.show(SERVICE, "ActiveState") == "active"
    before = container.show(SERVICE, "MainPID")
    answers: list[bytes] = []
    restart = subprocess.Popen(container.command("systemctl", "restart", SERVICE))
    threads: list[threading.Thread] = []
    while restart.poll() is None or len(threads) < 40:
        threads.append(threading.Thread(target=lambda: answers.append(ask(container))))
        threads[-1].start()
        time.sleep(0.1)
    for thread in threads:
        thread.join()
    assert restart.returncode == 0
    assert len(answers) == len(threads) >= 40
    assert set(answers) == {b"HTTP/1.1 200 OK"}
    assert container.show(SERVICE, "MainPID") != before
    container.run(PROGRAM, "install-service", "--uninstall")
    assert container.show(SOCKET, "LoadState") == "not-found"


def ask(container: Container) -> bytes:
    """Ask for the daemon's health; return the first line of the answer."""
    with connected_socket(container) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        return client.makefile("rb").readline().strip()


def test_a_user_has_a_service_of_its_own(container: Container) -> None:
    container.run("useradd", "--create-home", "somebody")
    container.run("loginctl", "enable-linger", "somebody")
    number = container.run("id", "-u", "somebody")
    container.wait("no manager", active(container, f"user@{number}.service"))
    runtime = f"XDG_RUNTIME_DIR=/run/user/{number}"
    as_user = ["runuser", "-u", "somebody", "--", "env", runtime]
    output = container.run(*as_user, PROGRAM, "install-service", "--user")
    assert "loginctl enable-linger" in output
    show = [*as_user, "systemctl", "--user", "show", "--value", "--property"]
    assert container.run(*show, "ActiveState", SERVICE) == "active"
    assert container.run(*show, "NoNewPrivileges", SERVICE) == "yes"
    assert ask(container) == b"HTTP/1.1 200 OK"
    process = container.run(*show, "MainPID", SERVICE)
    assert "Seccomp:\t2" in container.run("cat", f"/proc/{process}/status")
    assert "STREAMASR_EVENT" in container.journal("-o", "json", f"_PID={process}")
    container.run(*as_user, PROGRAM, "install-service", "--user", "--uninstall")
    assert container.run(*show, "LoadState", SERVICE) == "not-found"
