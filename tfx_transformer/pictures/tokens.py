"""Picture of tokens: the same texts cut by several tokenizers, one below the other."""

import os
import re
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text

from tfx_transformer.pictures.canvas import (
    COLORS,
    DPI,
    INK,
    LARGEST,
    QUIET,
    Picture,
    drawable,
    token_label,
    write,
)
from tfx_transformer.reprs import quantity

Row = tuple[Sequence[bytes], int]

# Inches.
_WIDTH = 10.0
_MARGIN = 0.25
_COUNTS = 1.05  # room of "1,234 tokens" before the boxes
_LINE = 0.29
_BOX = 0.22
_HEADING = 0.28
_AFTER = 0.12  # a text's boxes
_PADDING = 0.045  # at either side of a box's label
_GAP = 0.03

_SIZE, _SMALL = 9.5, 7.5  # points
_LINES = 6  # of one text's boxes
_LONGEST = 200  # characters of a text

# The characters that errors="surrogateescape" makes of bytes that are not text.
_BYTES = re.compile("([\udc80-\udcff]+)")


def token_picture(
    path: str | os.PathLike[str] | None, rows: Mapping[str, Sequence[Row]], title: str = ""
) -> Picture:
    """Draws the texts, then their tokens as boxes, under the name of each tokenizer.

    A space is drawn as "␣". A token that holds part of a character is small and grey, and has that
    part's bytes in hexadecimal digits. A text gets at most six lines, fewer if there are many
    texts; a note counts the tokens left out.

    Args:
        path: the PNG to write, None to write none; its folder exists.
        rows: name of a tokenizer -> for each text the bytes of its first tokens, and the number of
            all its tokens.
        title: drawn above.

    Raises: ValueError if there is no text.
    """
    return write(path, _token_figure, rows, title)


def _token_figure(rows: Mapping[str, Sequence[Row]], title: str) -> Figure:
    if not any(rows.values()):
        raise ValueError("token_picture: there is no text to draw.")
    figure = Figure(figsize=(_WIDTH, LARGEST[1]), dpi=DPI)
    FigureCanvasAgg(figure)  # measures every label; without it each measurement makes a new one
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    _in_inches(axes, LARGEST[1])
    y = _MARGIN
    if title:
        axes.text(_MARGIN, y, drawable(title), va="top", fontsize=12, color=INK)
        y += _HEADING
    for tokens, _ in next(iter(rows.values())):
        _draw_words(axes, b"".join(tokens).decode(errors="replace"), y)
        y += _LINE
    y += _AFTER
    lines = round(LARGEST[1] / _LINE / sum(map(len, rows.values()))) - 1
    lines = min(max(lines, 1), _LINES)  # so that the picture stays below about `LARGEST`
    for name, texts in rows.items():
        axes.text(_MARGIN, y, drawable(name), va="top", fontsize=11, color=INK)
        y += _HEADING
        for tokens, count in texts:
            y = _draw_text(axes, tokens, count, y, lines) + _AFTER
        y += _AFTER
    height = y - 2 * _AFTER + _MARGIN
    figure.set_size_inches(_WIDTH, height)
    _in_inches(axes, height)
    return figure


def _in_inches(axes: Axes, height: float) -> None:
    """Set the coordinates of `axes` to inches from the upper left corner."""
    axes.set(xlim=(0, _WIDTH), ylim=(height, 0))


def _draw_words(axes: Axes, text: str, y: float) -> None:
    """Draws a text, cut to the width of the page."""
    shown = drawable(text[:_LONGEST])
    words = shown if len(text) <= _LONGEST else shown + "…"
    label = axes.text(_MARGIN, y + _BOX / 2, words, va="center_baseline", fontsize=_SIZE, color=INK)
    room = (_WIDTH - 2 * _MARGIN) * DPI
    while (width := label.get_window_extent().width) > room:
        shown = shown[: min(len(shown) - 1, int(len(shown) * room / width))]
        label.set_text(shown + "…")


def _draw_text(axes: Axes, tokens: Sequence[bytes], count: int, y: float, lines: int) -> float:
    """Draws one text's boxes from `y` down, in at most `lines`; returns where they end."""
    words = quantity(count, "token")
    left, right = _MARGIN + _COUNTS, _WIDTH - _MARGIN
    axes.text(
        left - 0.1, y + _BOX / 2, words, ha="right", va="center_baseline", fontsize=9, color=QUIET
    )
    x, line = left, 1
    for number, token in enumerate(tokens):
        label = _label(axes, token)
        width = label.get_window_extent().width / DPI + 2 * _PADDING
        # The last line keeps room for the note about the tokens left out.
        end = right - 1.2 if line == lines and number + 1 < count else right
        if x + width > end and x > left:
            if line == lines:
                label.remove()
                return _draw_rest(axes, count - number, x, y)
            x, y, line = left, y + _LINE, line + 1
        color = COLORS[number % len(COLORS)]
        box = FancyBboxPatch(
            (x, y),
            width,
            _BOX,
            boxstyle="round,pad=0,rounding_size=0.04",
            facecolor=_pale(color),
            edgecolor="none",
        )
        axes.add_patch(box)
        label.set_position((x + _PADDING, y + _BOX / 2))
        x += width + _GAP
    if len(tokens) < count:
        return _draw_rest(axes, count - len(tokens), x, y)
    return y + _BOX


def _label(axes: Axes, token: bytes) -> Text:
    words, size, color = token_label(token), _SIZE, "#111111"
    parts = _BYTES.split(token.decode(errors="surrogateescape"))
    if len(parts) > 1:
        parts[1::2] = [part.encode(errors="surrogateescape").hex(" ") for part in parts[1::2]]
        parts[::2] = map(token_label, parts[::2])
        words, size, color = " ".join(filter(None, parts)), _SMALL, "#555555"
    return axes.text(0, 0, words, va="center_baseline", fontsize=size, color=color)


def _draw_rest(axes: Axes, rest: int, x: float, y: float) -> float:
    words = f"… {rest:,} more"
    axes.text(x, y + _BOX / 2, words, va="center_baseline", fontsize=9, color=QUIET)
    return y + _BOX


def _pale(color: str) -> tuple[float, ...]:
    return tuple(1 - 0.32 * (1 - part) for part in to_rgb(color))
