"""Published datasets to manifests: one module a layout, each with ``find``, ``LAYOUT`` and ``LANGUAGE``."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Protocol, cast

from streamasr.training.data.importers.layout import Found, Selection

DATASETS = ("librispeech", "commonvoice", "aishell", "ljspeech", "speechocean762", "fsdd", "folder")
"""The modules of this package that read a dataset."""


class Importer(Protocol):
    """What each of those modules offers."""

    LAYOUT: str
    """The files a dataset is expected to have, in one phrase."""
    LANGUAGE: str | None
    """What its transcripts are in, where nobody says otherwise; ``None``: the folder's name says it."""

    def find(self, source: Path, selection: Selection) -> Found:
        """Every recording of the selected split, and what gives none.

        Raises:
            DataError: the folder does not have the dataset's layout; the message says what was expected where.
        """


def importer(dataset: str) -> Importer:
    """The importer of one of :data:`DATASETS`."""
    assert dataset in DATASETS
    return cast(Importer, importlib.import_module(f"{__name__}.{dataset}"))
