"""Test the units that an installation gets, and who may replace them."""

import shlex
from pathlib import Path

import pytest

from streamasr.errors import ConfigError
from streamasr.service.units import (
    check_readable,
    make_settings,
    make_units,
    owner_of,
    quote,
    user_locations,
    write_file,
)

UNITS = Path(__file__).parents[2] / "systemd"
HOME = Path("/home", "somebody")


@pytest.mark.parametrize("user", [False, True])
def test_only_the_command_differs_from_the_packaged_unit(user: bool) -> None:
    units = make_units(["/srv/asr/bin/streamasr"], user=user, socket=True)
    assert units.keys() == {"streamasr.service", "streamasr.socket"}
    mark, _, text = units["streamasr.service"].partition("\n")
    packaged = (UNITS / "user" if user else UNITS) / "streamasr.service"
    assert mark.startswith("# Written by `streamasr install-service`")
    assert text == packaged.read_text().replace("/opt/streamasr/bin/streamasr", "/srv/asr/bin/streamasr")
    assert units["streamasr.socket"].endswith((UNITS / "streamasr.socket").read_text())
    assert make_units(["x"], user=user, socket=False).keys() == {"streamasr.service"}
    assert make_settings() == (UNITS / "streamasr.env.example").read_text()


def test_the_two_units_agree_on_how_the_daemon_is_run() -> None:
    system, user = (
        {line for line in path.read_text().splitlines() if line and not line.startswith(("#", "["))}
        for path in (UNITS / "streamasr.service", UNITS / "user" / "streamasr.service")
    )
    assert user - system == {"EnvironmentFile=-%E/streamasr/streamasr.env", "WantedBy=default.target"}


def test_changed_and_foreign_units_are_recognised(tmp_path: Path) -> None:
    path = tmp_path / "systemd" / "streamasr.service"
    assert owner_of(path) == "nobody"
    text = make_units(["/x"], user=False, socket=False)["streamasr.service"]
    write_file(path, text, 0o640)
    assert owner_of(path) == "installer"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(path.parent.iterdir()) == [path]
    path.write_text(text.replace("WatchdogSec=60", "WatchdogSec=90"))
    assert owner_of(path) == "somebody"
    path.write_text("[Service]\n")
    assert owner_of(path) == "somebody"


def test_unreadable_and_unwritable_places_are_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        owner_of(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write .*unit: "):
        write_file(tmp_path / "file" / "unit", "", 0o644)


def test_programs_that_the_service_cannot_see_are_refused(tmp_path: Path) -> None:
    check_readable([Path("/opt/streamasr/bin/python"), Path("/usr/bin/python3"), Path("/homeland/x")])
    link = tmp_path / "python"
    link.symlink_to(HOME / "python")
    for path in (HOME / "bin" / "python", Path("/root", "x"), link):
        with pytest.raises(ConfigError, match="home folders are hidden from it"):
            check_readable([path])


@pytest.mark.parametrize("word", ["/opt/a/bin/x", "/opt/my captions/x", '/opt/"x"', "/opt/back\\slash", "-m"])
def test_words_are_quoted(word: str) -> None:
    assert shlex.split(quote(word)) == [word]


def test_specifiers_and_variables_are_escaped() -> None:
    assert quote("/opt/100%/$x") == '"/opt/100%%/$$x"'
    with pytest.raises(ConfigError, match="control characters"):
        quote("/opt/a\nb")


def test_a_users_units_go_into_the_configuration_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(HOME))
    assert user_locations({}).units == HOME / ".config" / "systemd" / "user"
    moved = user_locations({"XDG_CONFIG_HOME": "/cfg"})
    assert (moved.units, moved.settings) == (Path("/cfg/systemd/user"), Path("/cfg/streamasr/streamasr.env"))
