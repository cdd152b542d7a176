"""Transcribe audio files in this process, without a daemon, with the time of every utterance.

python examples/in_process.py interview.flac talk.wav
"""

from __future__ import annotations

import argparse
from pathlib import Path

from streamasr import load_model, options, transcribe


def main() -> None:
    parser = argparse.ArgumentParser(description="Transcribe audio files in this process.")
    parser.add_argument("files", type=Path, nargs="+", help="audio files")
    parser.add_argument("--model", default="en-small", help="packaged model or model folder")
    args = parser.parse_args()
    model = load_model(args.model)
    for path in args.files:
        transcript = transcribe(model, path, start=options(written=True))
        print(f"{path.name}:")
        for utterance in transcript.utterances:
            print(f"{utterance.start_ms / 1_000:6.1f} s  {utterance.text}")


if __name__ == "__main__":
    main()
