"""Measure error rates and CPU time of Moonshine or Whisper on a manifest, scored as `streamasr evaluate` does.

    python benchmarks/recogniser_peers.py moonshine-live --manifest dev/manifest.jsonl --limit 40
    python benchmarks/recogniser_peers.py whisper --whisper whisper-tiny.en --manifest dev/manifest.jsonl

``moonshine-live`` gets blocks of audio and updates its text twice a second, as for captions. ``moonshine`` and
``whisper`` get whole recordings. Moonshine's tiny English model comes with the package moonshine-voice; --whisper is
a folder with a Whisper model for CTranslate2, which runs in int8. CPU time is that of all threads of the process.
Prints a table, then one JSON line last.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pocketsphinx_peer import BLOCK_MS, SAMPLE_RATE, measure, print_report

from streamasr.errors import StreamasrError
from streamasr.frontend.pcm import Samples
from streamasr.manifest import Utterance, read_manifest
from streamasr.media.reader import read_audio
from streamasr.units import ms_to_samples

Recognise = Callable[[Samples], str]


def moonshine_live() -> Recognise:
    """Load Moonshine; its streams update their text every half second."""
    transcriber = _moonshine()
    block = ms_to_samples(BLOCK_MS, SAMPLE_RATE)

    def recognise(samples_S: Samples) -> str:
        stream = transcriber.create_stream(update_interval=0.5)
        stream.start()
        for start in range(0, len(samples_S), block):
            stream.add_audio(samples_S[start : start + block].tolist(), SAMPLE_RATE)
        text = _text(stream.stop())
        stream.close()
        return text

    return recognise


def moonshine() -> Recognise:
    """Load Moonshine."""
    transcriber = _moonshine()
    return lambda samples_S: _text(
        transcriber.transcribe_without_streaming(samples_S.tolist(), sample_rate=SAMPLE_RATE)
    )


def whisper(folder: Path) -> Recognise:
    """Load a Whisper model, with one thread and faster-whisper's other defaults."""
    from faster_whisper import WhisperModel

    model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)

    def recognise(samples_S: Samples) -> str:
        segments, _ = model.transcribe(samples_S, language="en", condition_on_previous_text=False)
        return " ".join(segment.text.strip() for segment in segments)

    return recognise


def _moonshine() -> Any:
    from moonshine_voice import ModelArch, Transcriber, get_model_path

    return Transcriber(str(get_model_path("tiny-en")), ModelArch.TINY)


def _text(transcript: Any) -> str:
    return " ".join(line.text.strip() for line in transcript.lines)


def answers(recognise: Recognise, utterances: Sequence[Utterance]) -> Iterator[tuple[str, float, float]]:
    """Yield the text of each utterance, its seconds of audio, and the CPU seconds of recognition."""
    for utterance in utterances:
        samples_S = read_audio(utterance.audio, SAMPLE_RATE)
        began = time.process_time()
        text = recognise(samples_S)
        yield text, len(samples_S) / SAMPLE_RATE, time.process_time() - began


def main() -> int:
    """Run the measurement and print the results; return 1 if the manifest or its audio cannot be used."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recogniser", choices=("moonshine-live", "moonshine", "whisper"))
    parser.add_argument("--manifest", type=Path, required=True, metavar="FILE", help="JSON lines")
    parser.add_argument("--whisper", type=Path, metavar="DIR", help="Whisper model for CTranslate2")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N utterances")
    args = parser.parse_args()
    if args.recogniser == "whisper" and args.whisper is None:
        parser.error("whisper needs --whisper DIR")
    title = args.whisper.name if args.recogniser == "whisper" else args.recogniser
    try:
        utterances = read_manifest(args.manifest)[: args.limit]
        if args.recogniser == "whisper":
            recognise = whisper(args.whisper)
        else:
            recognise = moonshine_live() if args.recogniser == "moonshine-live" else moonshine()
        measured = measure(utterances, answers(recognise, utterances), title)
    except StreamasrError as error:
        print(f"recogniser_peers: {error.message}", file=sys.stderr)
        return 1
    print_report("recogniser_peers", title, len(utterances), measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
