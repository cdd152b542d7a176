"""Boot a Debian with systemd as its first process, and run commands in it.

The tree of files is made with mmdebstrap once and kept; ``STREAMASR_DEBIAN_ROOT`` names another one. The container
writes to memory only, has a network of its own with nothing but loopback, and sees this checkout and the installed
packages read-only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

import streamasr

ROOT_VARIABLE = "STREAMASR_DEBIAN_ROOT"
PACKAGES = "systemd,systemd-sysv,dbus,libpam-systemd,python3,python3-venv,libgomp1,procps"
BOOT_S = 120
_CHECKOUT = Path(__file__).parents[2]
_SITE = Path(sysconfig.get_path("purelib"))
_PROGRAM = """#!/opt/streamasr/bin/python3
import sys
import sysconfig
from streamasr.cli import main
sys.exit(main())
"""


def debian_root() -> Path:
    """Return a folder with a Debian that can be booted, or skip the test and say what is missing."""
    if os.geteuid() != 0:
        pytest.skip("booting a container needs root")
    for tool in ("systemd-nspawn", "nsenter"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed (packages systemd-container, util-linux)")
    if given := os.environ.get(ROOT_VARIABLE):
        return Path(given)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamasr" / "debian-12"
    make = ["mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm"]
    if not cache.exists():
        if shutil.which("mmdebstrap") is None:
            pytest.skip(f"no Debian to boot: set {ROOT_VARIABLE}, or install mmdebstrap")
        new = cache.with_name("debian-12.new")
        shutil.rmtree(new, ignore_errors=True)
        new.parent.mkdir(parents=True, exist_ok=True)
        result = subprocess.run([*make, str(new)], capture_output=True, text=True, check=False)
        if result.returncode:
            pytest.skip(f"{' '.join(make)} failed: {result.stderr.strip()[-200:]}")
        new.rename(cache)
    return cache


class Container:
    """A running Debian.

    Attributes:
        root: its files, seen from outside.
    """

    def __init__(self, leader: int) -> None:
        self._leader = leader
        self.root = Path(f"/proc/{leader}/root")

    def command(self, *words: str) -> list[str]:
        """Return the command that runs ``words`` inside."""
        spaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"]
        return ["nsenter", f"--target={self._leader}", *spaces, *words]

    def in_network(self, *words: str) -> list[str]:
        """Return the command that runs ``words`` outside, but in the network of the container."""
        return ["nsenter", f"--target={self._leader}", "--net", *words]

    def run(self, *words: str, check: bool = True, timeout_s: float = 200) -> str:
        """Run a command inside and return its output."""
        result = subprocess.run(
            self.command(*words), capture_output=True, text=True, check=False, timeout=timeout_s
        )
        assert not check or result.returncode == 0, f"{words}: {result.stdout}{result.stderr}"
        return result.stdout.strip()

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--value", "--property", name, unit)

    def wait(self, what: str, condition: Callable[[], bool], limit_s: float = 120) -> None:
        """Wait until a condition holds."""
        end = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < end, f"{what}\n{self.journal()}"
            time.sleep(0.2)

    def journal(self, *matches: str) -> str:
        """Return the journal's entries, by default of streamasr's units."""
        return self.run("journalctl", "--no-pager", *(matches or ("-u", "streamasr.service")))

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file inside."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)


@contextmanager
def boot(tree: Path, log: Path) -> Iterator[Container]:
    """Boot ``tree`` and install streamasr in ``/opt/streamasr``; what it writes is lost at the end.

    Its console goes to ``log``.
    """
    binds = {
        _SITE: "/opt/packages",
        Path(streamasr.__file__).parent: "/opt/checkout/streamasr",
        _CHECKOUT / "client": "/opt/checkout/streamasr_client",
        _CHECKOUT / "models": "/opt/checkout/streamasr_models",
        _CHECKOUT / "systemd": "/opt/checkout/streamasr_systemd",
    }
    with log.open("w") as console, _nspawn(tree, binds, console) as process:
        leader = _wait_for_leader(process, log)
        container = Container(leader)
        end = time.monotonic() + BOOT_S
        while container.run("systemctl", "is-system-running", check=False) not in ("running", "degraded"):
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.2)
        _install(container)
        yield container


def _install(container: Container) -> None:
    version = container.run("/usr/bin/python3", "-c", "import sys; print(*sys.version_info[:2], sep='.')")
    if version != f"{sys.version_info.major}.{sys.version_info.minor}":
        pytest.skip(f"the packages are those of another Python than the container's {version}")
    container.run("/usr/bin/python3", "-m", "venv", "--without-pip", "/opt/streamasr")
    paths = f"/opt/streamasr/lib/python{version}/site-packages/streamasr.pth"
    container.write(paths, "/opt/checkout\n/opt/packages\n")
    container.write("/opt/streamasr/bin/streamasr", _PROGRAM, 0o755)


@contextmanager
def _nspawn(tree: Path, binds: Mapping[Path, str], console: object) -> Iterator[subprocess.Popen[bytes]]:
    command = [
        "systemd-nspawn",
        "--quiet",
        f"--directory={tree}",
        "--volatile=overlay",
        f"--machine=streamasr-test-{os.getpid()}",
        "--register=no",
        "--keep-unit",
        "--private-network",
        "--console=pipe",
        *(f"--bind-ro={source}:{target}" for source, target in binds.items()),
        "--boot",
    ]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.terminate()  # systemd-nspawn shuts the container down in order
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for_leader(process: subprocess.Popen[bytes], log: Path) -> int:
    """Wait for the first process of the container, a child of systemd-nspawn, and return its number."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    end = time.monotonic() + BOOT_S
    while time.monotonic() < end:
        if process.poll() is not None:
            pytest.skip(f"systemd-nspawn cannot boot here: {log.read_text().strip()[-300:]}")
        for child in children.read_text().split():
            if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                return int(child)
        time.sleep(0.1)
    raise AssertionError(log.read_text())
