"""Run the server as a process: load the engine, report readiness, feed the watchdog, and drain on a signal.

If the engine ends by itself, so does the process, so that a service manager can start another one.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Any, TypeVar

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
_SILENT_CHECKS = 5
"""This many checks in a row must find the engine silent: if the whole process was stopped, it needs a moment."""
_ENGINE_STOP_S = 5.0
"""Longest wait for the engine's last step at the end; a step that hangs would keep the process for ever."""
_ACCEPT_LOG_S = 10.0
"""Shortest time between two records that connections cannot be accepted."""
_T = TypeVar("_T")

EXIT_CUT_OFF = 1
"""Exit status when sessions had to be cut off."""
EXIT_ENGINE_LOST = 3
"""Exit status when the engine ended by itself, for example because every step failed, or hangs."""


async def run_daemon(
    config: ServerConfig,
    load_engine: Callable[[], EngineInterface],
    announce: Callable[[CaptionServer], None],
    environment: Mapping[str, str] = os.environ,
) -> int:
    """Serve until SIGTERM or SIGINT, then finish the open sessions. A second signal stops at once.

    A signal that comes while the engine is loaded ends the daemon at once. The loading goes on, on a thread that ends
    with the process.

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
        stop = _stop_on_signals()
        reloads = config.tls_cert is not None or notifier.active
        if reloads:
            # Otherwise the signal ends the process, as it should when a terminal is closed.
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _nothing_to_reload)
        notifier.send(STATUS="loading the model")
        engine = await _unless_stopped(_on_thread(load_engine), stop)
        if engine is None:
            log_event("stopped", finished=True)
            return 0
        try:
            asyncio.get_running_loop().set_exception_handler(_LoopErrors())
            server = CaptionServer(config, engine)
            await server.start(listener, further, shared=passed is not None)
            if reloads:
                asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, server.reload_certificate)
            async with _announced(config.wyoming_name, further.get(WYOMING)):
                return await _serve(config, engine, server, stop, announce=announce, notifier=notifier)
        finally:
            await _close_engine(engine)


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
    stop: asyncio.Event,
    *,
    announce: Callable[[CaptionServer], None],
    notifier: Notifier,
) -> int:
    announce(server)
    notifier.send(READY=1, STATUS="accepting sessions")
    log_event("ready", url=server.stream_url)
    watchdog = asyncio.create_task(_feed_watchdog(notifier, engine))
    try:
        if not await _stopped_before_the_engine(stop, engine, config.lost_s):
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


async def _stopped_before_the_engine(stop: asyncio.Event, engine: EngineInterface, lost_s: float) -> bool:
    """Wait for the signal to stop, or until the engine has ended or hangs: then return false."""
    silent_checks = 0
    while engine.alive and silent_checks < _SILENT_CHECKS:
        silent = time.monotonic() - engine.last_heartbeat >= lost_s
        silent_checks = silent_checks + 1 if silent else 0
        with suppress(TimeoutError):
            async with asyncio.timeout(_ENGINE_CHECK_S):
                await stop.wait()
                return True
    return False


async def _close_engine(engine: EngineInterface) -> None:
    """Stop the engine, but do not wait for a step that hangs."""
    closing = _on_thread(engine.close)
    await asyncio.wait([closing], timeout=_ENGINE_STOP_S)
    if closing.done():
        closing.result()
    else:
        log_event("engine_hangs", level=logging.ERROR)


def _on_thread(function: Callable[[], _T]) -> asyncio.Future[_T]:
    """Call a function on a thread that the process does not wait for when it ends."""
    result: concurrent.futures.Future[_T] = concurrent.futures.Future()

    def run() -> None:
        result.set_running_or_notify_cancel()
        try:
            result.set_result(function())
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return asyncio.wrap_future(result)


async def _unless_stopped(working: asyncio.Future[_T], stop: asyncio.Event) -> _T | None:
    """Return the result of ``working``; ``None`` if the signal to stop comes first."""
    stopping = asyncio.create_task(stop.wait())
    either: list[asyncio.Future[Any]] = [working, stopping]
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    return working.result() if working.done() else None


class _LoopErrors:
    """Logs the errors that no task has; without a traceback if there is no file descriptor for a new connection.

    The loop then accepts no connection for a second and tries again; open connections go on. It reports that for each
    connection that might be waiting, a hundred times a second: that would fill the log.
    """

    def __init__(self) -> None:
        self._silent_until = 0.0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, OSError) or "accept" not in str(context.get("message")):
            loop.default_exception_handler(context)
        elif loop.time() >= self._silent_until:
            self._silent_until = loop.time() + _ACCEPT_LOG_S
            log_event("accept_failed", level=logging.WARNING, reason=error.strerror)


def _nothing_to_reload() -> None:
    """Ignore SIGHUP: the certificate has not been loaded yet."""


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
