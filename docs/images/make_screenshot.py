"""Take the picture of the captions page that README.md shows.

The script starts the daemon and a headless Chromium whose microphone plays clips of tests/data, presses Start, and
takes the picture while the last clip is being recognised. Nothing in the picture is staged but the clips.

    python -m docs.images.make_screenshot
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from websockets.asyncio.client import connect

from docs.images.stage import daemon, write_speech
from tests.browser.devtools import Browser, Page

CLIPS = (
    "librispeech/481-123719-0000.flac",
    "librispeech/5789-70653-0013.flac",
    "librispeech/2136-5147-0011.flac",
    "l2/029170055.flac",
)
"""Spoken one after the other; the picture is taken during the last one."""
SIZE = (1120, 700)
"""Width and height of the page in pixels."""
MAX_BYTES = 200_000
FINALS = "document.querySelectorAll('[data-finals] p').length"
CURRENT = "document.querySelector('[data-current]').textContent.trim().split(' ').length"
TAIL = "document.querySelector('.tail').textContent.trim()"


def main() -> int:
    """Write the picture; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("captions-page.png"))
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
    args = parser.parse_args()
    if args.chromium is None:
        parser.error("no Chromium found; on Debian: sudo apt install chromium, or name it with --chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, daemon("--port", "0") as url:
        speech = Path(folder, "speech.wav")
        write_speech(speech, CLIPS)
        browser = Browser(args.chromium, Path(folder, "profile"), speech)
        try:
            asyncio.run(take_picture(browser, page_of(url), args.out))
        finally:
            browser.close()
    size = args.out.stat().st_size
    print(f"{args.out}: {size} bytes")
    return 0 if size <= MAX_BYTES else 1


def page_of(stream_url: str) -> str:
    """The captions page of the daemon with that stream."""
    return stream_url.replace("ws://", "http://").replace("/v1/stream", "/")


async def take_picture(browser: Browser, url: str, out: Path) -> None:
    """Press Start and wait for a moment with finished, committed and volatile words."""
    async with connect(browser.url, max_size=None, proxy=None) as socket:
        page = await Page.open(socket)
        await page.resize(*SIZE)
        await page.goto(url)
        await page.press(" ")
        await page.wait_for(f"{FINALS} >= {len(CLIPS)} && {CURRENT} >= 6 && {TAIL} !== ''")
        await page.screenshot(out)
        await page.close()


if __name__ == "__main__":
    sys.exit(main())
