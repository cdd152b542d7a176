"""Define what all importers share: recordings, the selection of a part, and checks of a dataset's layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from streamasr.errors import DataError
from streamasr.textfile import read_lines

AUDIO_SUFFIXES = (".flac", ".wav", ".opus", ".ogg", ".mp3")
"""Suffixes to try, in this order and in lower and upper case, if a dataset gives names without suffixes."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording of a dataset, with its transcript as published."""

    audio: Path
    text: str
    speaker: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file, or a line of a file, that gives no utterance."""

    what: str
    """Path of the file, with the number of the line if it is a line."""
    reason: str
    """A short text, the same for similar cases, so that cases can be counted."""


Found = Iterator[Recording | Skipped]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The part of a dataset to import."""

    split: str | None = None
    """Name of the split in the dataset; ``None`` is the importer's default."""
    only_speakers: tuple[str, ...] = ()
    """If not empty, only these speakers are imported."""
    exclude_speakers: tuple[str, ...] = ()
    """Speakers that are not imported."""

    def includes(self, speaker: str) -> bool:
        """Return whether recordings of this speaker are imported."""
        if self.only_speakers and speaker not in self.only_speakers:
            return False
        return speaker not in self.exclude_speakers


def require_folder(path: Path, dataset: str, layout: str) -> Path:
    """Return ``path`` if it is a folder.

    Raises:
        DataError: it is not a folder; the message describes the dataset's layout.
    """
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; {dataset} has {layout}")
    return path


def require_lines(path: Path, dataset: str, layout: str) -> list[str]:
    """Return the lines of a text file, except blank lines.

    Raises:
        DataError: the file is missing or not UTF-8; the message describes the dataset's layout.
    """
    try:
        lines = read_lines(path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise DataError(f"{path}: no such file; {dataset} has {layout}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text: {error}") from None
    return [line for line in lines if line.strip()]


def require_split(split: str | None, default: str, allowed: tuple[str, ...], dataset: str) -> str:
    """Return the selected split, or the default.

    Raises:
        DataError: the dataset does not have this split.
    """
    chosen = split or default
    if chosen not in allowed:
        raise DataError(f"{dataset} has the splits {', '.join(allowed)}, got {chosen!r}")
    return chosen


def audio_beside(stem: Path) -> Path | None:
    """Return the audio file whose path without suffix is ``stem``, if there is one."""
    for suffix in AUDIO_SUFFIXES:
        for variant in (suffix, suffix.upper()):
            path = stem.with_name(stem.name + variant)
            if path.is_file():
                return path
    return None


def audio_files(folder: Path) -> list[Path]:
    """Return all audio files below ``folder``, in alphabetical order."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
