"""Install the daemon as a systemd service: ``streamasr install-service``."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from streamasr.errors import ConfigError
from streamasr.service.units import (
    SERVICE,
    SOCKET,
    Locations,
    check_readable,
    make_settings,
    make_units,
    owner_of,
    system_locations,
    user_locations,
    write_file,
)

EXAMPLE = """sudo /opt/streamasr/bin/streamasr install-service
streamasr install-service --user
streamasr install-service --user --uninstall"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--user",
        action="store_true",
        help="a service of your own user, without root; it runs while you are logged in",
    )
    parser.add_argument(
        "--socket",
        action="store_true",
        help="let systemd open the port, and start the daemon with its first client",
    )
    parser.add_argument(
        "--no-enable", action="store_true", help="write the files, but neither enable nor start the service"
    )
    parser.add_argument("--uninstall", action="store_true", help="stop the service and remove its units")
    parser.add_argument(
        "--force", action="store_true", help="replace or remove units that somebody else wrote or changed"
    )
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--dry-run", action="store_true", help="only say what would be done")
    shown.add_argument("--print", action="store_true", help="only print the units")


def run(args: argparse.Namespace) -> int:
    """Install or remove the service; return the exit status."""
    command = program()
    units = make_units(command, user=args.user, socket=args.socket)
    if args.print:
        print("\n".join(f"# {name}\n{text}" for name, text in units.items()), end="")
        return 0
    locations = user_locations(os.environ) if args.user else system_locations()
    installation = _Installation(locations, dry_run=args.dry_run, force=args.force)
    installation.check()
    if args.uninstall:
        return installation.remove()
    if not args.user:
        check_readable([Path(command[0]), Path(sys.executable), Path(__file__)])
    return installation.install(units, enable=not args.no_enable)


def program() -> list[str]:
    """Return the command that runs this installation of streamasr, with an absolute path."""
    script = Path(sys.executable).absolute().with_name("streamasr")
    return (
        [str(script)] if script.is_file() else [str(Path(sys.executable).absolute()), "-m", "streamasr.cli"]
    )


class _Installation:
    """Files and commands of one installation, or only their description with ``dry_run``."""

    def __init__(self, locations: Locations, *, dry_run: bool, force: bool) -> None:
        self._locations = locations
        self._dry_run = dry_run
        self._force = force
        self._systemctl = ["systemctl", "--user"] if locations.user else ["systemctl"]

    def check(self) -> None:
        """Check that the user may do it, and that there is a systemd.

        Raises:
            ConfigError: the message says what is missing.
        """
        if self._dry_run:
            return
        if shutil.which("systemctl") is None:
            raise ConfigError(
                "this machine has no systemd (no systemctl); start `streamasr serve` another way"
            )
        if not self._locations.user and os.geteuid() != 0:
            raise ConfigError(
                "a service of the machine needs root: use sudo, or --user for a service of your own user"
            )
        if self._locations.user and os.environ.get("SUDO_USER"):
            raise ConfigError("with sudo, --user would install a service of root; run it without sudo")

    def install(self, units: dict[str, str], *, enable: bool) -> int:
        """Write the units, and the settings if there are none; then enable and start the service."""
        folder = self._locations.units
        self._refuse_foreign([folder / name for name in units], "replace")
        for name, text in units.items():
            self._write(folder / name, text, 0o644)
        if not self._locations.settings.exists():
            self._write(self._locations.settings, make_settings(), 0o600)
        unit = SOCKET if SOCKET in units else SERVICE
        done = self._run("daemon-reload")
        if enable:
            done = done and self._run("enable", "--now", unit)
        if not done:
            return 1
        self._print_next_steps(unit, enabled=enable)
        return 0

    def remove(self) -> int:
        """Stop the service and remove its units. The settings stay."""
        present = [self._locations.units / name for name in (SOCKET, SERVICE)]
        present = [path for path in present if owner_of(path) != "nobody"]
        if not present:
            print(f"no service is installed in {self._locations.units}")
            return 0
        self._refuse_foreign(present, "remove")
        done = self._run("disable", "--now", *(path.name for path in present))
        for path in present:
            self._print_action("remove", str(path))
            if not self._dry_run:
                path.unlink()
        done = self._run("daemon-reload") and done
        if self._locations.settings.exists():
            print(f"{self._locations.settings} stays, with its settings")
        return 0 if done else 1

    def _refuse_foreign(self, paths: Sequence[Path], verb: str) -> None:
        for path in paths:
            if owner_of(path) == "somebody" and not self._force:
                raise ConfigError(
                    f"{path} was not written by install-service, or was changed since; --force would {verb} it"
                )

    def _write(self, path: Path, text: str, mode: int) -> None:
        self._print_action("write", str(path))
        if not self._dry_run:
            write_file(path, text, mode)

    def _run(self, *words: str) -> bool:
        command = [*self._systemctl, *words]
        self._print_action("run", " ".join(command))
        if self._dry_run:
            return True
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            print(f"{' '.join(command)} failed: {result.stderr.strip()}", file=sys.stderr)
        return result.returncode == 0

    def _print_action(self, verb: str, what: str) -> None:
        print(f"would {verb} {what}" if self._dry_run else f"{verb} {what}", flush=True)

    def _print_next_steps(self, unit: str, *, enabled: bool) -> None:
        systemctl = " ".join(self._systemctl)
        journal = "journalctl --user -t streamasr" if self._locations.user else "journalctl -t streamasr"
        steps = [
            f"settings: {self._locations.settings}, then {systemctl} restart {SERVICE}",
            f"state: {systemctl} status {SERVICE}",
            f"log: {journal} -f",
        ]
        if not enabled:
            steps.insert(0, f"start: {systemctl} enable --now {unit}")
        if self._locations.user:
            steps.append("to run it while you are logged out: loginctl enable-linger")
        print("\n".join(steps))
