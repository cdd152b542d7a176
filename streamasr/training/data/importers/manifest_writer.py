"""Write the recordings that an importer finds as a manifest, with normalised transcripts and durations."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from streamasr.errors import DataError
from streamasr.text import symbols_to_spell_out, text_rules
from streamasr.training.data.audio.header import Header, read_header
from streamasr.training.data.audio.processes import Progress, map_in_processes
from streamasr.training.data.importers.layout import Recording, Selection, Skipped

_DURATION_DIGITS = 4
_SPEAKERS_NAMED = 8


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The result of an import."""

    utterances: int
    hours: float
    speakers: int
    skipped: tuple[Skipped, ...]

    def reasons(self) -> list[tuple[str, int, str]]:
        """Return (reason, count, first case) of the skipped files and lines, the most frequent reason first."""
        counts = Counter(case.reason for case in self.skipped)
        first = {case.reason: case.what for case in reversed(self.skipped)}
        return [(reason, count, first[reason]) for reason, count in counts.most_common()]


def write_manifest(
    found: Iterable[Recording | Skipped],
    out: Path,
    *,
    language: str,
    selection: Selection,
    workers: int | None = None,
    progress: Progress | None = None,
) -> ImportResult:
    """Write recordings as a manifest; on an error, no file is written.

    A recording is skipped if its audio cannot be opened or is incomplete, if its normalised transcript is empty, or
    if its transcript has digits or symbols, because it is not known how they were spoken.

    Args:
        found: the recordings and skipped files that an importer's ``find`` yields.
        out: the manifest. Paths in it are relative to its folder if they have more in common with it than the root.
        language: language of the transcripts.
        selection: the speakers to import; the split is not considered here.
        workers: processes that read audio headers; by default one for each CPU that this process may use.
        progress: called after each audio file.

    Raises:
        DataError: no recordings are left to write; the message gives the reasons.
    """
    rules = text_rules(language)
    skipped: list[Skipped] = []
    wanted: list[tuple[Recording, str]] = []
    unwanted: Counter[str] = Counter()
    for case in found:
        if isinstance(case, Skipped):
            skipped.append(case)
        elif not selection.includes(case.speaker):
            unwanted[case.speaker] += 1
        elif symbols := symbols_to_spell_out(case.text):
            skipped.append(
                Skipped(
                    f"{case.audio}: {' '.join(sorted(symbols))}", "digits or symbols, not written as spoken"
                )
            )
        elif text := rules.normalise(case.text):
            wanted.append((case, text))
        else:
            skipped.append(Skipped(str(case.audio), "empty transcript"))

    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    seconds, speakers, lines = 0.0, set(), 0
    headers = map_in_processes(
        _header, [case.audio for case, _ in wanted], workers=workers, progress=progress
    )
    with partial.open("w", encoding="utf-8") as file:
        for (case, text), header in zip(wanted, headers, strict=True):
            if isinstance(header, str):
                skipped.append(Skipped(header, "audio cannot be opened"))
                continue
            if header.incomplete or not header.frames:
                reason = "incomplete audio file" if header.incomplete else "no samples in the file"
                skipped.append(Skipped(header.incomplete or str(case.audio), reason))
                continue
            duration_s = header.duration_s
            row = {
                "audio_filepath": relative_to_folder(case.audio, out.parent),
                "duration": round(duration_s, _DURATION_DIGITS),
                "speaker": case.speaker,
                "text": text,
                "language": rules.language,
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            seconds, lines = seconds + duration_s, lines + 1
            speakers.add(case.speaker)
    imported = ImportResult(lines, seconds / 3600, len(speakers - {""}), tuple(skipped))
    if not lines:
        partial.unlink()
        raise DataError(f"{out}: not written, no usable utterances: {_why_none(imported, unwanted)}")
    partial.replace(out)
    return imported


def relative_to_folder(audio: Path, folder: Path) -> str:
    """Return the path of ``audio`` relative to ``folder``, or its absolute path if they share no folder."""
    # A link to a file is not followed, because its target may have another name. Links to folders are followed, so
    # that ".." leads to the right folder.
    audio, folder = audio.parent.resolve() / audio.name, folder.resolve()
    if audio.parts[:2] != folder.parts[:2]:
        return str(audio)
    return Path(os.path.relpath(audio, folder)).as_posix()


def _header(audio: Path) -> Header | str:
    """Return the file's header, or the message why it has none."""
    try:
        return read_header(audio)
    except DataError as error:
        return error.message


def _why_none(imported: ImportResult, unwanted: Counter[str]) -> str:
    why = [f"{count} × {reason} ({first})" for reason, count, first in imported.reasons()]
    if unwanted:
        names = ", ".join(sorted(unwanted)[:_SPEAKERS_NAMED])
        why.append(f"{unwanted.total()} recordings of speakers that are not selected ({names} …)")
    return "; ".join(why)
