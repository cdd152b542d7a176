"""Run the programs of examples/ with en-small: against a daemon, in a browser, and in this process."""

from __future__ import annotations

import functools
import http.server
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import soundfile
from websockets.asyncio.client import connect

from streamasr.scoring import word_edits
from tests.browser.conftest import browser_on, chromium, open_page
from tests.browser.devtools import Browser, OpenPage
from tests.integration.conftest import Daemon, run_daemon

__all__ = ["browser_on", "chromium", "open_page"]

EXAMPLES = Path(__file__).parents[2] / "examples"
CLIP = Path(__file__).parents[1] / "data" / "librispeech" / "481-123719-0000.flac"
TRANSCRIPT = "it was followed by remorse i tried to drive it away i felt too sick"
MAX_WORD_ERRORS = 2

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("en_small")]


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """A web server of the folder examples/."""
    handler = functools.partial(QuietHandler, directory=str(EXAMPLES))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def daemon(origin: str, en_small: Path) -> Iterator[Daemon]:
    """A daemon with the default model that allows pages of ``origin``."""
    with run_daemon("--model", str(en_small), "--allowed-origins", origin) as running:
        yield running


def plain(text: str) -> str:
    """The words of written text, in lower case."""
    return "".join(c for c in text.lower() if c.isalpha() or c.isspace() or c == "'")


def assert_transcript(text: str) -> None:
    assert word_edits(TRANSCRIPT, plain(text)).errors <= MAX_WORD_ERRORS, text


def test_python_client(daemon: Daemon) -> None:
    command = [sys.executable, str(EXAMPLES / "python_client.py"), str(CLIP), "--url", daemon.url]
    ran = subprocess.run(command, capture_output=True, timeout=120, check=True)
    shown = ran.stdout.decode().split("\r\033[K")
    finals = [text.partition(" s  ")[2].strip() for text in shown if text.endswith("\n")]
    assert_transcript(" ".join(finals))
    partials = [text for text in shown if not text.endswith("\n") and text.strip()]
    assert len(partials) > 3


async def test_browser_page(
    daemon: Daemon,
    origin: str,
    browser_on: Callable[[Path], Browser],
    open_page: OpenPage,
    tmp_path: Path,
) -> None:
    samples, rate = soundfile.read(CLIP)
    quiet = np.zeros(rate)
    soundfile.write(tmp_path / "speech.wav", np.concatenate([quiet, samples, quiet, quiet]), rate)
    browser = browser_on(tmp_path / "speech.wav")
    async with connect(browser.url, max_size=None, proxy=None) as socket:
        page = await open_page(socket)
        await page.goto(f"{origin}/browser.html?daemon={quote(daemon.url, safe='')}")
        await page.evaluate("document.getElementById('start').click()")
        await page.wait_for("document.getElementById('tail').textContent !== ''")
        await page.wait_for("document.querySelectorAll('#finals p').length >= 1")
        await page.evaluate("document.getElementById('stop').click()")
        await page.wait_for("document.getElementById('status').textContent === 'Stopped'")
        shown = await page.evaluate(
            "[...document.querySelectorAll('#finals p')].map((p) => p.textContent).join(' ')"
        )
        await page.close()
    assert page.problems == []
    assert_transcript(shown)


def test_the_in_process_example_prints_the_text_of_every_file() -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "in_process.py"), str(CLIP)],
        capture_output=True,
        text=True,
        check=True,
    )
    name, *lines = done.stdout.splitlines()
    assert name == f"{CLIP.name}:"
    recognised = " ".join(plain(line.partition(" s  ")[2]) for line in lines)
    assert word_edits(TRANSCRIPT, recognised).errors <= MAX_WORD_ERRORS
