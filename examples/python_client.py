"""Show live captions of an audio file, or of the microphone, from a running daemon.

    streamasr serve                                      # in another terminal
    python examples/python_client.py interview.flac      # plays the file at its own speed
    python examples/python_client.py                     # the microphone

A final replaces the partials of its utterance. The client reconnects, and keeps the audio of the last seconds while
the daemon is away.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from streamasr.protocol.messages import Final, Partial, Start
from streamasr_client.audio import AudioSource, PacedFile
from streamasr_client.live import LiveStream
from streamasr_client.microphone import Microphone

CLEAR_LINE = "\r\033[K"


async def show_captions(url: str, source: AudioSource) -> None:
    stream = LiveStream(url, Start(latency_ms=640, format="written"), source)
    async for event in stream.events():
        if isinstance(event, Partial):
            print(CLEAR_LINE + f"{event.committed} {event.tail}".strip(), end="", flush=True)
        elif isinstance(event, Final):
            print(f"{CLEAR_LINE}{event.start_ms / 1_000:6.1f} s  {event.text}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Live captions from a streamasr daemon.")
    parser.add_argument("file", type=Path, nargs="?", help="audio file; the microphone without it")
    parser.add_argument("--url", default="ws://127.0.0.1:8765/v1/stream", help="address of the daemon")
    args = parser.parse_args()
    source = PacedFile(args.file) if args.file else Microphone()
    try:
        asyncio.run(show_captions(args.url, source))
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    main()
