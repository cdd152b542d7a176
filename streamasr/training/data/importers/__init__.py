"""Find the recordings of published datasets: one module per layout, with ``find``, ``LAYOUT`` and ``LANGUAGE``."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Protocol, cast

from streamasr.training.data.importers.layout import Found, Selection

DATASETS = ("librispeech", "commonvoice", "aishell", "ljspeech", "speechocean762", "fsdd", "folder")
"""The modules of this package that read a dataset."""


class Importer(Protocol):
    """The interface of these modules."""

    LAYOUT: str
    """Description of the dataset's files."""
    LANGUAGE: str | None
    """Default language of the transcripts; ``None`` if the name of the folder is the language."""

    def find(self, source: Path, selection: Selection) -> Found:
        """Yield the recordings of the selected split, and the files that are skipped.

        Args:
            source: the dataset's folder.
            selection: the split to read; its speakers are not considered here.

        Raises:
            DataError: the folder does not have the dataset's layout; the message describes the expected layout.
        """


def importer(dataset: str) -> Importer:
    """Return the importer of a dataset of :data:`DATASETS`."""
    assert dataset in DATASETS
    return cast(Importer, importlib.import_module(f"{__name__}.{dataset}"))
