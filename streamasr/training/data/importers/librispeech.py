"""Find the recordings of LibriSpeech (Panayotov et al. 2015), or of a dataset with its layout.

The layout is ``SUBSET/SPEAKER/CHAPTER/*.flac`` with ``*.trans.txt`` beside them.
"""

from __future__ import annotations

from pathlib import Path

from streamasr.errors import DataError
from streamasr.training.data.importers.layout import (
    Found,
    Recording,
    Selection,
    Skipped,
    audio_beside,
    require_folder,
    require_lines,
)

LAYOUT = "SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt with the .flac files beside it"
LANGUAGE = "en"


def find(source: Path, selection: Selection) -> Found:
    """Yield the lines of all ``.trans.txt`` files below ``source``; a split is the folder name of a subset."""
    folder = require_folder(source, "LibriSpeech", LAYOUT)
    transcripts = sorted(folder.resolve().rglob("*.trans.txt"))
    if selection.split is not None:
        subsets = sorted({path.parents[2].name for path in transcripts})
        transcripts = [path for path in transcripts if path.parents[2].name == selection.split]
        if not transcripts and subsets:
            raise DataError(
                f"{source}: no subset {selection.split!r}; the folder has the subsets {', '.join(subsets)}"
            )
    if not transcripts:
        raise DataError(f"{source}: no *.trans.txt below this folder; LibriSpeech has {LAYOUT}")
    for transcript in transcripts:
        for line in require_lines(transcript, "LibriSpeech", LAYOUT):
            name, _, text = line.partition(" ")
            audio = audio_beside(transcript.parent / name)
            if audio is None:
                yield Skipped(f"{transcript.parent / name}.flac", "no such audio file")
            else:
                yield Recording(audio, text, speaker=name.split("-")[0])
