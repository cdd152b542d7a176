"""Build HTML pages from parts: a self-contained document, tiles, cards, tables, and texts with marked errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources

from streamasr.report.analysis import scoring_units
from streamasr.report.results import Unit
from streamasr.scoring import align

Row = Sequence[str]

MARKS = '<p class="lead">Words or characters struck out were not recognised; those in red are wrong.</p>'
"""Explanation of the marks that :func:`pair` makes."""


def document(title: str, body: str) -> str:
    """Return a complete page that loads nothing from elsewhere and follows the system's light or dark theme."""
    style = (resources.files("streamasr.report") / "page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>\n{style}</style></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )


def tiles(figures: Iterable[tuple[str, str]]) -> str:
    """Return a row of large figures, each given as (value, label)."""
    cards = "".join(
        f'<div class="card"><b>{escape(value)}</b><span>{escape(label)}</span></div>'
        for value, label in figures
    )
    return f'<div class="tiles">{cards}</div>'


def card(title: str, body: str) -> str:
    """Return a framed section; ``body`` is HTML."""
    return f'<section class="card"><h3>{escape(title)}</h3>{body}</section>'


def grid(columns: int, cards: Iterable[str]) -> str:
    """Return cards side by side, up to ``columns`` (2 or 3) in a row."""
    return f'<div class="grid{columns}">{"".join(cards)}</div>'


def table(header: Row, rows: Iterable[Row]) -> str:
    """Return a table of plain texts; all columns but the first are right-aligned."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def difference(reference: str, hypothesis: str, unit: Unit = "word") -> str:
    """Return the hypothesis in one line, with deletions struck out and insertions in another colour."""
    between = " " if unit == "word" else ""
    parts = []
    for expected, recognised in align(scoring_units(reference, unit), scoring_units(hypothesis, unit)):
        if expected == recognised:
            parts.append(escape(expected or ""))
            continue
        marked = [f"<del>{escape(expected)}</del>"] if expected is not None else []
        marked += [f"<ins>{escape(recognised)}</ins>"] if recognised is not None else []
        parts.append(between.join(marked))
    return between.join(parts)


def pair(reference: str, hypothesis: str, note: str = "", unit: Unit = "word") -> str:
    """Return a reference with the hypothesis's errors marked, and a note below."""
    small = f"<small>{escape(note)}</small>" if note else ""
    return f'<div class="pair"><div>{difference(reference, hypothesis, unit) or "∅"}</div>{small}</div>'
