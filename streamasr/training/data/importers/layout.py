"""What the importers of all datasets share: what they find, how they select, how they refuse a wrong folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from streamasr.errors import DataError
from streamasr.textfile import read_lines

AUDIO_SUFFIXES = (".flac", ".wav", ".opus", ".ogg", ".mp3")
"""Tried in this order where a dataset names a recording without its suffix; any case."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording as a dataset has it: the transcript is still as published."""

    audio: Path
    text: str
    speaker: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file, or a line of a file, that gives no utterance."""

    what: str
    reason: str
    """A few words that are the same for like cases, so that cases can be counted."""


Found = Iterator[Recording | Skipped]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which part of a dataset is wanted."""

    split: str | None = None
    """The dataset's own name of a part; ``None`` takes the importer's default."""
    only_speakers: tuple[str, ...] = ()
    exclude_speakers: tuple[str, ...] = ()

    def holds(self, speaker: str) -> bool:
        """Whether recordings of this speaker are wanted."""
        if self.only_speakers and speaker not in self.only_speakers:
            return False
        return speaker not in self.exclude_speakers


def require_folder(path: Path, dataset: str, layout: str) -> Path:
    """``path`` if it is a folder.

    Raises:
        DataError: it is not; the message says what the dataset's layout has there.
    """
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; {dataset} has {layout}")
    return path


def require_lines(path: Path, dataset: str, layout: str) -> list[str]:
    """The lines of a text file, blank ones left out.

    Raises:
        DataError: no such file, or not UTF-8; the message says what the dataset's layout has there.
    """
    try:
        lines = read_lines(path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise DataError(f"{path}: no such file; {dataset} has {layout}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text: {error}") from None
    return [line for line in lines if line.strip()]


def require_split(split: str | None, default: str, allowed: tuple[str, ...], dataset: str) -> str:
    """The split that is wanted.

    Raises:
        DataError: the dataset has no such split.
    """
    chosen = split or default
    if chosen not in allowed:
        raise DataError(f"{dataset} has the splits {', '.join(allowed)}; got {chosen!r}")
    return chosen


def audio_beside(stem: Path) -> Path | None:
    """The audio file whose path without suffix is ``stem``, if there is one."""
    for suffix in AUDIO_SUFFIXES:
        for spelt in (suffix, suffix.upper()):
            path = stem.with_name(stem.name + spelt)
            if path.is_file():
                return path
    return None


def audio_files(folder: Path) -> list[Path]:
    """Every audio file beneath ``folder``, in alphabetical order."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
