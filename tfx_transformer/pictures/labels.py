"""Pictures of a classifier: the labels it confuses, and how far its probabilities are right."""

import os
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

from tfx_transformer.evaluation.labels import BINS, CalibrationBins, calibration_bins
from tfx_transformer.pictures.canvas import (
    COLORS,
    HALO,
    INK,
    LARGEST,
    QUIET,
    SIZE,
    Picture,
    drawable,
    em_width,
    new_figure,
    write,
)
from tfx_transformer.pictures.texts import say
from tfx_transformer.reprs import quantity

LONGEST_LABEL = 17.0  # font sizes: about 27 Latin letters or 17 kanji
# A mistake of one in a hundred must be visible next to rows without mistakes.
SHADE = PowerNorm(0.5, vmin=0, vmax=1)


def confusion_matrix(
    path: str | os.PathLike[str] | None,
    truth: np.ndarray,
    predicted: np.ndarray,
    names: Sequence[str],
    caption: str = "",
) -> Picture:
    """Draws how often each label (row) was predicted as each label (column).

    Right predictions are blue, wrong ones orange, the darker the larger their share of the row; a
    cell without any is white. Each cell shows its count, in matrices of up to 22 labels also its
    share; where the numbers would be too small to read only the colours are left. Long labels lose
    their middle, and a character without a glyph is drawn as "U+1FAE0".

    Args:
        path: the PNG to write, None to write none; its folder exists.
        truth, predicted: int (n,), ids from 0 to C - 1, in the same order.
        names: the C labels.
        caption: small below the picture, such as the names of the model and its data.

    Raises: ValueError if there is no example, an id is not a label, or the two differ in length.
    """
    return write(path, _confusion_figure, truth, predicted, names, caption=caption)


def calibration(
    path: str | os.PathLike[str] | None,
    probabilities: np.ndarray,
    truth: np.ndarray,
    caption: str = "",
) -> Picture:
    """Draws how often the predictions of each confidence were right (a reliability diagram).

    Above, one bar per fifteenth of the confidence (the highest probability of an example): the
    accuracy. If probabilities are right, the bars end on the diagonal; bars below it show that the
    model was too sure. A line from each bar to the diagonal is at the mean confidence of its bin;
    the mean length of these lines, weighted by examples, is the calibration error. Below, the
    number of examples in each bin.

    Args:
        path: the PNG to write, None to write none; its folder exists.
        probabilities: float (n, C).
        truth: int (n,), ids from 0 to C - 1.
        caption: small below the picture, such as the names of the model and its data.

    Raises: ValueError as `evaluation.score_labels` does.
    """
    return write(path, _calibration_figure, probabilities, truth, caption=caption)


def _confusion_figure(truth: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> Figure:
    counts = _counts(np.asarray(truth), np.asarray(predicted), len(names))
    labels = [_shorten(drawable(name)) for name in names]
    cell = min(11.5 / len(names), 0.85 if len(names) <= 4 else 0.62)  # inches
    font = float(np.clip(50 * cell, 6, 10))
    side = cell * len(names) + max(map(em_width, labels)) * font / 72
    figure = new_figure(*np.clip((side + 0.9, side + 1.2), SIZE, LARGEST))
    axes = figure.add_subplot()
    right, total = int(counts.trace()), int(counts.sum())
    title = "Accuracy {share:.1f} %: {right:,} of {total:,}"
    axes.set_title(say(title, share=100 * right / total, right=right, total=total), pad=14)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    colors = _cell_colors(shares)
    axes.imshow(colors)
    _draw_lines(axes, len(names))
    _label_axes(axes, labels, cell, font)
    _write_counts(axes, counts, shares, colors, cell)
    return figure


def _counts(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """int (C, C): how often a label (row) was predicted as each label (column)."""
    if truth.shape != predicted.shape or truth.ndim != 1 or not truth.size:
        raise ValueError(
            f"confusion_matrix: truth of shape {truth.shape}, predicted of {predicted.shape}.\n"
            "  Expected one id per example in both, and one example or more."
        )
    ids = np.concatenate([truth, predicted])
    if ids.min() < 0 or ids.max() >= classes:
        raise ValueError(
            f"confusion_matrix: ids from {ids.min()} to {ids.max()} do not fit "
            f"{quantity(classes, 'name')}.\n"
            f"  Expected ids from 0 to {classes - 1}."
        )
    cells = truth.astype(np.int64) * classes + predicted
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def _cell_colors(shares: np.ndarray) -> np.ndarray:
    """float (C, C, 4): blue on the diagonal, orange beside it, by the share of the row; none is
    white."""
    blue, orange = (
        matplotlib.colormaps[name](0.85 * SHADE(shares)) for name in ("Blues", "Oranges")
    )
    colors = np.where(np.eye(len(shares), dtype=bool)[..., None], blue, orange)
    colors[shares == 0] = 1
    return colors


def _draw_lines(axes: Axes, classes: int) -> None:
    """Draws light lines between the cells, and a frame around each cell of the diagonal."""
    axes.spines[:].set_visible(False)
    edges = np.arange(classes + 1) - 0.5
    width = min(1, 30 / classes)
    for draw in (axes.hlines, axes.vlines):
        draw(edges, -0.5, classes - 0.5, color="#E8E8E8", linewidth=width, clip_on=False)
    for corner in edges[:-1]:
        axes.add_patch(
            Rectangle(
                (corner, corner),
                1,
                1,
                fill=False,
                edgecolor=QUIET,
                linewidth=width,
                clip_on=False,
                zorder=3,  # above the lines
            )
        )


def _shorten(label: str) -> str:
    """The label, or its beginning and end: labels that differ at one end stay different."""
    if em_width(label) <= LONGEST_LABEL:
        return label
    start, end = len(label) // 2, len(label) - len(label) // 2
    while em_width(label[:start] + "…" + label[end:]) > LONGEST_LABEL:
        start, end = (start - 1, end) if start >= len(label) - end else (start, end + 1)
    return label[:start] + "…" + label[end:]


def _label_axes(axes: Axes, labels: Sequence[str], cell: float, font: float) -> None:
    """Writes the labels along both axes; every second, third, … where they would overlap."""
    shown = range(0, len(labels), int(np.ceil(1.15 * font / 72 / cell)))
    words = [labels[i] for i in shown]
    upright = max(map(em_width, words)) * font / 72 > 0.9 * cell
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel(say("predicted"), loc="left", labelpad=7)
    axes.set_ylabel(say("true"), loc="top", labelpad=7)
    axes.set_xticks(shown, words, fontsize=font, color=INK, rotation=90 if upright else 0)
    axes.set_yticks(shown, words, fontsize=font, color=INK)


def _write_counts(
    axes: Axes, counts: np.ndarray, shares: np.ndarray, colors: np.ndarray, cell: float
) -> None:
    """Writes each count, and its share if there is room; nothing if it would be too small."""
    with_share = cell > 0.5
    widest = max(em_width(f"{counts.max():,}"), em_width("100 %") if with_share else 0)
    font = min(0.92 * 72 * cell / widest, 9)
    if font < 4:
        return
    for row, column in np.argwhere(counts + np.eye(len(counts))):  # zeros on the diagonal only
        words = f"{counts[row, column]:,}"
        if with_share:
            words += f"\n{_percent(shares[row, column])}"
        color = "white" if _luminance(colors[row, column]) < 0.18 else "#111111"
        axes.text(column, row, words, ha="center", va="center", fontsize=font, color=color)


def _percent(share: float) -> str:
    """Return a share in whole percent; 0 and 100 only for none and all."""
    if 0 < share < 0.01:
        return "< 1 %"
    if 0.99 < share < 1:
        return "> 99 %"
    return f"{100 * share:.0f} %"


def _luminance(color: np.ndarray) -> float:
    """Relative luminance of sRGB, by the Web Content Accessibility Guidelines 2.1."""
    linear = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    return float(linear[:3] @ (0.2126, 0.7152, 0.0722))


def _calibration_figure(probabilities: np.ndarray, truth: np.ndarray) -> Figure:
    bins = calibration_bins(probabilities, truth)
    figure = new_figure(SIZE[0], 5.5)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.set_title(say("Calibration error {error:.1f} % (ECE)", error=100 * bins.error()))
    total = bins.count.sum()
    accuracy, confidence = (
        np.nan_to_num(part) @ bins.count / total for part in (bins.accuracy, bins.confidence)
    )
    words = say(
        "mean confidence {confidence:.1f} %, accuracy {accuracy:.1f} %",
        confidence=100 * confidence,
        accuracy=100 * accuracy,
    )
    above.set_title(words, loc="right", fontsize=9.5, color=QUIET)
    _draw_reliability(above, bins)
    _draw_bin_counts(below, bins.count)
    return figure


def _draw_reliability(axes: Axes, bins: CalibrationBins) -> None:
    left = np.arange(BINS) / BINS
    filled = bins.count > 0
    axes.bar(
        left[filled],
        bins.accuracy[filled],
        1 / BINS,
        align="edge",
        color=COLORS[0],
        alpha=0.55,
        edgecolor="white",
        label=say("accuracy"),
    )
    perfect = say("perfect calibration")
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle="--", label=perfect)
    axes.vlines(
        bins.confidence[filled],
        bins.accuracy[filled],
        bins.confidence[filled],
        color=COLORS[1],
        linewidth=2.5,
        clip_on=False,
        label=say("gap to the mean confidence"),
    )
    axes.grid(axis="y")
    axes.set_ylim(0, 1.03)
    axes.set_ylabel(say("share that is right"))
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.legend(loc="best", edgecolor="none")


def _draw_bin_counts(axes: Axes, counts: np.ndarray) -> None:
    middle = (np.arange(BINS) + 0.5) / BINS
    axes.bar(middle, counts, 1 / BINS, color=QUIET, alpha=0.45, edgecolor="white")
    axes.grid(axis="y")
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_ylim(0, 1.3 * counts.max())  # the numbers stand above the bars
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.tick_params(axis="x", pad=7)
    axes.set_xlabel(say("confidence: the highest probability"))
    axes.set_ylabel(say("examples"))
    for position, count in zip(middle, counts, strict=True):
        words = f"{count:,}" if count < 100_000 else f"{count / 1000:,.0f}k"
        axes.annotate(
            words,
            (position, count),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=7.5,
            color=INK if count else QUIET,
            path_effects=HALO,
        )
