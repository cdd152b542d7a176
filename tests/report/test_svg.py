"""Test charts: well-formed, to scale, and small for long runs."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamasr.report.svg import HEIGHT, POINTS, WIDTH, Curve, bar_chart, line_chart, ticks

FINITE = st.floats(-1e9, 1e9, allow_nan=False)


@given(st.lists(st.tuples(FINITE, st.floats()), min_size=1, max_size=30), st.booleans())
def test_all_points_lie_in_the_drawing_for_any_values(
    points: list[tuple[float, float]], logarithmic: bool
) -> None:
    drawn = line_chart([Curve("<a & b>", tuple(points))], x_label="step", logarithmic=logarithmic)
    tree = ElementTree.fromstring(drawn)
    for line in tree.iter("polyline"):
        for place in line.attrib["points"].split():
            x, y = map(float, place.split(","))
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT


def test_higher_values_are_drawn_higher() -> None:
    drawn = line_chart([Curve("a", ((0, 1.0), (1, 3.0), (2, 2.0)))], x_label="x")
    line = next(ElementTree.fromstring(drawn).iter("polyline"))
    (_, one), (_, three), (_, two) = (map(float, p.split(",")) for p in line.attrib["points"].split())
    assert three < two < one
    assert two == pytest.approx((one + three) / 2, abs=0.11)


def test_a_long_curve_is_reduced_to_means() -> None:
    points = tuple((float(i), float(i % 2)) for i in range(100 * POINTS))
    drawn = line_chart([Curve("a", points)], x_label="x")
    line = next(ElementTree.fromstring(drawn).iter("polyline"))
    heights = {place.split(",")[1] for place in line.attrib["points"].split()}
    assert len(line.attrib["points"].split()) == POINTS
    assert len(heights) == 1


def test_several_curves_have_a_legend() -> None:
    two = [Curve("<i>", ((0, 1.0), (1, 2.0))), Curve("b", ((0, 2.0), (1, 1.0)))]
    drawn = line_chart(two, x_label="x", ordered=True)
    assert "&lt;i&gt;" in drawn
    assert 'class="o0"' in drawn
    assert 'class="o5"' in drawn
    assert "legend" not in line_chart(two[:1], x_label="x")


@pytest.mark.parametrize("points", [(), ((0, math.nan),)])
def test_a_chart_without_points_says_so(points: tuple[tuple[float, float], ...]) -> None:
    assert "No data yet." in line_chart([Curve("a", points)], x_label="x")


@given(FINITE, FINITE)
def test_ticks_are_few_ascending_and_cover_the_values(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 8
    assert found == sorted(set(found))
    slack = 1e-6 * max(1.0, abs(low), abs(high))
    assert found[0] <= low + slack
    assert found[-1] >= high - slack


def test_bars_are_proportional_to_their_values() -> None:
    table = ElementTree.fromstring(bar_chart([("a → b", 4.0, "4"), ("<c>", 1.0, "1")]))
    assert [i.attrib["style"] for i in table.iter("i")] == ["width:100.0%", "width:25.0%"]
    assert [th.text for th in table.iter("th")] == ["a → b", "<c>"]
