"""Find the recordings of AISHELL-1 (Bu et al. 2017).

The layout is ``transcript/aishell_transcript_v0.8.txt`` and ``wav/train|dev|test/SPEAKER/*.wav``.
"""

from __future__ import annotations

from pathlib import Path

from streamasr.errors import DataError
from streamasr.training.data.importers.layout import (
    Found,
    Recording,
    Selection,
    Skipped,
    audio_files,
    require_folder,
    require_lines,
    require_split,
)

LAYOUT = "transcript/aishell_transcript_v0.8.txt and wav/train|dev|test/SPEAKER/*.wav"
LANGUAGE = "zh"
SPLITS = ("train", "dev", "test")


def find(source: Path, selection: Selection) -> Found:
    """Yield the recordings of the split (``train`` by default); ``source`` is ``data_aishell``."""
    require_folder(source, "AISHELL-1", LAYOUT)
    split = require_split(selection.split, "train", SPLITS, "AISHELL-1")
    lines = require_lines(source / "transcript" / "aishell_transcript_v0.8.txt", "AISHELL-1", LAYOUT)
    texts = dict(line.strip().split(maxsplit=1) for line in lines if len(line.split()) > 1)
    folder = source / "wav" / split
    recordings = audio_files(folder) if folder.is_dir() else []
    if not recordings:
        archives = len(list((source / "wav").glob("*.tar.gz")))
        hint = f"; unpack the {archives} .tar.gz archives in wav/ first" if archives else ""
        raise DataError(f"{folder}: no audio files; AISHELL-1 has {LAYOUT}{hint}")
    for audio in recordings:
        if audio.stem in texts:
            yield Recording(audio, texts[audio.stem], speaker=audio.parent.name)
        else:
            yield Skipped(str(audio), "no transcript")
