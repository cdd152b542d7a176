"""Read the daemon's settings: defaults, overridden by a TOML file, by the environment and by flags, in this order.

The flags of ``streamasr serve`` and the ``STREAMASR_…`` variables are generated from the fields below. A test
compares the table in ``docs/operations.md`` with them.
"""

from __future__ import annotations

import argparse
import dataclasses
import ipaddress
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_type_hints

from streamasr.config import Backend, PrecisionChoice
from streamasr.engine.config import EngineConfig
from streamasr.errors import ConfigError
from streamasr.protocol.limits import Limits
from streamasr.service.access import parse_networks
from streamasr.textfile import read_text
from streamasr.toml import from_mapping

ENV_PREFIX = "STREAMASR_"
CONFIG_VARIABLE = ENV_PREFIX + "CONFIG"
"""Names the TOML file if ``--config`` is not given."""

ENGINE_SETTINGS = {
    "max_sessions": "concurrent sessions; more are refused; auto: by the lag",
    "max_lag_ms": "with auto: highest 95th percentile of captions' lag beyond their chunk",
    "max_batch": "most chunks in one forward pass",
    "threads": "threads of one forward pass; 0 leaves PyTorch's own choice",
}
"""Fields of the ``[engine]`` table that also have a flag and a variable, with their help texts."""

MIN_TOKEN_CHARS = 16
"""A shorter token could be guessed."""

MAX_NAME_BYTES = 63
"""Longest label of a DNS name, and so of a service's (RFC 6763, 4.1.1)."""

MAX_HEADERS = 128
"""Most headers that the websockets package reads."""


def _help(text: str) -> dict[str, str]:
    return {"help": text}


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """The daemon's settings. Times are in seconds, sizes in bytes."""

    model: str = field(default="en-small", metadata=_help("a model folder, or the name of a packaged model"))
    device: str = field(default="auto", metadata=_help("auto, cpu, cuda or cuda:N"))
    backend: Backend = field(
        default="auto",
        metadata=_help("native, torch, onnxruntime or auto (the fastest that has the model)"),
    )
    precision: PrecisionChoice = field(
        default="auto",
        metadata=_help("of a native encoder: float32, bfloat16, int8 or auto (the fastest)"),
    )
    host: str = field(
        default="127.0.0.1", metadata=_help("address to listen on; any but a loopback address needs a token")
    )
    port: int = field(default=8765, metadata=_help("port to listen on; 0 chooses a free one"))
    vosk_port: int | None = field(
        default=None,
        metadata=_help("a further port for Vosk's clients at /, usually 2700; 0 chooses a free one"),
    )
    wyoming_port: int | None = field(
        default=None, metadata=_help("port for Wyoming, usually 10300; 0 chooses a free one")
    )
    wyoming_host: str = field(
        default="127.0.0.1",
        metadata=_help("address for Wyoming; all who reach it need no token"),
    )
    wyoming_name: str | None = field(
        default=None,
        metadata=_help("announce the Wyoming port by Zeroconf, under this name"),
    )
    token: str | None = field(
        default=None, metadata=_help("secret that clients must send; better set in a file or the environment")
    )
    token_file: Path | None = field(default=None, metadata=_help("a file whose only line is the token"))
    tls_cert: Path | None = field(default=None, metadata=_help("certificate chain (PEM); turns TLS on"))
    tls_key: Path | None = field(default=None, metadata=_help("the certificate's private key (PEM)"))
    allowed_origins: tuple[str, ...] = field(
        default=(),
        metadata=_help("other web origins whose pages may connect, such as https://example.org"),
    )
    max_failed_tokens: int = field(
        default=30, metadata=_help("wrong tokens of an address in a minute; then HTTP 429; 0: no limit")
    )
    trusted_proxies: tuple[str, ...] = field(
        default=(),
        metadata=_help("reverse proxies whose X-Forwarded-For names the client"),
    )
    tls_reload_s: float = field(
        default=60.0, metadata=_help("time between checks whether tls_cert or tls_key has changed")
    )
    browser_token_ttl_s: int = field(default=900, metadata=_help("lifetime of a token from POST /v1/token"))
    max_connections: int = field(
        default=256, metadata=_help("open sockets, with or without a session; one more gets HTTP 503")
    )
    max_uploads: int = field(default=8, metadata=_help("uploads at the same time; one more gets HTTP 503"))
    max_upload_bytes: int = field(
        default=1_073_741_824, metadata=_help("largest uploaded file; it is stored in TMPDIR meanwhile")
    )
    max_header_bytes: int = field(
        default=65_536, metadata=_help("longest head of a request; a longer one gets HTTP 431")
    )
    max_headers: int = field(default=100, metadata=_help("headers of a request; more get HTTP 431"))
    start_timeout_s: float = field(
        default=10.0, metadata=_help("longest wait for the handshake, and again for `start`")
    )
    idle_timeout_s: float = field(
        default=60.0, metadata=_help("longest time without audio or keepalive in a session")
    )
    ping_interval_s: float = field(
        default=20.0, metadata=_help("time between websocket pings, which keep proxies from closing")
    )
    slow_reader_s: float = field(
        default=20.0, metadata=_help("longest time to send one message before the client is dropped")
    )
    outbox_messages: int = field(
        default=256, metadata=_help("messages waiting for one client before it is dropped")
    )
    resume_for_ms: int = field(
        default=30_000,
        metadata=_help("how long a session without a connection is kept; 0: not"),
    )
    resume_messages: int = field(
        default=512, metadata=_help("sent messages kept for a client that resumes its session")
    )
    read_ahead_bytes: int = field(default=2_097_152, metadata=_help("read ahead of a session that is behind"))
    send_buffer_bytes: int = field(default=65_536, metadata=_help("kernel send buffer of one client"))
    receive_buffer_bytes: int = field(default=131_072, metadata=_help("kernel receive buffer of one client"))
    close_timeout_s: float = field(
        default=5.0, metadata=_help("longest wait for a client's side of the closing handshake")
    )
    drain_timeout_s: float = field(
        default=20.0, metadata=_help("longest time to finish sessions after SIGTERM")
    )
    stalled_s: float = field(
        default=30.0, metadata=_help("an engine without a heartbeat for this long is unhealthy")
    )
    lost_s: float = field(
        default=120.0,
        metadata=_help("an engine without a heartbeat for this long ends the daemon (status 3)"),
    )
    log_level: str = field(default="info", metadata=_help("debug, info, warning or error"))
    max_log_per_minute: int = field(
        default=60,
        metadata=_help("records a minute of each event that anybody can cause; 0: no limit"),
    )
    engine: EngineConfig = field(default_factory=EngineConfig)
    """The engine's own limits (table ``[engine]``)."""
    limits: Limits = field(default_factory=Limits)
    """The protocol's limits (table ``[limits]``)."""

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if (
                f.name.endswith(("_s", "_messages", "_bytes", "_connections", "_uploads", "_headers"))
                and not value > 0
            ):
                raise ConfigError(f"{f.name} must be positive, got {value}")
        for name in ("resume_for_ms", "max_failed_tokens", "max_log_per_minute"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.max_headers > MAX_HEADERS:
            raise ConfigError(f"max_headers must be 1 to {MAX_HEADERS}, got {self.max_headers}")
        parse_networks(self.trusted_proxies)
        for name in ("port", "vosk_port", "wyoming_port"):
            port = getattr(self, name)
            if port is not None and not 0 <= port <= 65_535:
                raise ConfigError(f"{name} must be 0 to 65535, got {port}")
        if self.wyoming_name is not None:
            self._check_announcement(self.wyoming_name)
        if self.log_level not in ("debug", "info", "warning", "error"):
            raise ConfigError(f"log_level must be debug, info, warning or error, got {self.log_level!r}")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("tls_cert and tls_key go together: set both or neither")
        self._check_token()

    def _check_token(self) -> None:
        if self.token is not None and self.token_file is not None:
            raise ConfigError("set token or token_file, not both")
        if self.token is not None and len(self.token) < MIN_TOKEN_CHARS:
            raise ConfigError(
                f"token must have at least {MIN_TOKEN_CHARS} characters; `openssl rand -hex 24` makes one"
            )
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise ConfigError(
                "token must be one line of ASCII characters, which clients can send in a header; "
                "`openssl rand -hex 24` makes one"
            )

    def _check_announcement(self, name: str) -> None:
        if not name.isprintable() or not 0 < len(name.encode()) <= MAX_NAME_BYTES:
            raise ConfigError(
                f"wyoming_name must be 1 to {MAX_NAME_BYTES} bytes of printable text, got {name!r}"
            )
        if self.wyoming_port is None:
            raise ConfigError("wyoming_name announces the Wyoming port: set wyoming_port, too")
        if is_loopback(self.wyoming_host):
            raise ConfigError(
                f"wyoming_name announces the Wyoming port to other machines, but wyoming_host "
                f"{self.wyoming_host} is reachable from this one only: set it to 0.0.0.0 or to an address of "
                "this machine"
            )

    def with_token_read(self) -> ServerConfig:
        """Return the same settings with the content of ``token_file`` as ``token``.

        Raises:
            ConfigError: the file cannot be read, or holds no usable token; the message names it.
        """
        if self.token_file is None:
            return self
        try:
            token = read_text(self.token_file).strip()
            return dataclasses.replace(self, token=token, token_file=None)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"token_file {self.token_file}: {error}") from None
        except ConfigError as error:
            raise ConfigError(f"token_file {self.token_file}: {error.message}") from None

    def check_exposure(self, host: str) -> None:
        """Check that a daemon without a token listens on a loopback address only.

        Raises:
            ConfigError: other machines can reach ``host``, and no token is set.
        """
        if self.token is None and not is_loopback(host):
            raise ConfigError(
                f"refusing to listen on {host} without a token, because anyone who can reach it could use it; "
                "set STREAMASR_TOKEN or --token-file (`openssl rand -hex 24` makes a good token), "
                "or listen on 127.0.0.1"
            )


def is_loopback(host: str) -> bool:
    """Whether a socket bound to ``host`` can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def settings() -> dict[str, str]:
    """Return the name and help text of every setting that has a flag and a variable."""
    own = {f.name: f.metadata["help"] for f in dataclasses.fields(ServerConfig) if "help" in f.metadata}
    return own | ENGINE_SETTINGS


def default_of(name: str) -> object:
    """Return the default of the setting ``name``."""
    return getattr(EngineConfig() if name in ENGINE_SETTINGS else ServerConfig(), name)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every setting. A flag that is not given has the value ``None``."""
    for name, text in settings().items():
        default = default_of(name)
        shown = f" (default {default})" if default not in (None, ()) else ""
        parser.add_argument(
            "--" + name.replace("_", "-"), metavar=name.rpartition("_")[2].upper(), help=text + shown
        )


def load_config(
    flags: Mapping[str, str | None], environment: Mapping[str, str], file: Path | None = None
) -> ServerConfig:
    """Merge the settings of ``file``, ``environment`` and ``flags``; later sources override earlier ones.

    Args:
        flags: setting to text; ``None`` if the flag was not given.
        environment: the process's variables; variables of other programs are ignored.
        file: a TOML file; if ``None``, ``STREAMASR_CONFIG`` may name one.

    Raises:
        ConfigError: a setting is unknown or invalid; the message names the setting and its source.
    """
    if file is None and environment.get(CONFIG_VARIABLE):
        file = Path(environment[CONFIG_VARIABLE])
    values = _read_file(file) if file is not None else {}
    for name in settings():
        variable, flag = ENV_PREFIX + name.upper(), "--" + name.replace("_", "-")
        for source, text in ((variable, environment.get(variable)), (flag, flags.get(name))):
            if text:
                table = values.setdefault("engine", {}) if name in ENGINE_SETTINGS else values
                table[name] = _parse(name, text, source)
    return from_mapping(ServerConfig, values).with_token_read()


def _read_file(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(read_text(path))
        from_mapping(ServerConfig, values)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}") from None
    return values


def _parse(name: str, text: str, source: str) -> Any:
    hint = get_type_hints(EngineConfig if name in ENGINE_SETTINGS else ServerConfig)[name]
    if hint == tuple[str, ...]:
        return [part.strip() for part in text.split(",") if part.strip()]
    kinds = [kind for kind in (int, float) if kind == hint or kind in get_args(hint)]
    words = [word for kind in get_args(hint) for word in get_args(kind)]
    if not kinds or text in words:
        return text
    try:
        return kinds[0](text)
    except ValueError:
        also = f" or {words[0]}" if words else ""
        raise ConfigError(f"{source}: expected a number{also}, got {text!r}") from None
