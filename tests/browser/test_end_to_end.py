"""Test the whole system: a daemon with the packaged model, and a browser whose microphone plays speech."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from websockets.asyncio.client import connect

from streamasr.recognition.model import packaged_models
from streamasr.scoring import word_edits
from streamasr.text import normalise_english
from tests.browser.devtools import Browser, OpenPage

CLIPS = Path(__file__).parents[1] / "data" / "librispeech"
WEIGHTS = packaged_models().get("en-small", Path("en-small")) / "model.safetensors"
MAX_WORD_ERRORS = 0.34

pytestmark = pytest.mark.skipif(not WEIGHTS.is_file(), reason="the model en-small has no weights here")


@pytest.fixture(scope="module")
def page_url() -> Iterator[str]:
    """The captions page of a daemon that runs en-small."""
    command = [sys.executable, "-m", "streamasr.cli", "serve", "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        first = daemon.stdout.readline()
        assert first.startswith("ready ws://127.0.0.1:"), first
        yield first.split()[1].replace("ws://", "http://").replace("/v1/stream", "/")
        daemon.terminate()


async def test_speech_appears_on_the_page(
    page_url: str, browser_on: Callable[[Path], Browser], open_page: OpenPage, tmp_path: Path
) -> None:
    clip = json.loads((CLIPS / "manifest.jsonl").read_text().splitlines()[0])
    samples, rate = soundfile.read(CLIPS / clip["audio_filepath"])
    quiet = np.zeros(rate)
    soundfile.write(tmp_path / "speech.wav", np.concatenate([quiet, samples, quiet, quiet]), rate)
    browser = browser_on(tmp_path / "speech.wav")
    async with connect(browser.url, max_size=None, proxy=None) as socket:
        page = await open_page(socket)
        await page.goto(page_url)
        await page.press(" ")
        seconds = len(samples) // rate + 2
        await page.wait_for(f"document.getElementById('clock').textContent >= '0:{seconds:02d}'")
        await page.press(" ")
        await page.wait_for("document.getElementById('status-text').textContent === 'Stopped'")
        shown = await page.evaluate(
            "[...document.querySelectorAll('[data-finals] p')].map((p) => p.textContent).join(' ')"
        )
        await page.screenshot(tmp_path / "page.png")
        await page.close()
    assert page.problems == []
    edits = word_edits(clip["text"], normalise_english(shown))
    assert edits.errors <= MAX_WORD_ERRORS * len(clip["text"].split()), (
        f"expected: {clip['text']}\nshown: {shown}"
    )
