"""Find the recordings of LJ Speech (Ito and Johnson 2017).

The layout is ``metadata.csv`` with lines ``NAME|text|text with numbers spelt out``, and ``wavs/NAME.wav``.
"""

from __future__ import annotations

from pathlib import Path

from streamasr.training.data.importers.layout import (
    Found,
    Recording,
    Selection,
    Skipped,
    audio_beside,
    require_folder,
    require_lines,
    require_split,
)

LAYOUT = "metadata.csv with lines NAME|text|normalised text, and wavs/NAME.wav"
LANGUAGE = "en"
SPLITS = ("all",)
SPEAKER = "LJ"


def find(source: Path, selection: Selection) -> Found:
    """Yield the lines of ``metadata.csv``; there is one speaker."""
    require_folder(source, "LJ Speech", LAYOUT)
    require_split(selection.split, "all", SPLITS, "LJ Speech")
    lines = require_lines(source / "metadata.csv", "LJ Speech", LAYOUT)
    wavs = require_folder(source / "wavs", "LJ Speech", LAYOUT)
    for number, line in enumerate(lines, start=1):
        name, *texts = line.split("|")
        if not texts:
            yield Skipped(f"{source / 'metadata.csv'}:{number}", "no | in the line")
            continue
        audio = audio_beside(wavs / name)
        if audio is None:
            yield Skipped(f"{wavs / name}.wav", "no such audio file")
        else:
            spelt_out = texts[1] if len(texts) > 1 else ""
            yield Recording(audio, spelt_out or texts[0], speaker=SPEAKER)
