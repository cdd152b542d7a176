"""Run the captions daemon: ``streamasr serve``."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import threading
import webbrowser
from pathlib import Path

from streamasr.service.config import ServerConfig, add_flags, load_config, settings
from streamasr.service.daemon import run_daemon
from streamasr.service.interfaces import EngineInterface
from streamasr.service.logs import configure_logging
from streamasr.service.server import CaptionServer

EXAMPLE = """streamasr serve
streamasr serve --port 0 --device cpu
streamasr serve --host 0.0.0.0 --token-file token.txt --tls-cert cert.pem --tls-key key.pem"""
SWITCH_INTERVAL_S = 0.0005
"""How long a thread keeps the interpreter while another one waits for it. The engine's thread gives it up in every
operation of NumPy, and with Python's own 5 ms would wait that long for the thread of the connections."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments: one for each setting, the configuration file and the browser."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="TOML file of settings; STREAMASR_… variables and flags override it",
    )
    parser.add_argument(
        "--open-browser",
        action="store_true",
        help="open the captions page in a browser when the daemon is ready",
    )
    add_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal arrives; return the exit status."""
    config = load_config({name: getattr(args, name) for name in settings()}, os.environ, args.config)
    config.check_exposure(config.host)
    configure_logging(config.log_level)
    sys.setswitchinterval(SWITCH_INTERVAL_S)

    def announce(server: CaptionServer) -> None:
        print(f"ready {server.stream_url}", flush=True)
        for dialect, url in server.dialect_urls.items():
            print(f"ready {dialect} {url}", flush=True)
        print(f"captions page: {server.page_url}", file=sys.stderr, flush=True)
        if args.open_browser:
            # A browser may start slowly, and some block until they are closed.
            threading.Thread(target=webbrowser.open, args=(server.browser_url(),), daemon=True).start()

    return asyncio.run(run_daemon(config, lambda: _load_engine(config), announce))


def _load_engine(config: ServerConfig) -> EngineInterface:
    # Imported here, so that errors of the configuration are reported without loading torch.
    from streamasr.engine import Engine
    from streamasr.engine.precision import resolve_precision
    from streamasr.recognition import load_model

    precision = resolve_precision(config.precision, config.model, config.device, config.backend)
    model = load_model(config.model, config.device, config.backend, config.engine.threads, precision)
    return Engine(model, config.engine)
