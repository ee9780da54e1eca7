"""Picture of an attention: which tokens each token looked at."""

import os
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tfx_transformer.pictures.canvas import (
    INK,
    LARGEST,
    SIZE,
    Picture,
    drawable,
    em_width,
    new_figure,
    shorten,
    token_label,
    write,
)
from tfx_transformer.pictures.texts import say

# The most tokens that make up one or two characters.
_MOST_PARTS = 6


def attention_map(
    path: str | os.PathLike[str] | None,
    weights: np.ndarray,
    source_tokens: Sequence[str | bytes],
    target_tokens: Sequence[str | bytes],
    title: str = "",
    caption: str = "",
) -> Picture:
    """Draws which source tokens (columns) each target token (row) attended to.

    A space in a token is drawn as "␣", two tokens that together spell one character as "京 1/2" and
    "京 2/2", a byte that is not text as "\\x8c", and a character without a glyph as "U+D55C". Maps
    of up to 12 x 12 tokens also show the numbers.

    Args:
        path: the PNG to write, None to write none; its folder exists.
        weights: float (target, source), each row sums to 1.
        source_tokens: one per column; bytes, or text (undecodable bytes by "surrogateescape").
        target_tokens: one per row, likewise.
        title: drawn above the map.
        caption: small below the picture, such as the names of the model and its data.

    Raises: ValueError if the weights do not fit the tokens, or a row does not sum to 1.
    """
    return write(
        path, _attention_figure, weights, source_tokens, target_tokens, title, caption=caption
    )


def self_attention_map(
    path: str | os.PathLike[str] | None,
    weights: np.ndarray,
    tokens: Sequence[str | bytes],
    title: str = "",
    caption: str = "",
) -> Picture:
    """Draws which tokens of a text (columns) each of them (row) looks at, as `attention_map` does.

    Args:
        path: the PNG to write, None to write none; its folder exists.
        weights: float (length, length), each row sums to 1.
        tokens: tokens of the text.
        title: drawn above the map.
        caption: small below the picture, such as the names of the model and its data.

    Raises: ValueError as `attention_map` does.
    """
    sides = (say("looks at"), say("token"))
    return write(path, _attention_figure, weights, tokens, tokens, title, sides, caption=caption)


def _attention_figure(
    weights: np.ndarray,
    source_tokens: Sequence[str | bytes],
    target_tokens: Sequence[str | bytes],
    title: str,
    sides: tuple[str, str] = ("source", "target"),
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
    widest = 6 * (width - 1.2)  # of the title: six font sizes are an inch
    axes.set_title(shorten(drawable(title), widest), pad=14)
    axes.spines[:].set_visible(False)
    image = axes.imshow(weights, cmap="Blues", vmin=0, vmax=weights.max(), aspect="auto")
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel(sides[0], loc="left")
    axes.set_ylabel(sides[1], loc="top")
    _label_tokens(
        axes, source_tokens, target_tokens, (width - 1.6) / columns, (height - 1.6) / rows
    )
    if rows <= 12 and columns <= 12:
        _write_numbers(axes, weights)
    else:
        bar = figure.colorbar(image, aspect=9 * height, pad=0.02, label=say("attention weight"))
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
    sources, targets = _labels(source_tokens), _labels(target_tokens)
    above = [sources[i] for i in across]
    size = 8 if min(cell_width, cell_height) < 0.22 else 10
    upright = max(map(em_width, above)) * size / 72 > 0.9 * cell_width
    axes.set_xticks(across, above, fontsize=size, color=INK, rotation=90 if upright else 0)
    axes.set_yticks(down, [targets[i] for i in down], fontsize=size, color=INK)


def _labels(tokens: Sequence[str | bytes]) -> list[str]:
    """Return a readable label for each token; for part of a character, the character and which."""
    pieces, labels = list(map(_bytes, tokens)), list(map(token_label, tokens))
    for start in range(len(pieces)):
        for end in range(start + 2, min(start + _MOST_PARTS, len(pieces)) + 1):
            together = _text(b"".join(pieces[start:end]))
            if together and not any(map(_text, pieces[start:end])):
                parts = end - start
                labels[start:end] = [
                    f"{token_label(together)} {i + 1}/{parts}" for i in range(parts)
                ]
                break
    return labels


def _bytes(token: str | bytes) -> bytes:
    """Return a token in UTF-8; if it is not text, a byte that no character contains."""
    try:
        piece = token if isinstance(token, bytes) else token.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a pair of UTF-16
        return b"\xff"
    return piece or b"\xff"


def _text(piece: bytes) -> str:
    """Return the text that bytes spell in UTF-8; "" if they spell none."""
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return ""


def _write_numbers(axes: Axes, weights: np.ndarray) -> None:
    dark = 0.68 * weights.max()  # where white has more contrast to the colour map than black
    for (row, column), weight in np.ndenumerate(weights):
        words = f"{weight:.2f}" if weight >= 0.005 else "0"
        color = "white" if weight > dark else "#111111"
        axes.text(column, row, words, ha="center", va="center", fontsize=8.5, color=color)
