"""Picture of an attention: which source tokens each target token looked at."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tfx_transformer.pictures.canvas import (
    INK,
    LARGEST,
    SIZE,
    drawable,
    em_width,
    new_figure,
    token_label,
    write,
)


def attention_map(
    path: str | os.PathLike,
    weights: np.ndarray,
    source_tokens: Sequence[str | bytes],
    target_tokens: Sequence[str | bytes],
    title: str = "",
) -> Path:
    """Draws which source tokens (columns) each target token (row) attended to.

    A space in a token is drawn as "␣", a byte that is not text as "\\x8c", and a character without
    a glyph as "U+D55C". Maps of up to 12 x 12 tokens also show the numbers.

    Args:
        path: the PNG to write; its folder exists.
        weights: float (target, source), each row sums to 1.
        source_tokens: one per column; bytes, or text (undecodable bytes by "surrogateescape").
        target_tokens: one per row, likewise.
        title: drawn above the map.

    Raises: ValueError if the weights do not fit the tokens, or a row does not sum to 1.
    """
    return write(path, _attention_figure, weights, source_tokens, target_tokens, title)


def _attention_figure(
    weights: np.ndarray,
    source_tokens: Sequence[str | bytes],
    target_tokens: Sequence[str | bytes],
    title: str,
) -> Figure:
    weights = np.asarray(weights, dtype=np.float64)
    shape = (len(target_tokens), len(source_tokens))
    if weights.shape != shape or 0 in shape:
        raise ValueError(
            f"attention_map: the weights have shape {weights.shape}, the tokens ask for {shape}.\n"
            "  Expected float (target, source): one row per target token, one column per source\n"
            "  token, at least one of each. Average over the heads and cut the padding first."
        )
    sums = weights.sum(axis=1)
    if not np.allclose(sums, 1, atol=0.02):  # bfloat16 rounds to 3 digits
        row = int(np.argmax(np.where(np.isfinite(sums), abs(sums - 1), np.inf)))
        raise ValueError(
            f"attention_map: row {row} of the weights sums to {sums[row]:.3g}, not to 1.\n"
            "  Expected one distribution over the source per target token: weights after the\n"
            "  softmax, averaged (not summed) over the heads, not transposed."
        )

    rows, columns = shape
    width = float(np.clip(1.6 + 0.24 * columns, SIZE[0], LARGEST[0]))
    height = float(np.clip(1.6 + 0.24 * rows, SIZE[1], LARGEST[1]))
    figure = new_figure(width, height)
    axes = figure.add_subplot()
    axes.set_title(drawable(title), pad=14)
    axes.spines[:].set_visible(False)
    image = axes.imshow(weights, cmap="Blues", vmin=0, vmax=weights.max(), aspect="auto")
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("source", loc="left")
    axes.set_ylabel("target", loc="top")
    _label_tokens(
        axes, source_tokens, target_tokens, (width - 1.6) / columns, (height - 1.6) / rows
    )
    if rows <= 12 and columns <= 12:
        _write_numbers(axes, weights)
    else:
        bar = figure.colorbar(image, aspect=9 * height, pad=0.02, label="attention weight")
        bar.outline.set_visible(False)
    return figure


def _label_tokens(
    axes: Axes,
    source_tokens: Sequence[str | bytes],
    target_tokens: Sequence[str | bytes],
    cell_width: float,
    cell_height: float,
) -> None:
    """Writes the tokens along both axes; every second, third, ... where they would overlap.

    `cell_width` and `cell_height` are in inches.
    """
    line = 0.14  # inches from one line of small text to the next
    across = range(0, len(source_tokens), int(np.ceil(line / cell_width)))
    down = range(0, len(target_tokens), int(np.ceil(line / cell_height)))
    above = [token_label(source_tokens[i]) for i in across]
    size = 8 if min(cell_width, cell_height) < 0.22 else 10
    upright = max(map(em_width, above)) * size / 72 > 0.9 * cell_width
    axes.set_xticks(across, above, fontsize=size, color=INK, rotation=90 if upright else 0)
    axes.set_yticks(down, [token_label(target_tokens[i]) for i in down], fontsize=size, color=INK)


def _write_numbers(axes: Axes, weights: np.ndarray) -> None:
    dark = 0.68 * weights.max()  # where white has more contrast to the colour map than black
    for (row, column), weight in np.ndenumerate(weights):
        words = f"{weight:.2f}" if weight >= 0.005 else "0"
        color = "white" if weight > dark else "#111111"
        axes.text(column, row, words, ha="center", va="center", fontsize=8.5, color=color)
