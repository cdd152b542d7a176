"""From what an importer finds to a manifest: audio looked at, transcripts normalised, what is left out counted."""

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
    """What came of an import."""

    utterances: int
    hours: float
    speakers: int
    skipped: tuple[Skipped, ...]

    def reasons(self) -> list[tuple[str, int, str]]:
        """(reason, how often, first case) of what was left out, the most frequent first."""
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
    """Write the recordings as a manifest, whole or not at all.

    A recording is left out if its audio cannot be opened or is incomplete, if its transcript is empty once
    normalised, or if the transcript holds figures or symbols, of which nobody knows how they were said.

    Args:
        found: what an importer's ``find`` gives.
        out: the manifest; paths in it are relative to its folder wherever they share more than the root.
        language: whose rules the transcripts follow.
        selection: of which the speakers are looked at here.
        workers: processes that look at the audio.
        progress: told of every file looked at.

    Raises:
        DataError: nothing is left to write; the message says why.
    """
    rules = text_rules(language)
    skipped: list[Skipped] = []
    wanted: list[tuple[Recording, str]] = []
    unwanted: Counter[str] = Counter()
    for case in found:
        if isinstance(case, Skipped):
            skipped.append(case)
        elif not selection.holds(case.speaker):
            unwanted[case.speaker] += 1
        elif unsaid := symbols_to_spell_out(case.text):
            skipped.append(
                Skipped(f"{case.audio}: {_shown(unsaid)}", "figures or symbols, not written as spoken")
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
                reason = "incomplete audio file" if header.incomplete else "no sound in the file"
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
        raise DataError(f"{out}: not written, no usable utterance was found: {_why_none(imported, unwanted)}")
    partial.replace(out)
    return imported


def relative_to_folder(audio: Path, folder: Path) -> str:
    """``audio`` from ``folder`` on, so that both can move together; absolute if they share no folder at all."""
    # A file may be a link into a store of files by content: its name stays. Folders are followed, so that ".."
    # leads where the file system takes it.
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


def _shown(characters: set[str]) -> str:
    return " ".join(sorted(characters))


def _why_none(imported: ImportResult, unwanted: Counter[str]) -> str:
    why = [f"{count} × {reason} ({first})" for reason, count, first in imported.reasons()]
    if unwanted:
        names = ", ".join(sorted(unwanted)[:_SPEAKERS_NAMED])
        why.append(f"{unwanted.total()} recordings are by speakers not asked for ({names} …)")
    return "; ".join(why)
