"""Check that this machine can run the daemon and record: ``streamasr doctor``."""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.error import URLError
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

from streamasr import __version__
from streamasr.errors import ConfigError, StreamasrError
from streamasr.service.addresses import from_here, with_port
from streamasr.service.config import ServerConfig, add_flags, load_config, settings
from streamasr.service.listeners import bind
from streamasr.service.tls import Certificate
from streamasr.service.units import SOCKET

EXAMPLE = """streamasr doctor
streamasr doctor --model my-model --port 9000"""

_GB = 1e9

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. A ``problem`` keeps the daemon from running."""

    state: State
    subject: str
    text: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments: the settings of ``serve``."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file of settings, as for serve")
    add_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Print the findings; return 1 if one of them is a problem."""
    status = 0
    for finding in find(args):
        print(f"{finding.state:<8} {finding.subject}: {finding.text}", flush=True)
        if finding.state == "problem":
            status = 1
    return status


def find(args: argparse.Namespace) -> Iterator[Finding]:
    """Yield the findings of all checks, in the order in which they are printed."""
    yield _program()
    try:
        config = load_config({name: getattr(args, name) for name in settings()}, os.environ, args.config)
        config.with_token_read().check_exposure(config.host)
    except StreamasrError as error:
        yield Finding("problem", "settings", error.message)
        return
    yield Finding("ok", "settings", "valid")
    yield check_port(config)
    for name, host, port in (
        ("vosk_port", config.host, config.vosk_port),
        ("wyoming_port", config.wyoming_host, config.wyoming_port),
    ):
        if port is not None:
            yield check_port(dataclasses.replace(config, host=host, port=port), name)
    if config.tls_cert is not None and config.tls_key is not None:
        yield check_certificate(config.tls_cert, config.tls_key, time.time())
    yield check_uploads(config)
    yield from check_model(config)
    yield check_microphone()
    yield check_ffmpeg()


def _program() -> Finding:
    text = f"streamasr {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    return Finding("ok", "program", f"{text}, {os.cpu_count()} processor cores")


def check_port(config: ServerConfig, setting: str = "port") -> Finding:
    """Find out whether the daemon's port is free, or who has it."""
    where = f"{config.host} port {config.port}"
    if config.port == 0:
        return Finding("ok", setting, "a free one is chosen")
    try:
        with bind(config.host, config.port, setting):
            return Finding("ok", setting, f"{where} is free")
    except ConfigError as error:
        problem = error.message.partition("; ")[0]
    if _systemd_listens(config.port):
        return Finding("ok", setting, f"systemd's {SOCKET} has {where}, and passes it to the daemon")
    if _is_streamasr(config):
        return Finding("ok", setting, f"a streamasr daemon is running on {where}")
    flag = "--" + setting.replace("_", "-")
    return Finding("problem", setting, f"{problem}; choose another one with {flag}")


def _is_streamasr(config: ServerConfig) -> bool:
    """Whether the port is a daemon's. Its certificate is not checked: it may be that of another name."""
    scheme = "https" if config.tls_cert else "http"
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    opener = build_opener(ProxyHandler({}), HTTPSHandler(context=context))
    try:
        address = with_port(from_here(config.host), config.port)
        with opener.open(f"{scheme}://{address}/health", timeout=3) as answer:
            return bool(answer.headers.get("Server") == "streamasr")
    except (URLError, OSError, ValueError):
        return False


def _systemd_listens(port: int) -> bool:
    """Whether a socket unit of the machine or of this user has the port, for the daemon."""
    if shutil.which("systemctl") is None:
        return False
    for flags in ([], ["--user"]):
        show = ["systemctl", *flags, "show", "--property=ActiveState,Listen", SOCKET]
        found = subprocess.run(show, capture_output=True, text=True, check=False).stdout
        if "ActiveState=active" in found and re.search(rf":{port}\b", found):
            return True
    return False


def check_certificate(cert: Path, key: Path, now_s: float) -> Finding:
    """Find out whether the daemon can use its certificate at ``now_s``, in seconds since 1970."""
    try:
        certificate = Certificate(cert, key)
    except ConfigError as error:
        return Finding("problem", "certificate", error.message)
    valid = f"valid until {certificate.valid_until}"
    if certificate.validity is not None and now_s >= certificate.validity.end_s:
        return Finding("problem", "certificate", f"{cert} was {valid}; renew it")
    if certificate.needs_renewal(now_s):
        return Finding("warning", "certificate", f"{cert} is {valid} only; renew it")
    return Finding("ok", "certificate", f"{cert} and its key can be used; {valid}")


def check_uploads(config: ServerConfig) -> Finding:
    """Find out whether there is room for as many and as large uploads as the daemon accepts."""
    needed = config.max_uploads * config.max_upload_bytes
    try:
        folder = tempfile.gettempdir()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        text = f"no folder for temporary files ({error.strerror}): uploads will fail; set TMPDIR"
        return Finding("warning", "uploads", text)
    text = f"{folder} has {free / _GB:.1f} GB free; all uploads together take up to {needed / _GB:.1f} GB"
    if free >= needed:
        return Finding("ok", "uploads", text)
    remedy = "point TMPDIR to a larger disk, or lower max_uploads or max_upload_bytes"
    return Finding("warning", "uploads", f"{text}; {remedy}")


def check_model(config: ServerConfig) -> Iterator[Finding]:
    """Load the model, and measure how many live streams this machine can carry."""
    try:
        from streamasr.engine.precision import resolve_precision
        from streamasr.engine.step_cost import measured_headroom
        from streamasr.recognition.model import load_model

        begin = time.perf_counter()
        precision = resolve_precision(config.precision, config.model, config.device, config.backend)
        model = load_model(config.model, config.device, config.backend, config.engine.threads, precision)
        took = time.perf_counter() - begin
    except StreamasrError as error:
        yield Finding("problem", "model", error.message)
        return
    except ImportError as error:
        yield Finding("problem", "model", f"a package is missing: {error}; install streamasr again")
        return
    runtime, weights, *_ = model.encoder.arithmetic
    name = f"{model.config.name} ({runtime}, {weights}, {model.device})"
    yield Finding("ok", "model", f"{name} loaded in {took:.1f} s")
    headroom = measured_headroom(model, config.engine)
    text = (
        f"{headroom.cpu_per_audio_s:.3f} s of computing for a second of audio, "
        f"enough for {_counted(headroom.capacity())} at once"
    )
    if not headroom.keeps_up:
        remedy = (
            "captions will be late; close other programs, or choose a smaller model or a higher latency_ms"
        )
        yield Finding("warning", "speed", f"{text}; {remedy}")
    else:
        yield Finding("ok", "speed", text)


def _counted(streams: int) -> str:
    return "about one live stream" if streams == 1 else f"about {streams} live streams"


def check_microphone() -> Finding:
    """Find out whether ``streamasr listen`` can record here."""
    from streamasr_client.devices import choose_device, list_devices, load_portaudio
    from streamasr_client.errors import MicrophoneError

    try:
        device = choose_device(list_devices(load_portaudio()), None)
    except MicrophoneError as error:
        return Finding("warning", "microphone", error.message)
    return Finding("ok", "microphone", f"{device.name} ({device.sample_rate} Hz)")


def check_ffmpeg() -> Finding:
    """Find out whether formats that libsndfile lacks can be read."""
    if shutil.which("ffmpeg"):
        return Finding("ok", "ffmpeg", "installed; video, AAC and URLs can be read")
    text = "not installed; needed only for video, AAC and URLs"
    return Finding(
        "warning", "ffmpeg", text + ("; sudo apt install ffmpeg" if sys.platform == "linux" else "")
    )
