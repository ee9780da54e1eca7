"""Charts as SVG in the page: they follow its colour scheme, and their texts can be selected."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

from tfx_transformer.report.html import Html, tag

# Size of a chart in its own units: as wide as a telephone, so that its texts are readable there.
_WIDTH, _HEIGHT = 420, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 40
# A line of at most so many points also has dots.
_DOTS = 40

Points = Sequence[tuple[float, float]]


def line_chart(
    title: str,
    across: str,
    lines: Mapping[str, Points],
    marked: float | None = None,
    mark: str = "",
    whole: bool = True,
) -> Html:
    """Return a chart of lines over one axis, with a legend above it; empty without any point.

    Args:
        title: title of the chart.
        across: label of the horizontal axis.
        lines: points (x, y) by the name of the line.
        marked: x of a vertical line; None: without one.
        mark: name of the vertical line in the legend.
        whole: True if x are whole numbers, such as epochs.
    """
    lines = {name: points for name, points in lines.items() if points}
    everything = [point for points in lines.values() for point in points]
    if not everything:
        return Html("")
    columns, rows = (
        _ticks([x for x, _ in everything], whole=whole),
        _ticks([y for _, y in everything]),
    )
    to_x = _scale(columns[0], columns[-1], _LEFT, _WIDTH - _RIGHT)
    to_y = _scale(rows[0], rows[-1], _HEIGHT - _BOTTOM, _TOP)
    drawn = [_grid(columns, rows, to_x, to_y, across)]
    if marked is not None:
        x = _text(to_x(marked))
        drawn.append(tag("path", d=f"M{x} {_TOP}V{_HEIGHT - _BOTTOM}", class_="mark"))
    for number, points in enumerate(lines.values(), start=1):
        places = [(_text(to_x(x)), _text(to_y(y))) for x, y in points]
        path = "M" + "L".join(f"{x} {y}" for x, y in places)
        drawn.append(tag("path", d=path, class_=f"line line{number}"))
        if len(points) <= _DOTS:
            dots = [tag("circle", cx=x, cy=y, r="2.6", class_=f"dot{number}") for x, y in places]
            drawn += dots
    legend = [
        tag("li", tag("span", class_=f"key key{number}"), name)
        for number, name in enumerate(lines, start=1)
    ]
    if marked is not None:
        legend.append(tag("li", tag("span", class_="key keymark"), mark))
    described = f"{title}: " + "; ".join(
        f"{name} {_spoken(points[0][1])} → {_spoken(points[-1][1])}"
        for name, points in lines.items()
    )
    svg = tag(
        "svg",
        tag("title", described),
        *drawn,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=described,
    )
    return tag("figure", tag("figcaption", title), tag("ul", *legend, class_="legend"), svg)


def scatter_chart(
    title: str, across: str, points: Points, line: str, ends: Callable[[float], float]
) -> Html:
    """Return a chart of points, and of the line on which right predictions are; empty without any
    point.

    Args:
        title: title of the chart.
        across: label of the horizontal axis.
        points: (x, y).
        line: name of the line in the legend.
        ends: x -> y of the line.
    """
    if not points:
        return Html("")
    columns = _ticks([x for x, _ in points])
    rows = _ticks([y for _, y in points])
    to_x = _scale(columns[0], columns[-1], _LEFT, _WIDTH - _RIGHT)
    to_y = _scale(rows[0], rows[-1], _HEIGHT - _BOTTOM, _TOP)
    dots = [
        tag("circle", cx=_text(to_x(x)), cy=_text(to_y(y)), r="2.6", class_="dot1")
        for x, y in points
    ]
    # The line is cut at the edges of the chart.
    steps = [columns[0] + i / 200 * (columns[-1] - columns[0]) for i in range(201)]
    inside = [(x, ends(x)) for x in steps if rows[0] <= ends(x) <= rows[-1]]
    drawn = [_grid(columns, rows, to_x, to_y, across), tag("g", *dots, class_="points")]
    if inside:
        (left, low), (right, high) = inside[0], inside[-1]
        path = f"M{_text(to_x(left))} {_text(to_y(low))}L{_text(to_x(right))} {_text(to_y(high))}"
        drawn.append(tag("path", d=path, class_="mark"))
    svg = tag(
        "svg",
        tag("title", title),
        *drawn,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=title,
    )
    legend = tag("ul", tag("li", tag("span", class_="key keyline"), line), class_="legend")
    return tag("figure", tag("figcaption", title), legend, svg)


def _grid(columns: Sequence[float], rows: Sequence[float], to_x, to_y, across: str) -> Html:
    low, high = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    marks = []
    for value, label in zip(rows, _labels(rows), strict=True):
        y = to_y(value)
        marks.append(tag("path", d=f"M{_LEFT} {_text(y)}H{high}", class_="grid"))
        marks.append(tag("text", label, x=_LEFT - 6, y=_text(y + 4), text_anchor="end"))
    for value, label in zip(columns, _labels(columns), strict=True):
        marks.append(tag("text", label, x=_text(to_x(value)), y=low + 17, text_anchor="middle"))
    middle = (_LEFT + high) / 2
    marks.append(
        tag("text", across, x=_text(middle), y=_HEIGHT - 5, text_anchor="middle", class_="axis")
    )
    return tag("g", *marks)


def bar(share: float, description: str, kind: str = "line1") -> Html:
    """Return a horizontal bar that fills a share, from 0 to 1, of the width of its place."""
    width = _text(100 * min(max(share, 0.0), 1.0))
    return tag(
        "svg",
        tag("rect", width=width, height="10", class_=f"fill {kind}"),
        viewBox="0 0 100 10",
        preserveAspectRatio="none",
        class_="bar",
        role="img",
        aria_label=description,
    )


def _ticks(values: Sequence[float], whole: bool = False) -> list[float]:
    """Return about five round numbers, from below the lowest value to above the highest."""
    low, high = min(values), max(values)
    if low == high and whole:
        return [low]
    if low == high:  # no number below 0 is shown if there is none
        low, high = max(low - 0.5, min(low, 0.0)), high + 0.5
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step *= next(f for f in (1, 2, 5, 10) if (high - low) / (step * f) <= 5)
    if whole:
        step = max(1, round(step))
    first, last = math.floor(low / step), math.ceil(high / step)
    if whole:  # the axis begins at the first epoch
        return [low, *(step * n for n in range(first + 1, last + 1) if step * n > low)]
    return [round(step * n, 12) for n in range(first, last + 1)]


def _labels(ticks: Sequence[float]) -> list[str]:
    """Return the texts of ticks, with as many decimals as tell them apart."""
    step = min((b - a for a, b in itertools.pairwise(ticks)), default=1.0)
    # A step is 1, 2 or 5 times a power of ten, so its first digit is its last.
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{value:,.{decimals}f}" for value in ticks]


def _scale(low: float, high: float, start: float, end: float):
    if low == high:  # a single epoch is in the middle
        return lambda value: (start + end) / 2
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _text(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _spoken(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
