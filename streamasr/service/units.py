"""Make the systemd units of an installation, and decide which files may be written or removed.

Every written unit begins with a line that holds a digest of the rest, so that a unit that somebody else wrote, or
changed, is recognised.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from streamasr.errors import ConfigError

SERVICE, SOCKET = "streamasr.service", "streamasr.socket"
_PACKAGE = "streamasr_systemd"
_PACKAGED_COMMAND = "ExecStart=/opt/streamasr/bin/streamasr serve"
_MARK = "# Written by `streamasr install-service`; for changes use `systemctl edit`. Digest: "
_HIDDEN_FROM_SERVICES = ("/home", "/root", "/run/user")
"""What ``ProtectHome=yes`` hides."""

Owner = Literal["nobody", "installer", "somebody"]


@dataclass(frozen=True, slots=True)
class Locations:
    """Where the units and their settings go.

    Attributes:
        units: folder of the units.
        settings: the file with the settings.
        user: whether it is the service of one user.
    """

    units: Path
    settings: Path
    user: bool


def system_locations() -> Locations:
    """Return the locations of a service of the machine."""
    return Locations(Path("/etc/systemd/system"), Path("/etc/streamasr/streamasr.env"), user=False)


def user_locations(environment: Mapping[str, str]) -> Locations:
    """Return the locations of a service of the present user."""
    config = Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return Locations(config / "systemd" / "user", config / "streamasr" / "streamasr.env", user=True)


def make_units(command: Sequence[str], *, user: bool, socket: bool) -> dict[str, str]:
    """Return the contents of the units by their names.

    Args:
        command: the program that the service starts, an absolute path and its arguments; without ``serve``.
        user: whether the units are those of one user.
        socket: whether systemd opens the port and starts the service with its first client.
    """
    service = _packaged(f"user/{SERVICE}" if user else SERVICE)
    assert service.count(_PACKAGED_COMMAND) == 1, "the unit starts the daemon"
    start = "ExecStart=" + " ".join(quote(word) for word in (*command, "serve"))
    units = {SERVICE: service.replace(_PACKAGED_COMMAND, start)}
    if socket:
        units[SOCKET] = _packaged(SOCKET)
    return {name: _marked(text) for name, text in units.items()}


def make_settings() -> str:
    """Return the content of a new file of settings, in which every setting is the default."""
    return _packaged("streamasr.env.example")


def check_readable(paths: Sequence[Path]) -> None:
    """Check that the service of a machine will see the program, which it does not below home folders.

    Raises:
        ConfigError: a path, or what it links to, is in a hidden folder.
    """
    for path in paths:
        for place in (path.absolute(), path.resolve()):
            if any(place.is_relative_to(hidden) for hidden in _HIDDEN_FROM_SERVICES):
                raise ConfigError(
                    f"a service of the machine cannot read {place}: home folders are hidden from it; "
                    "install streamasr in /opt/streamasr, or install the service of a user with --user"
                )


def owner_of(path: Path) -> Owner:
    """Return who wrote a unit: ``somebody`` also if the installer did and it has been changed since.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return "nobody"
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    first, _, rest = text.partition("\n")
    return "installer" if first == _mark(rest) else "somebody"


def write_file(path: Path, text: str, mode: int) -> None:
    """Write a file at once, so that nobody reads half of it.

    Raises:
        ConfigError: it cannot be written.
    """
    new = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(fd, "w", encoding="utf-8") as file:
            os.fchmod(fd, mode)
            file.write(text)
        new.replace(path)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None


def quote(word: str) -> str:
    """Return a word of a command as systemd reads it (systemd.service(5), systemd.unit(5))."""
    if re.fullmatch(r"[\w@+=:,./-]+", word, re.ASCII):
        return word
    if any(ord(char) < ord(" ") for char in word):
        raise ConfigError(f"systemd cannot start {word!r}: its path contains control characters")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def _packaged(name: str) -> str:
    return importlib.resources.files(_PACKAGE).joinpath(name).read_text(encoding="utf-8")


def _marked(text: str) -> str:
    return f"{_mark(text)}\n{text}"


def _mark(text: str) -> str:
    return _MARK + hashlib.sha256(text.encode()).hexdigest()[:16]
