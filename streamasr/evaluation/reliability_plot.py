"""Draw a reliability diagram as a stand-alone SVG: the share of right words at each confidence."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import sqrt

from streamasr.evaluation.calibration import Bin, Reliability

_SIDE, _MARGIN, _LEGEND = 300, 46, 44
_LARGEST = 9.0
"""Radius of the bin with the most words."""
_COLOURS = ("#b07aa1", "#1f77b4")


def reliability_svg(title: str, curves: Sequence[tuple[str, Reliability]]) -> str:
    """Draw up to two curves over the diagonal of perfect calibration.

    A dot is a bin; its area is proportional to its words.
    """
    width, height = _SIDE + 2 * _MARGIN, _SIDE + 2 * _MARGIN + _LEGEND
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{width / 2:.0f}" y="20" text-anchor="middle" font-size="13">{escape(title)}</text>',
    ]
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = _place(tick, tick)
        parts += [
            f'<line x1="{_MARGIN}" x2="{_MARGIN + _SIDE}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e0e0e0"/>',
            f'<text x="{_MARGIN - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>',
            f'<text x="{x:.1f}" y="{_MARGIN + _SIDE + 16}" text-anchor="middle">{tick:g}</text>',
        ]
    (x1, y1), (x2, y2) = _place(0, 0), _place(1, 1)
    parts.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#999" stroke-dasharray="4 4"/>')
    middle = _MARGIN + _SIDE / 2
    parts += [
        f'<text x="{middle:.0f}" y="{_MARGIN + _SIDE + 32}" text-anchor="middle">confidence</text>',
        f'<text transform="translate(12 {middle:.0f}) rotate(-90)" text-anchor="middle">words right</text>',
    ]
    for number, ((name, measured), colour) in enumerate(zip(curves, _COLOURS, strict=False)):
        parts += _curve([b for b in measured.bins if b.words], colour)
        y = _MARGIN + _SIDE + 52 + 16 * number
        label = f"{name}: expected calibration error {measured.error:.3f}"
        parts += [
            f'<circle cx="{_MARGIN + 5}" cy="{y - 4}" r="4" fill="{colour}"/>',
            f'<text x="{_MARGIN + 15}" y="{y}">{escape(label)}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _curve(bins: Sequence[Bin], colour: str) -> list[str]:
    most = max(b.words for b in bins)
    places = [_place(b.confidence, b.right) for b in bins]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}"/>']
    for b, (x, y) in zip(bins, places, strict=True):
        radius = max(1.5, _LARGEST * sqrt(b.words / most))
        hint = f"{b.words} words: confidence {b.confidence:.2f}, right {b.right:.2f}"
        dot = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{colour}" fill-opacity="0.6">'
        parts.append(f"{dot}<title>{hint}</title></circle>")
    return parts


def _place(x: float, y: float) -> tuple[float, float]:
    return _MARGIN + x * _SIDE, _MARGIN + (1 - y) * _SIDE
