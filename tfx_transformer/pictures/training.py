"""Pictures of a training: loss per epoch, tokens per text."""

import os
from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from tfx_transformer.pictures.canvas import (
    COLORS,
    HALO,
    INK,
    QUIET,
    SIZE,
    Picture,
    drawable,
    new_figure,
    write,
)
from tfx_transformer.pictures.texts import say


def loss_curve(
    path: str | os.PathLike[str] | None,
    epochs: Sequence[Mapping[str, float]],
    best: int | None = None,
    caption: str = "",
) -> Picture:
    """Draws training and validation loss against the epoch, and marks the best epoch.

    A value that is missing, None or not finite is left out of its line.

    Args:
        path: the PNG to write, None to write none; its folder exists.
        epochs: one mapping per epoch with "epoch", "loss" and optionally "val_loss".
        best: "epoch" of the best epoch by another score; it is labelled "kept" if another epoch has
            a lower loss. None: the epoch of the lowest "val_loss", or of the lowest "loss" if no
            epoch was validated.
        caption: small below the picture, such as the names of the model and its data.

    Raises: ValueError if there is no epoch.
    """
    return write(path, _loss_figure, epochs, best, caption=caption)


def length_histogram(
    path: str | os.PathLike[str] | None,
    lengths: Mapping[str, Sequence[int]],
    limit: int | None = None,
    caption: str = "",
) -> Picture:
    """Draws how many texts have how many tokens: one panel per column, on one shared axis.

    Marked are the median and the 95th percentile, both as "the smallest length that at least
    50 % (95 %) of the texts do not exceed", and the limit with the share of texts longer than it.
    The axis may end after the 99th percentile; a note counts the texts beyond.

    Args:
        path: the PNG to write, None to write none; its folder exists.
        lengths: tokens per text, by column name.
        limit: where longer texts are truncated; None for no limit.
        caption: small below the picture, such as the names of the model and its data.

    Raises: ValueError if there is no column.
    """
    return write(path, _length_figure, lengths, limit, caption=caption)


def _loss_figure(epochs: Sequence[Mapping[str, float]], best: int | None = None) -> Figure:
    if not epochs:
        raise ValueError("loss_curve: there is no epoch to draw.")
    curves = {"training": _points(epochs, "loss"), "validation": _points(epochs, "val_loss")}
    curves = {name: points for name, points in curves.items() if points.size}
    first, last = epochs[0]["epoch"], epochs[-1]["epoch"]

    figure = new_figure(*SIZE)
    axes = figure.add_subplot()
    axes.set_title(say("Loss per epoch"))
    axes.set_xlabel(say("epoch"))
    axes.set_ylabel(say("loss"))
    axes.grid(axis="y")
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.set_xlim(first - 0.5, last + (0.02 * (last - first) or 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    for (name, (numbers, losses)), color in zip(curves.items(), COLORS, strict=False):
        marker = "o" if len(numbers) <= 40 else ""
        axes.plot(
            numbers, losses, label=name, color=color, marker=marker, markersize=3.5, linewidth=1.8
        )
    if curves:
        judged = "validation" if "validation" in curves else "training"
        numbers, losses = curves[judged]
        at = np.flatnonzero(numbers == best)
        index = int(at[0]) if at.size else int(np.argmin(losses))
        _mark_best(axes, curves, judged, index)
        _label_line_ends(axes, curves, judged, index, last)
    else:
        axes.set_yticks([])
        words = say("no epoch has a finite loss")
        axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center")
    return figure


def _points(epochs: Sequence[Mapping[str, float]], key: str) -> np.ndarray:
    """float (2, points): the epochs that have a finite value, and the values."""
    pairs = [(row["epoch"], row[key]) for row in epochs if row.get(key) is not None]
    points = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return points[:, np.isfinite(points[1])]


def _mark_best(axes: Axes, curves: Mapping[str, np.ndarray], judged: str, best: int) -> None:
    """Rings the best point of the judged curve, and writes its epoch and value beside it."""
    numbers, losses = curves[judged]
    epoch, loss = numbers[best], losses[best]
    color = COLORS[list(curves).index(judged)]
    axes.plot(
        epoch,
        loss,
        "o",
        label="best",
        color=color,
        markersize=9,
        markerfacecolor="white",
        markeredgewidth=2,
        zorder=5,
    )
    if best == len(losses) - 1:
        return  # the label of the line's end says it
    below = loss < np.interp(epoch, *curves["training"]) if "training" in curves else True
    left, right = axes.get_xlim()
    part = (epoch - left) / (right - left)
    side, shift = ("left", -5) if part < 0.2 else ("right", 5) if part > 0.8 else ("center", 0)
    kind = "best" if loss == losses.min() else "kept"
    axes.annotate(
        say(f"{kind}: {{loss}} at epoch {{epoch:.0f}}", loss=f"{loss:#.4g}", epoch=epoch),
        (epoch, loss),
        xytext=(shift, -10 if below else 10),
        textcoords="offset points",
        ha=side,
        va="top" if below else "bottom",
        path_effects=HALO,
        zorder=6,
    )
    bottom, top = axes.get_ylim()
    room = 0.1 * (top - bottom)  # for the words, where the best point is near the edge
    axes.set_ylim(min(bottom, loss - room * below), max(top, loss + room * (not below)))


def _label_line_ends(
    axes: Axes, curves: Mapping[str, np.ndarray], judged: str, best: int, last_epoch: float
) -> None:
    """Writes each curve's name and last value to the right of its end, in the curve's colour."""
    bottom, top = axes.get_ylim()
    line = 0.055 * (top - bottom)  # the height of one line of text
    heights = {name: losses[-1] for name, (_, losses) in curves.items()}
    lower, *upper = sorted(heights, key=lambda name: heights[name])
    for name in upper:
        overlap = max(0.0, line - (heights[name] - heights[lower]))
        heights[lower] -= overlap / 2
        heights[name] += overlap / 2
    for (name, (numbers, losses)), color in zip(curves.items(), COLORS, strict=False):
        shown = {"name": say(name), "loss": f"{losses[-1]:#.4g}"}
        words = "{name} {loss}".format(**shown)
        if numbers[-1] != last_epoch:
            words = say("{name} {loss} at epoch {epoch:.0f}", **shown, epoch=numbers[-1])
        if name == judged and best == len(losses) - 1:
            words += say(" (best)" if losses[-1] == losses.min() else " (kept)")
        axes.annotate(
            words,
            (numbers[-1], heights[name]),
            xytext=(9, 0),
            textcoords="offset points",
            color=color,
            va="center",
            path_effects=HALO,
            annotation_clip=False,
        )


def _length_figure(lengths: Mapping[str, Sequence[int]], limit: int | None) -> Figure:
    if not lengths:
        raise ValueError("length_histogram: there is no column to draw.")
    columns = {name: np.asarray(values, dtype=np.int64) for name, values in lengths.items()}
    end = _longest_shown([values for values in columns.values() if values.size], limit)
    width = end // 60 + 1  # whole tokens per bar, at most 60 bars
    edges = np.arange(0, end + width + 1, width) - 0.5  # whole numbers are in the middle of bars

    height = max(SIZE[1] / len(columns), 2.0)
    figure = new_figure(SIZE[0], height * len(columns))
    panels = figure.subplots(len(columns), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, values), color in zip(panels, columns.items(), cycle(COLORS), strict=False):
        axes.hist(values, edges, color=color, alpha=0.55, edgecolor="white", linewidth=0.5)
        axes.grid(axis="y")
        axes.set_ylabel(say("texts"))
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        line = 0.2 / (height - 0.7)  # the height of one line of text, as a part of the panel's
        axes.set_ylim(0, max(axes.dataLim.ymax, 1) / (0.97 - 3 * line))  # the words stand above
        axes.set_title(drawable(name))
        axes.set_title(_count_texts(values, edges[-1]), loc="right", fontsize=9.5, color=QUIET)
        _mark_lengths(axes, values, limit, edges[-1], line)
    panels[-1].set_xlim(edges[0], edges[-1])
    panels[-1].set_xlabel(say("tokens per text"))
    panels[-1].xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], integer=True))
    return figure


def _longest_shown(columns: Sequence[np.ndarray], limit: int | None) -> int:
    """Return the end of the axis: a few very long texts or a far limit must not squeeze all the
    others."""
    if not columns:
        return limit or 1
    longest = max(int(values.max()) for values in columns)
    usual = max(int(1.1 * np.percentile(values, 99)) + 1 for values in columns)
    end = longest if longest <= 1.5 * usual else usual
    if limit is not None and limit <= 3 * end:
        end = max(end, int(1.4 * limit))  # the words stand to the right of the line
    return end


def _count_texts(values: np.ndarray, end: float) -> str:
    words = say("1 text") if values.size == 1 else say("{count:,} texts", count=values.size)
    if values.size:
        words += say(", longest {longest:,}", longest=values.max())
    if beyond := int((values > end).sum()):
        words += say(" ({count:,} not shown)", count=beyond)
    return words


def _mark_lengths(
    axes: Axes, values: np.ndarray, limit: int | None, end: float, line: float
) -> None:
    """Draws median, 95th percentile and limit, each with its words to the right of its line."""
    marks = []  # (position, words, line style)
    if values.size:
        median, most = np.percentile(values, [50, 95], method="inverted_cdf")
        marks += [(median, say("median {length:,}", length=median), "-")]
        marks += [(most, f"95 % ≤ {most:,}", "-")]
    if limit is not None:
        # Half a token to the right: texts that just fit stay on the left.
        share = _share_above(values, limit)
        words = say("limit {limit:,}, {share} longer", limit=limit, share=share)
        marks.append((limit + 0.5, words, "--"))
    # Words run to the right, so each line further right ends lower and crosses none of them. A
    # limit beyond the axis has no line: its words are at the top, above the lines.
    ordered = sorted(marks, key=lambda mark: (mark[0] <= end, mark[0]))
    for row, (position, words, style) in enumerate(ordered):
        height = 0.97 - row * line
        beyond = position > end
        if not beyond:
            axes.axvline(position, 0, height, color=INK, linewidth=1.2, linestyle=style)
        axes.annotate(
            f"{words} →" if beyond else words,
            (1 if beyond else position, height),
            xycoords=axes.transAxes if beyond else axes.get_xaxis_transform(),
            xytext=(0 if beyond else 4, 0),
            textcoords="offset points",
            ha="right" if beyond else "left",
            va="top",
            path_effects=HALO,
        )


def _share_above(values: np.ndarray, limit: int) -> str:
    """Return the share as text; "none" only if it is 0."""
    longer = int((values > limit).sum())
    if not longer:
        return say("none")
    percent = 100 * longer / values.size
    return "< 0.1 %" if percent < 0.1 else f"{percent:.1f} %"
