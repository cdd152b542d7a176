"""What pages are built of: a self-contained document, tiles, cards, tables, and texts with their errors marked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources

from streamasr.report.analysis import scoring_units
from streamasr.report.results import Unit
from streamasr.scoring import align

Row = Sequence[str]


def document(title: str, body: str) -> str:
    """A whole page: nothing is loaded from elsewhere, light or dark as the reader's system is."""
    style = (resources.files("streamasr.report") / "page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>\n{style}</style></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )


def tiles(figures: Iterable[tuple[str, str]]) -> str:
    """Large (value, what it is) figures beside each other."""
    cards = "".join(
        f'<div class="card"><b>{escape(value)}</b><span>{escape(label)}</span></div>'
        for value, label in figures
    )
    return f'<div class="tiles">{cards}</div>'


def card(title: str, body: str) -> str:
    """A framed part; ``body`` is HTML."""
    return f'<section class="card"><h3>{escape(title)}</h3>{body}</section>'


def grid(columns: int, cards: Iterable[str]) -> str:
    """Cards beside each other, two or three where there is room."""
    return f'<div class="grid{columns}">{"".join(cards)}</div>'


def table(header: Row, rows: Iterable[Row]) -> str:
    """A table of plain texts, numbers to the right."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def difference(reference: str, hypothesis: str, unit: Unit = "word") -> str:
    """The hypothesis in one line: what it lacks struck out, what it has too much in another colour."""
    between = " " if unit == "word" else ""
    parts = []
    for was, heard in align(scoring_units(reference, unit), scoring_units(hypothesis, unit)):
        if was == heard:
            parts.append(escape(was or ""))
            continue
        marked = [f"<del>{escape(was)}</del>"] if was is not None else []
        marked += [f"<ins>{escape(heard)}</ins>"] if heard is not None else []
        parts.append(between.join(marked))
    return between.join(parts)


def pair(reference: str, hypothesis: str, note: str = "", unit: Unit = "word") -> str:
    """A reference and its errors, with a note below."""
    small = f"<small>{escape(note)}</small>" if note else ""
    return f'<div class="pair"><div>{difference(reference, hypothesis, unit) or "∅"}</div>{small}</div>'
