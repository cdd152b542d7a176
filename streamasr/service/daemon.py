"""The process around the server: load, announce, watch the engine, and end well on a signal.

Knows signals, systemd and standard output; no message and no model.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping

from streamasr.service.config import ServerConfig
from streamasr.service.interfaces import EngineInterface
from streamasr.service.logs import log_event
from streamasr.service.sdnotify import Notifier, passed_socket
from streamasr.service.server import CaptionServer, open_listener

_WATCHDOG_SHARE = 3
"""Pings in one watchdog interval."""
_STATUS_INTERVAL_S = 10.0


async def run_daemon(
    config: ServerConfig,
    load_engine: Callable[[], EngineInterface],
    announce: Callable[[CaptionServer], None],
    environment: Mapping[str, str] = os.environ,
) -> int:
    """Serve until SIGTERM or SIGINT; a second signal ends it at once.

    Args:
        load_engine: takes seconds; run on a thread.
        announce: called once, when sessions are taken.

    Returns:
        The exit status: 0, or 1 where sessions had to be cut off.
    """
    notifier = Notifier(environment)
    # Before the model is loaded, which takes seconds: a port that is taken should be told at once.
    with open_listener(config, passed_socket(environment, os.getpid())) as listener:
        notifier.send(STATUS="loading the model")
        engine = await asyncio.to_thread(load_engine)
        try:
            return await _serve(config, engine, listener, announce, notifier)
        finally:
            await asyncio.to_thread(engine.close)


async def _serve(
    config: ServerConfig,
    engine: EngineInterface,
    listener: socket.socket,
    announce: Callable[[CaptionServer], None],
    notifier: Notifier,
) -> int:
    server = CaptionServer(config, engine)
    await server.start(listener)
    stop = _stop_on_signals()
    announce(server)
    notifier.send(READY=1, STATUS="taking sessions")
    log_event("ready", url=server.stream_url)
    watch = asyncio.create_task(_watch(notifier, engine))
    try:
        await stop.wait()
        notifier.send(STOPPING=1, STATUS="finishing sessions")
        finished = await _drain(server, stop)
        await server.close()
    finally:
        watch.cancel()
    log_event("stopped", finished=finished)
    return 0 if finished else 1


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def _drain(server: CaptionServer, stop: asyncio.Event) -> bool:
    """Drain, unless a second signal says that nobody wants to wait."""
    stop.clear()
    draining, again = asyncio.create_task(server.drain()), asyncio.create_task(stop.wait())
    await asyncio.wait((draining, again), return_when=asyncio.FIRST_COMPLETED)
    finished = draining.done() and draining.result()
    for task in (draining, again):
        task.cancel()
    return finished


async def _watch(notifier: Notifier, engine: EngineInterface) -> None:
    """Pet the watchdog while the engine's worker turns; a stuck one is left to systemd to restart."""
    limit_s = notifier.watchdog_s
    interval_s = _STATUS_INTERVAL_S if limit_s is None else min(_STATUS_INTERVAL_S, limit_s / _WATCHDOG_SHARE)
    while True:
        if limit_s is not None:
            silent_s = time.monotonic() - engine.heartbeat
            if engine.alive and silent_s < limit_s:
                notifier.send(WATCHDOG=1)
            else:
                log_event("engine_stalled", level=logging.ERROR, silent_s=round(silent_s, 1))
        notifier.send(STATUS=f"{engine.stats().sessions} sessions")
        await asyncio.sleep(interval_s)
