"""Find the recordings in any folder, each with its transcript in a ``.txt`` file of the same name beside it."""

from __future__ import annotations

from pathlib import Path

from streamasr.errors import DataError
from streamasr.training.data.importers.layout import (
    AUDIO_SUFFIXES,
    Found,
    Recording,
    Selection,
    Skipped,
    audio_beside,
    audio_files,
    require_folder,
    require_lines,
)

LAYOUT = f"NAME.txt beside NAME{'|'.join(AUDIO_SUFFIXES)}, at any depth"
LANGUAGE = "en"


def find(source: Path, selection: Selection) -> Found:
    """Yield the recordings below ``source``; the name of a recording's subfolder, if any, is its speaker.

    A split is a subfolder of ``source``.
    """
    root = source / selection.split if selection.split else source
    require_folder(root, "a folder of recordings", LAYOUT)
    recordings = audio_files(root)
    if not recordings:
        raise DataError(f"{root}: no audio files; a folder of recordings has {LAYOUT}")
    for audio in recordings:
        transcript = audio.with_suffix(".txt")
        if transcript.is_file():
            text = " ".join(require_lines(transcript, "a folder of recordings", LAYOUT))
            yield Recording(audio, text, speaker="" if audio.parent == root else audio.parent.name)
        else:
            yield Skipped(str(audio), "no .txt beside it")
    for transcript in sorted(root.rglob("*.txt")):
        if audio_beside(transcript.with_suffix("")) is None:
            yield Skipped(str(transcript), "no audio file beside it")
