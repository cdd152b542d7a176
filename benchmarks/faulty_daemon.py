"""Run `streamasr serve` with faults that another program asks for, one line on standard input for each.

    step              the next step of the model raises
    decode            the next call of the decoder raises
    memory NAME       the next call of NAME, one of ALLOCATIONS, raises MemoryError
    clock SECONDS     the wall clock jumps

Each fault happens once, and is logged as ``injected``. Used by benchmarks/trust.py and tests.
"""

from __future__ import annotations

import functools
import logging
import resource
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from streamasr.cli import main
from streamasr.decoding.utterance import UtteranceDecoder
from streamasr.dialects.conversation import Conversation
from streamasr.engine.session import Session
from streamasr.recognition.batch import BatchStep
from streamasr.recognition.captions import Captioner
from streamasr.service.outbox import Outbox

ALLOCATIONS: dict[str, tuple[Any, str]] = {
    "samples": (Session, "feed"),
    "step": (BatchStep, "_forward"),
    "captions": (Captioner, "end_chunk"),
    "message": (Conversation, "receive"),
    "queue": (Outbox, "put"),
}
"""Places where memory is allocated: class and method."""
OPEN_FILES = 160
"""File descriptors that the daemon may have."""

logger = logging.getLogger("trust")


class Faults:
    """The faults that are waiting to happen."""

    def __init__(self) -> None:
        self._armed: set[str] = set()
        self._lock = threading.Lock()
        self._clock = time.time
        self._jump_s = 0.0

    def install(self) -> None:
        """Put the faults into the daemon's classes."""
        self._wrap(BatchStep, "run", "step", RuntimeError("injected: a step failed"))
        self._wrap(UtteranceDecoder, "step_all", "decode", RuntimeError("injected: decoding failed"))
        for name, (cls, method) in ALLOCATIONS.items():
            self._wrap(cls, method, f"memory {name}", MemoryError(f"injected: no memory for {name}"))
        time.time = lambda: self._clock() + self._jump_s

    def obey(self) -> None:
        """Read faults from standard input until it is closed."""
        for line in sys.stdin:
            if line.startswith("clock "):
                self._jump_s += float(line.split()[1])
                logger.warning("injected: the clock jumped")
            with self._lock:
                self._armed.add(line.strip())

    def _wrap(self, cls: Any, method: str, name: str, error: Exception) -> None:
        original: Callable[..., Any] = getattr(cls, method)

        @functools.wraps(original)
        def faulty(*args: Any, **kwargs: Any) -> Any:
            if self._armed:
                with self._lock:
                    armed = name in self._armed
                    self._armed.discard(name)
                if armed:
                    sessions = len(args[1]) if method in ("run", "step_all") else 1
                    logger.warning("injected: %s, %d sessions", name, sessions)
                    raise type(error)(*error.args)
            return original(*args, **kwargs)

        setattr(cls, method, faulty)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    faults = Faults()
    faults.install()
    threading.Thread(target=faults.obey, daemon=True).start()
    sys.exit(main(["serve", *sys.argv[1:]]))
