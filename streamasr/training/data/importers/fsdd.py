"""Find the recordings of the Free Spoken Digit Dataset (Jackson et al. 2018): ``recordings/DIGIT_SPEAKER_INDEX.wav``.

The standard test split has the recordings 0 to 4 of each digit and speaker. To measure unseen speakers, train without
one speaker and test with only this speaker.
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
"""Number of recordings of each digit and speaker, from index 0, in the test split."""
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_NAME = re.compile(r"([0-9])_(.+)_([0-9]+)")


def find(source: Path, selection: Selection) -> Found:
    """Yield the recordings of the split (``all`` by default); the files may also be in ``source`` itself."""
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
