"""Test the sources of settings, their precedence and their errors."""

import argparse
import dataclasses
from pathlib import Path

import pytest

from streamasr.engine.config import EngineConfig
from streamasr.errors import ConfigError
from streamasr.service.config import (
    ServerConfig,
    add_flags,
    default_of,
    is_loopback,
    load_config,
    settings,
)

TOKEN = "0123456789abcdef"


def test_defaults_are_valid_and_loopback_only() -> None:
    config = load_config({}, {})
    assert config == ServerConfig()
    assert (config.host, config.port, config.model) == ("127.0.0.1", 8765, "en-small")
    config.check_exposure(config.host)


def test_flags_override_the_environment_which_overrides_the_file(tmp_path: Path) -> None:
    file = tmp_path / "streamasr.toml"
    file.write_text("port = 1\nhost = '::1'\nidle_timeout_s = 5\n[engine]\nmax_sessions = 3\nmax_batch = 2\n")
    environment = {
        "STREAMASR_PORT": "2",
        "STREAMASR_MAX_SESSIONS": "4",
        "STREAMASR_CONFIG": str(file),
        "PATH": "/",
    }
    config = load_config({"port": "3", "host": None}, environment)
    assert (config.port, config.host, config.idle_timeout_s) == (3, "::1", 5.0)
    assert (config.engine.max_sessions, config.engine.max_batch) == (4, 2)


def test_the_file_can_set_limits(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[limits]\nhotwords = 3\n[limits.boost]\nlow = 0\nhigh = 5\n")
    limits = load_config({}, {}, file).limits
    assert limits.hotwords == 3
    assert str(limits.boost) == "0 to 5"


def test_lists_are_split_at_commas() -> None:
    config = load_config({}, {"STREAMASR_ALLOWED_ORIGINS": "https://a.example, https://b.example"})
    assert config.allowed_origins == ("https://a.example", "https://b.example")


@pytest.mark.parametrize(
    ("flags", "environment", "message"),
    [
        ({"port": "http"}, {}, "--port: expected a number, got 'http'"),
        ({}, {"STREAMASR_IDLE_TIMEOUT_S": "soon"}, "STREAMASR_IDLE_TIMEOUT_S: expected a number"),
        ({"port": "70000"}, {}, "port must be 0 to 65535"),
        ({"idle_timeout_s": "0"}, {}, "idle_timeout_s must be positive"),
        ({"idle_timeout_s": "nan"}, {}, "idle_timeout_s must be positive, got nan"),
        ({"max_sessions": "0"}, {}, "^engine.max_sessions must be positive, got 0$"),
        ({"tls_cert": "c.pem"}, {}, "tls_cert and tls_key go together"),
        ({"token": "short"}, {}, "token must have at least 16 characters"),
        ({"token": TOKEN, "token_file": "t"}, {}, "token or token_file, not both"),
        ({"token_file": "/nowhere/t"}, {}, "token_file /nowhere/t: .*No such file"),
        ({"log_level": "loud"}, {}, "log_level must be debug, info, warning or error"),
        ({}, {"STREAMASR_CONFIG": "/nowhere/c.toml"}, "/nowhere/c.toml: No such file"),
    ],
)
def test_invalid_input_gets_a_clear_error(
    flags: dict[str, str], environment: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(flags, environment)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1", "prot: unknown field"),
        ("port = ", "not valid TOML"),
        ("port = 'x'", "port: expected int"),
        ("[engine]\nthreads = -1", r"engine\.threads must be 0 \(automatic\) or more, got -1$"),
        ("[limits]\naudio_bytes = 1", r"limits\.audio_bytes must be at least 1024, got 1$"),
        ("[limits.boost]\nlow = 'x'", r"limits\.boost\.low: expected float, got str$"),
    ],
)
def test_errors_in_the_file_name_it(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "c.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=rf"c\.toml: {message}"):
        load_config({}, {}, file)


def test_a_token_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    config = load_config({"token_file": str(file)}, {})
    assert (config.token, config.token_file) == (TOKEN, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "token must have at least 16 characters"),
        ("short\n", "token must have at least 16 characters"),
        (f"{TOKEN}\n{TOKEN}\n", "token must be one line of ASCII characters"),
        ("é" * 20, "token must be one line of ASCII characters"),
    ],
)
def test_a_file_without_a_usable_token_is_named(tmp_path: Path, text: str, message: str) -> None:
    """A token that no client can send would lock everybody out, and say so to nobody."""
    file = tmp_path / "token"
    file.write_text(text)
    with pytest.raises(ConfigError, match=f"^token_file {file}: {message}"):
        load_config({"token_file": str(file)}, {})
    file.unlink()
    file.mkdir()
    with pytest.raises(ConfigError, match=f"^token_file {file}: .*Is a directory"):
        load_config({"token_file": str(file)}, {})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "captions.example"])
def test_other_addresses_need_a_token(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(ConfigError, match=f"refusing to listen on {host} without a token.*--token-file"):
        ServerConfig().check_exposure(host)
    ServerConfig(token=TOKEN).check_exposure(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_addresses_need_no_token(host: str) -> None:
    ServerConfig().check_exposure(host)


def test_every_setting_has_a_flag_with_its_default() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    text = " ".join(parser.format_help().split())
    for name in settings():
        assert f"--{name.replace('_', '-')} " in text
        if default_of(name) not in (None, ()):
            assert f"(default {default_of(name)})" in text
    assert set(vars(parser.parse_args([])).values()) == {None}


def test_operations_md_lists_every_setting() -> None:
    doc = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    for name, text in settings().items():
        default = default_of(name)
        shown = "" if default in (None, ()) else f"`{default}`"
        assert f"| `{name}` | {shown} | {text} |" in doc


def test_operations_md_lists_the_engines_other_settings() -> None:
    doc = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    others = [f for f in dataclasses.fields(EngineConfig) if f.name not in settings()]
    assert others
    assert [f.name for f in others if f"| `{f.name}` | `{f.default}` |" not in doc] == []
