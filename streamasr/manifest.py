"""Read manifests: files with one JSON object per line, which names an audio file and its transcript."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamasr.errors import DataError
from streamasr.filename import check_file_name
from streamasr.jsonlines import parse_object
from streamasr.textfile import read_lines

MAX_DURATION_S = 1e9
"""Longer than any recording, in seconds."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One line of a manifest."""

    audio: Path
    """The audio file; ``audio_filepath`` is relative to the manifest's folder."""
    duration_s: float
    """Length of the audio in seconds."""
    text: str
    """The transcript."""
    speaker: str = ""
    """The speaker, if the manifest names one."""


def read_manifest(path: Path) -> list[Utterance]:
    """Read all utterances of a manifest: ``{"audio_filepath", "duration", "text"}``, optionally ``"speaker"``.

    Other fields and blank lines are ignored. Audio files are not opened.

    Raises:
        DataError: no such file, no utterance, or a line that cannot be used; the message names file and line.
    """
    try:
        lines = read_lines(path)
    except (FileNotFoundError, IsADirectoryError):
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8: {error}") from None
    utterances = [
        parse_utterance(line, path, number) for number, line in enumerate(lines, start=1) if line.strip()
    ]
    if not utterances:
        raise DataError(f"{path}: contains no utterance")
    return utterances


def manifest_names(paths: Sequence[Path]) -> list[str]:
    """Return a name for each manifest: by folder for ``manifest.jsonl``, else by file name, by path if two agree."""
    names = [path.resolve().parent.name if path.stem == "manifest" else path.stem for path in paths]
    count = Counter(names)
    return [name if count[name] == 1 else str(path) for name, path in zip(names, paths, strict=True)]


def parse_utterance(line: str, path: Path, number: int) -> Utterance:
    """Parse line ``number`` (from 1) of the manifest ``path``.

    Raises:
        DataError: the line cannot be used; the message names file, line and field.
    """
    where = f"{path}:{number}"
    row = parse_object(line, where)
    audio = _field(row, "audio_filepath", str, where)
    duration = _field(row, "duration", (int, float), where)
    text = _field(row, "text", str, where)
    if not 0 <= duration < MAX_DURATION_S:
        raise DataError(f"{where}: duration must be 0 to {MAX_DURATION_S:g} seconds, got {duration!r:.20}")
    try:
        check_file_name(audio)
    except DataError as error:
        raise DataError(f"{where}: 'audio_filepath' is {error.message}") from None
    speaker = _field(row, "speaker", str, where) if "speaker" in row else ""
    return Utterance(path.parent / audio, float(duration), text, speaker)


def _field(row: dict[str, Any], name: str, kind: type | tuple[type, ...], where: str) -> Any:
    if name not in row:
        raise DataError(f"{where}: {name!r} is missing")
    value = row[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        expected = "a string" if kind is str else "a number"
        raise DataError(f"{where}: {name!r} must be {expected}, got {value!r}")
    return value
