"""Run the server as a process: load the engine, report readiness, feed the watchdog, and drain on a signal.

If the engine ends by itself, so does the process, so that a service manager can start another one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Any

from streamasr.service.config import ServerConfig
from streamasr.service.discovery import Announcement, check_available
from streamasr.service.interfaces import EngineInterface
from streamasr.service.listeners import WYOMING, open_dialect_listeners, open_listener
from streamasr.service.logs import log_event
from streamasr.service.sdnotify import Notifier, passed_socket
from streamasr.service.server import CaptionServer

_PINGS_PER_WATCHDOG_INTERVAL = 3
_STATUS_INTERVAL_S = 10.0
_ENGINE_CHECK_S = 1.0

EXIT_CUT_OFF = 1
"""Exit status when sessions had to be cut off."""
EXIT_ENGINE_LOST = 3
"""Exit status when the engine ended by itself, for example because every step failed."""


async def run_daemon(
    config: ServerConfig,
    load_engine: Callable[[], EngineInterface],
    announce: Callable[[CaptionServer], None],
    environment: Mapping[str, str] = os.environ,
) -> int:
    """Serve until SIGTERM or SIGINT, then finish the open sessions. A second signal stops at once.

    Args:
        config: the daemon's settings.
        load_engine: makes the engine; it takes seconds, so it runs on a thread.
        announce: called once, when the server accepts sessions.
        environment: the process's variables, with those of systemd.

    Returns:
        The exit status: 0, :data:`EXIT_CUT_OFF` or :data:`EXIT_ENGINE_LOST`.

    Raises:
        ConfigError: the address or the certificate cannot be used, or a package is missing.
    """
    notifier = Notifier(environment)
    if config.wyoming_name is not None:
        check_available()
    # Bind before loading the model, which takes seconds, so that a port in use is reported at once.
    with ExitStack() as sockets:
        passed = passed_socket(environment, os.getpid())
        listener = sockets.enter_context(open_listener(config, passed))
        further = open_dialect_listeners(config)
        for opened in further.values():
            sockets.enter_context(opened)
        notifier.send(STATUS="loading the model")
        engine = await asyncio.to_thread(load_engine)
        try:
            asyncio.get_running_loop().set_exception_handler(_log_loop_error)
            server = CaptionServer(config, engine)
            await server.start(listener, further, shared=passed is not None)
            async with _announced(config.wyoming_name, further.get(WYOMING)):
                return await _serve(config, engine, server, announce=announce, notifier=notifier)
        finally:
            await asyncio.to_thread(engine.close)


@asynccontextmanager
async def _announced(name: str | None, listener: socket.socket | None) -> AsyncIterator[None]:
    """Announce the Wyoming port under ``name``, if it is to be."""
    if name is None or listener is None:
        yield
        return
    announcement = Announcement(name, listener)
    announcement.start()
    try:
        yield
    finally:
        await announcement.close()


async def _serve(
    config: ServerConfig,
    engine: EngineInterface,
    server: CaptionServer,
    *,
    announce: Callable[[CaptionServer], None],
    notifier: Notifier,
) -> int:
    stop = _stop_on_signals()
    if config.tls_cert is not None or notifier.active:
        # Otherwise the signal ends the process, as it should when a terminal is closed.
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, server.reload_certificate)
    announce(server)
    notifier.send(READY=1, STATUS="accepting sessions")
    log_event("ready", url=server.stream_url)
    watchdog = asyncio.create_task(_feed_watchdog(notifier, engine))
    try:
        if not await _stopped_before_the_engine(stop, engine):
            notifier.send(STOPPING=1, STATUS="the engine has ended")
            log_event("engine_lost", level=logging.CRITICAL)
            await server.close()
            return EXIT_ENGINE_LOST
        notifier.send(STOPPING=1, STATUS="finishing sessions")
        finished = await _drain(server, stop)
        await server.close()
    finally:
        watchdog.cancel()
    log_event("stopped", finished=finished)
    return 0 if finished else EXIT_CUT_OFF


async def _stopped_before_the_engine(stop: asyncio.Event, engine: EngineInterface) -> bool:
    """Wait for the signal to stop, or until the engine has ended: then return false."""
    while engine.alive:
        with suppress(TimeoutError):
            async with asyncio.timeout(_ENGINE_CHECK_S):
                await stop.wait()
                return True
    return False


def _log_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error that no task has; without a traceback if there is no file descriptor for a new connection.

    The loop then accepts no connection for a second and tries again; open connections go on.
    """
    error = context.get("exception")
    if isinstance(error, OSError) and "accept" in str(context.get("message")):
        log_event("accept_failed", level=logging.WARNING, reason=error.strerror)
    else:
        loop.default_exception_handler(context)


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def _drain(server: CaptionServer, stop: asyncio.Event) -> bool:
    """Drain the server, until a second signal asks to stop at once; true if all sessions finished."""
    stop.clear()
    draining, second_signal = asyncio.create_task(server.drain()), asyncio.create_task(stop.wait())
    await asyncio.wait((draining, second_signal), return_when=asyncio.FIRST_COMPLETED)
    finished = draining.done() and draining.result()
    for task in (draining, second_signal):
        task.cancel()
    return finished


async def _feed_watchdog(notifier: Notifier, engine: EngineInterface) -> None:
    """Ping the watchdog while the engine's heartbeat is recent; otherwise systemd restarts the daemon."""
    limit_s = notifier.watchdog_s
    interval_s = _STATUS_INTERVAL_S
    if limit_s is not None:
        interval_s = min(interval_s, limit_s / _PINGS_PER_WATCHDOG_INTERVAL)
    while True:
        if limit_s is not None:
            silent_s = time.monotonic() - engine.last_heartbeat
            if engine.alive and silent_s < limit_s:
                notifier.send(WATCHDOG=1)
            else:
                log_event("engine_stalled", level=logging.ERROR, silent_s=round(silent_s, 1))
        notifier.send(STATUS=f"{engine.stats().sessions} sessions")
        await asyncio.sleep(interval_s)
