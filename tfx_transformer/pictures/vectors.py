"""Pictures of vectors: a map, and a matrix of their similarities."""

import os
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tfx_transformer.pictures.canvas import (
    COLORS,
    HALO,
    INK,
    LARGEST,
    QUIET,
    Picture,
    drawable,
    em_width,
    new_figure,
    shorten,
    write,
)
from tfx_transformer.pictures.grid import draw_cells, every, side, write_numbers
from tfx_transformer.reprs import quantity

MARKERS = ("o", "s", "^", "D", "v", "P")
_WIDEST_NAME = 15  # in font sizes: 15 kanji, or 24 Latin letters
_FEW = 40  # points; more are drawn smaller, on a larger page

# Places of a name beside its point, the best first: shift in points, and the edges of the name that
# are shifted.
_PLACES = (
    (6, 0, "left", "center"),
    (-6, 0, "right", "center"),
    (0, 6, "center", "bottom"),
    (0, -6, "center", "top"),
    (5, 5, "left", "bottom"),
    (-5, 5, "right", "bottom"),
    (5, -5, "left", "top"),
    (-5, -5, "right", "top"),
)


def map_of_vectors(
    path: str | os.PathLike[str] | None,
    points: np.ndarray,
    names: Sequence[str],
    groups: Sequence[str] | None = None,
    title: str = "",
    share: Sequence[float] | None = None,
) -> Picture:
    """Draws vectors as points on a plane, with their names beside them.

    Both axes have the same scale, so that distances can be compared. A name is moved around its
    point until it covers neither a point nor another name; without room it is left out, and the
    picture says how many names fit.

    Args:
        path: the PNG to write, None to write none; its folder exists.
        points: float (n, 2), such as `vectors.principal_components` returns.
        names: one per point; "" for none.
        groups: one per point; each gets a colour and a line in the legend.
        title: drawn above the map.
        share: share of the variance along each axis, from 0 to 1.

    Raises: ValueError if there is no point, or names or groups are not one per point.
    """
    return write(path, _map_figure, points, names, groups, title, share)


def similarity_matrix(
    path: str | os.PathLike[str] | None, matrix: np.ndarray, names: Sequence[str], title: str = ""
) -> Picture:
    """Draws how similar each of n things is to each other, the first at the top left.

    Matrices of up to 12 things also show the numbers.

    Args:
        path: the PNG to write, None to write none; its folder exists.
        matrix: float (n, n), such as `vectors.cosine(x, x)`.
        names: one per row.

    Raises: ValueError if the matrix does not fit the names.
    """
    return write(path, _matrix_figure, matrix, names, title)


def _map_figure(
    points: np.ndarray,
    names: Sequence[str],
    groups: Sequence[str] | None,
    title: str,
    share: Sequence[float] | None,
) -> Figure:
    points = np.asarray(points, "float64")
    if not len(points) or points.shape != (len(names), 2):
        raise ValueError(
            f"map_of_vectors: the points have shape {points.shape}, with "
            f"{quantity(len(names), 'name')}.\n"
            "  Expected float (n, 2), n at least 1, and one name per point."
        )
    if groups is not None and len(groups) != len(points):
        raise ValueError(
            f"map_of_vectors: {quantity(len(points), 'point')} with "
            f"{quantity(len(groups), 'group')}.\n  Expected one group per point."
        )
    few = len(points) <= _FEW
    across, up = np.maximum(np.ptp(points, axis=0), 1e-12)
    width = 7.5 if few else 11.0
    figure = new_figure(width, width * float(np.clip(up / across, 0.55, 1.0)))
    axes = figure.add_subplot()
    axes.set_title(drawable(title))
    for label, axis, number in zip((axes.set_xlabel, axes.set_ylabel), "xy", (0, 1), strict=True):
        of_variance = "" if share is None else f" ({100 * share[number]:.0f} % of the variance)"
        label(f"component {number + 1}{of_variance}", loc="right" if axis == "x" else "top")
    axes.grid()
    axes.margins(0.12)
    axes.set_aspect("equal", adjustable="datalim")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
    colors = _scatter(axes, points, groups)
    if groups is not None:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    counted = axes.set_title(" ", loc="right", fontsize=9.5, color=QUIET)  # has its place by now
    figure.draw_without_rendering()  # fixes the layout, so that places are known
    figure.set_layout_engine("none")
    shown, wanted = _place_names(axes, points, names, colors)
    counted.set_text(f"{shown:,} of {wanted:,} names fit" if shown < wanted else "")
    return figure


def _scatter(axes: Axes, points: np.ndarray, groups: Sequence[str] | None) -> list[str]:
    """Draw the points, and return the colour of each."""
    size = 28 if len(points) <= _FEW else 16
    if groups is None:
        axes.scatter(*points.T, s=size, color=COLORS[0], edgecolor="white", linewidth=0.6)
        return [INK] * len(points)
    colors = []
    order = list(dict.fromkeys(groups))
    style = {
        group: (COLORS[n % len(COLORS)], MARKERS[n // len(COLORS) % len(MARKERS)])
        for n, group in enumerate(order)
    }
    for group in order:
        of_group = points[[g == group for g in groups]]
        color, marker = style[group]
        axes.scatter(
            *of_group.T,
            s=size,
            color=color,
            marker=marker,
            edgecolor="white",
            linewidth=0.6,
            label=name_label(group),
        )
    colors = [style[group][0] for group in groups]
    return colors


def _place_names(
    axes: Axes, points: np.ndarray, names: Sequence[str], colors: Sequence[str]
) -> tuple[int, int]:
    """Write each name that finds a free place; return how many were written, of how many."""
    pixels = axes.transData.transform(points)
    reach = 3 * axes.figure.dpi / 72
    taken = np.hstack([pixels - reach, pixels + reach])  # the points: left, bottom, right, top
    named = [index for index, name in enumerate(names) if name.strip()]
    shown = 0
    for index in named:
        text = axes.annotate(
            name_label(names[index]),
            points[index],
            textcoords="offset points",
            xytext=(0, 0),
            fontsize=9 if len(points) <= _FEW else 7.5,
            color=colors[index],
            path_effects=HALO,
        )
        extent = text.get_window_extent()
        others = np.delete(taken, index, axis=0)
        place = _free_place(axes, pixels[index], (extent.width, extent.height), others)
        if place is None:
            text.remove()
            continue
        (x, y, horizontal, vertical), box = place
        text.set(position=(x, y), horizontalalignment=horizontal, verticalalignment=vertical)
        taken = np.vstack([taken, box])
        shown += 1
    return shown, len(named)


def _free_place(axes: Axes, point, size, taken: np.ndarray):
    """Return the first of `_PLACES` where a name of this size is inside the axes and covers none of
    `taken`, and the name's box there (left, bottom, right, top, in pixels); None without one."""
    width, height = size
    page, dots = axes.get_window_extent(), axes.figure.dpi / 72
    for x, y, horizontal, vertical in _PLACES:
        left = point[0] + x * dots - width * {"left": 0, "center": 0.5, "right": 1}[horizontal]
        bottom = point[1] + y * dots - height * {"bottom": 0, "center": 0.5, "top": 1}[vertical]
        right, top = left + width, bottom + height
        overlaps = (left < taken[:, 2]) & (taken[:, 0] < right)
        overlaps &= (bottom < taken[:, 3]) & (taken[:, 1] < top)
        inside = page.x0 <= left and right <= page.x1 and page.y0 <= bottom and top <= page.y1
        if inside and not overlaps.any():
            return (x, y, horizontal, vertical), [left, bottom, right, top]
    return None


def name_label(name: str) -> str:
    """Return a name as a label beside a point: one line, nothing invisible, not too wide."""
    return shorten(drawable(" ".join(name.split())), _WIDEST_NAME)


def _matrix_figure(matrix: np.ndarray, names: Sequence[str], title: str) -> Figure:
    matrix = np.asarray(matrix, "float64")
    if not len(names) or matrix.shape != (len(names), len(names)):
        raise ValueError(
            f"similarity_matrix: the matrix has shape {matrix.shape}, with "
            f"{quantity(len(names), 'name')}."
        )
    labels = [name_label(name) for name in names]
    inches = side(len(names), 0.42)
    margin = 0.12 * max(map(em_width, labels))
    width, height = inches + margin + 1.1, inches + margin + 0.8  # with a colour bar, a title
    figure = new_figure(min(width, LARGEST[0]), min(height, LARGEST[1]))
    axes = figure.add_subplot()
    axes.set_title(drawable(title), pad=14)
    most = max(1e-12, np.abs(matrix).max())
    signed = matrix.min() < 0
    image = draw_cells(axes, matrix, "RdBu" if signed else "Blues", -most if signed else 0, most)
    axes.set_aspect("equal")
    ticks = every(len(names), inches)
    shown = [labels[tick] for tick in ticks]
    axes.set_xticks(ticks, shown, rotation=90, color=INK, fontsize=9)
    axes.set_yticks(ticks, shown, color=INK, fontsize=9)
    axes.xaxis.tick_top()
    if len(names) <= 12:
        write_numbers(axes, matrix, image, "{:.2f}")
    return figure
