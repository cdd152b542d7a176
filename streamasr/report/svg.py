"""Draw line charts as inline SVG and bar charts as HTML tables, coloured by the page's style sheet.

Colours are the classes ``s0 … s5`` of ``page.css``, or ``o0 … o5`` for values that have an order, such as chunk
sizes. The style sheet defines them for the light and the dark theme.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

POINTS = 300
"""Most points of a drawn curve; a longer one is reduced to the means of this number of equal sections."""
WIDTH, HEIGHT = 560, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 20, 10, 34
_COLOURS = 6
_TICKS = 5
_DOTS = 40
"""Most points of a curve for which each point is marked with a dot."""

_LARGEST = 1e30
"""Larger values, and on a logarithmic axis values below its inverse, are not drawn, like infinite ones."""

Format = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Curve:
    """A named curve of (x, y) points; points with values that are not finite are left out."""

    name: str
    points: tuple[tuple[float, float], ...]


def line_chart(
    curves: Sequence[Curve],
    *,
    x_label: str,
    y_format: Format = lambda y: f"{y:.3g}",
    x_format: Format = lambda x: f"{x:,.0f}",
    ordered: bool = False,
    from_zero: bool = True,
    logarithmic: bool = False,
) -> str:
    """Return a line chart of curves with a legend.

    Args:
        curves: the curves; up to six have different colours.
        x_label: label of the horizontal axis.
        y_format: formats the values of the vertical axis, for its ticks and the tooltips of points.
        x_format: formats the values of the horizontal axis.
        ordered: whether the curves have an order; if so, they get shades of one colour.
        from_zero: whether the vertical axis starts at zero.
        logarithmic: whether the vertical axis is logarithmic; points that are not positive are left out.
    """
    drawn = [Curve(curve.name, _thinned(_finite(curve.points, logarithmic))) for curve in curves]
    drawn = [curve for curve in drawn if curve.points]
    if not drawn:
        return '<p class="none">No data yet.</p>'
    xs = [x for curve in drawn for x, _ in curve.points]
    ys = [y for curve in drawn for _, y in curve.points]
    low = min(0.0, *ys) if from_zero else min(ys)
    y_ticks = _decades(min(ys), max(ys)) if logarithmic else ticks(low, max(ys))
    scales = _Scales(min(xs), max(xs), min(*ys, y_ticks[0]), max(*ys, y_ticks[-1]), logarithmic)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(_names(drawn))}">']
    for y in y_ticks:
        level = scales.y(y)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{level:.1f}" y2="{level:.1f}"/>'
        )
        parts.append(_text(_LEFT - 6, level + 4, y_format(y), "end"))
    for x in ticks(min(xs), max(xs)):
        if min(xs) <= x <= max(xs):
            parts.append(_text(scales.x(x), HEIGHT - 18, x_format(x), "middle"))
    parts.append(_text(WIDTH - _RIGHT, HEIGHT - 3, x_label, "end"))
    for number, curve in enumerate(drawn):
        colour = _colour(number, len(drawn), ordered)
        path = " ".join(f"{scales.x(x):.1f},{scales.y(y):.1f}" for x, y in curve.points)
        parts.append(f'<polyline class="line {colour}" points="{path}"/>')
        for x, y in curve.points if len(curve.points) <= _DOTS else ():
            hint = escape(f"{curve.name} {y_format(y)} at {x_format(x)}".strip())
            place = f'cx="{scales.x(x):.1f}" cy="{scales.y(y):.1f}" r="3"'
            parts.append(f'<circle class="dot {colour}" {place}><title>{hint}</title></circle>')
    parts.append("</svg>")
    return "".join(parts) + (_legend(drawn, ordered) if len(drawn) > 1 else "")


def bar_chart(rows: Sequence[tuple[str, float, str]]) -> str:
    """Return a bar chart of (name, value, label) rows, as a table that can be read without the bars."""
    longest = max((value for _, value, _ in rows), default=0.0) or 1.0
    cells = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        f'<td class="bar"><i style="width:{100 * value / longest:.1f}%"></i></td><td>{escape(label)}</td></tr>'
        for name, value, label in rows
    )
    return f'<table class="bars">{cells}</table>' if rows else '<p class="none">None.</p>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def ticks(low: float, high: float, count: int = _TICKS) -> list[float]:
    """Return about ``count`` round values that cover the range from ``low`` to ``high``."""
    if high - low <= max(1e-9 * max(abs(low), abs(high)), 1 / _LARGEST):
        high = low + (abs(low) if abs(low) > 1 / _LARGEST else 1.0)
    rough = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    stride = math.ceil((last - first + 1) / _TICKS)
    return [10.0**power for power in range(first, max(last, first + 1) + stride, stride)]


@dataclass(frozen=True, slots=True)
class _Scales:
    """Maps values to coordinates in the drawing."""

    left: float
    right: float
    bottom: float
    top: float
    logarithmic: bool

    def x(self, value: float) -> float:
        span = (self.right - self.left) or 1.0
        return _LEFT + (value - self.left) / span * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self.bottom, self.top
        if self.logarithmic:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return HEIGHT - _BOTTOM - (value - low) / ((high - low) or 1.0) * (HEIGHT - _TOP - _BOTTOM)


def _finite(points: Sequence[tuple[float, float]], positive: bool) -> list[tuple[float, float]]:
    """Return the points that can be drawn; ``abs(nan) < …`` is false."""
    return [(x, y) for x, y in points if abs(y) < _LARGEST and (y > 1 / _LARGEST or not positive)]


def _thinned(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Reduce a long curve to the means of equal sections, so that the page of a long run stays small."""
    if len(points) <= POINTS:
        return tuple(points)
    bounds = [round(number * len(points) / POINTS) for number in range(POINTS + 1)]
    sections = [points[a:b] for a, b in itertools.pairwise(bounds)]
    return tuple(
        (sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in sections
    )


def _colour(number: int, count: int, ordered: bool) -> str:
    """Return the style sheet's class of curve ``number`` of ``count``."""
    if not ordered:
        return f"s{number % _COLOURS}"
    return f"o{round(number * (_COLOURS - 1) / max(1, count - 1))}"


def _names(curves: Sequence[Curve]) -> str:
    return "Curves: " + ", ".join(curve.name for curve in curves)


def _legend(curves: Sequence[Curve], ordered: bool) -> str:
    entries = "".join(
        f'<li><i class="{_colour(number, len(curves), ordered)}"></i>{escape(curve.name)}</li>'
        for number, curve in enumerate(curves)
    )
    return f'<ul class="legend">{entries}</ul>'
