"""Find the recordings of Mozilla Common Voice (Ardila et al. 2020).

Each language has a folder with ``train.tsv``, ``dev.tsv``, ``test.tsv`` and other tables, and ``clips/*.mp3``.
"""

from __future__ import annotations

import csv
from pathlib import Path

from streamasr.errors import DataError
from streamasr.training.data.importers.layout import (
    Found,
    Recording,
    Selection,
    Skipped,
    require_folder,
    require_lines,
)

LAYOUT = "LANGUAGE/train.tsv, dev.tsv, test.tsv … and LANGUAGE/clips/"
LANGUAGE = None
_COLUMNS = ("client_id", "path", "sentence")


def find(source: Path, selection: Selection) -> Found:
    """Yield the rows of the split's table (``train`` by default); ``source`` is the language's folder."""
    require_folder(source, "Common Voice", LAYOUT)
    table = source / f"{selection.split or 'train'}.tsv"
    if not table.is_file():
        tables = sorted(path.stem for path in source.glob("*.tsv"))
        found = f"the folder has the tables {', '.join(tables)}" if tables else "the folder has no .tsv files"
        raise DataError(
            f"{table}: no such table; {found}. Common Voice has {LAYOUT}; "
            "give the language's folder as SOURCE and the table's name as --split"
        )
    clips = require_folder(source / "clips", "Common Voice", LAYOUT)
    rows = csv.DictReader(
        require_lines(table, "Common Voice", LAYOUT), delimiter="\t", quoting=csv.QUOTE_NONE
    )
    missing = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
    if missing:
        raise DataError(f"{table}: no column {', '.join(missing)}; Common Voice has {', '.join(_COLUMNS)}")
    for row in rows:
        if any(row[name] is None for name in _COLUMNS):
            yield Skipped(f"{table}:{rows.line_num}", "row with too few columns")
            continue
        audio = clips / row["path"]
        # Older releases name the clip without its suffix.
        audio = audio if audio.suffix else audio.with_name(audio.name + ".mp3")
        if not audio.is_file():
            yield Skipped(str(audio), "no such audio file")
        else:
            yield Recording(audio, row["sentence"], speaker=row["client_id"])
