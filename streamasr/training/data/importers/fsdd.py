"""The Free Spoken Digit Dataset (Jackson et al. 2018): ``recordings/DIGIT_SPEAKER_INDEX.wav``.

Its standard test split is the recordings 0–4 of every digit and speaker. Figures for voices never heard come
from leaving one speaker out: train without, test with that speaker only.
"""

from __future__ import annotations

import re
from pathlib import Path

from streamasr.errors import DataError
from streamasr.training.data.importers.layout import (
    Found,
    Recording,
    Selection,
    Skipped,
    audio_files,
    require_folder,
    require_split,
)

LAYOUT = "recordings/DIGIT_SPEAKER_INDEX.wav, for example recordings/7_jackson_32.wav"
LANGUAGE = "en"
SPLITS = ("all", "train", "test")
TEST_RECORDINGS = 5
"""Recordings of each digit and speaker, from index 0, that are the test split."""
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_NAME = re.compile(r"([0-9])_(.+)_([0-9]+)")


def find(source: Path, selection: Selection) -> Found:
    """Every recording of the split (``all`` by default); the files may also lie in ``source`` itself."""
    require_folder(source, "FSDD", LAYOUT)
    split = require_split(selection.split, "all", SPLITS, "FSDD")
    recordings = source / "recordings"
    files = audio_files(recordings if recordings.is_dir() else source)
    if not any(_NAME.fullmatch(audio.stem) for audio in files):
        raise DataError(f"{source}: no recordings of digits; FSDD has {LAYOUT}")
    for audio in files:
        match = _NAME.fullmatch(audio.stem)
        if match is None:
            yield Skipped(str(audio), "name is not DIGIT_SPEAKER_INDEX")
        elif split in ("all", "test" if int(match[3]) < TEST_RECORDINGS else "train"):
            yield Recording(audio, WORDS[int(match[1])], speaker=match[2])
