"""Find the recordings of speechocean762 (Zhang et al. 2021).

The layout follows Kaldi: ``train|test/{wav.scp,text,utt2spk}`` and ``WAVE/``.
"""

from __future__ import annotations

from pathlib import Path

from streamasr.training.data.importers.layout import (
    Found,
    Recording,
    Selection,
    Skipped,
    require_folder,
    require_lines,
    require_split,
)

LAYOUT = "train|test/wav.scp, text and utt2spk, and WAVE/SPEAKER*/*.WAV"
LANGUAGE = "en"
SPLITS = ("train", "test")


def find(source: Path, selection: Selection) -> Found:
    """Yield the utterances of the split's ``wav.scp`` (``train`` by default)."""
    require_folder(source, "speechocean762", LAYOUT)
    folder = source / require_split(selection.split, "train", SPLITS, "speechocean762")
    files, texts, speakers = (_table(folder / name) for name in ("wav.scp", "text", "utt2spk"))
    for name, file in files.items():
        audio = source / file
        if not audio.is_file():
            yield Skipped(str(audio), "no such audio file")
        elif name not in texts:
            yield Skipped(str(audio), "no transcript")
        else:
            yield Recording(audio, texts[name], speaker=speakers.get(name, ""))


def _table(path: Path) -> dict[str, str]:
    """Read a Kaldi table: each line has a key, white space and a value."""
    parts = (line.split(maxsplit=1) for line in require_lines(path, "speechocean762", LAYOUT))
    return {part[0]: part[1].strip() for part in parts if len(part) == 2}
