"""The pictures that a run leaves behind: loss per epoch, tokens per text, attention.

Each public function draws one PNG at 150 dots per inch, writes it in one step (an interrupted run
leaves the old picture or the new one, never half of one) and returns its path. Matplotlib's object
interface only: no pyplot, no window, and the caller's rcParams are as they were.
"""

import functools
import importlib.util
import io
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from itertools import cycle
from pathlib import Path
from unicodedata import east_asian_width

import matplotlib.style
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

DPI = 150
SIZE = (7.0, 4.5)  # inches; an attention map of many tokens grows, up to LARGEST
LARGEST = (16.0, 16.0)

# Okabe and Ito's palette: told apart with every common colour blindness.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
INK = "#333333"
QUIET = "#767676"
HALO = (withStroke(linewidth=3, foreground="white"),)

STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#BBBBBB",
    "axes.labelcolor": QUIET,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.titlesize": 12,
    "font.size": 9.5,
    "grid.color": "#E8E8E8",
    "text.color": INK,
    "text.parse_math": False,  # a token or a column name may hold "$"
    "xtick.color": QUIET,
    "xtick.major.size": 0,
    "ytick.color": QUIET,
    "ytick.major.size": 0,
}


def loss_curve(path: str | os.PathLike, epochs: Sequence[Mapping[str, float]]) -> Path:
    """Draws training and validation loss against the epoch, and marks the best epoch.

    The best epoch is the one of the lowest "val_loss", or of the lowest "loss" where no epoch was
    validated. A value that is missing, None or not finite is left out of its line.

    Args:
        path: the PNG to write; its folder exists.
        epochs: one mapping per epoch with "epoch", "loss" and optionally "val_loss".

    Raises: ValueError if there is no epoch.
    """
    return _write(path, _loss_figure, epochs)


def length_histogram(
    path: str | os.PathLike, lengths: Mapping[str, Sequence[int]], limit: int | None = None
) -> Path:
    """Draws how many texts have how many tokens: one panel per column, on one shared axis.

    Marked are the median and the 95th percentile, both as "the smallest length that at least
    50 % (95 %) of the texts do not exceed", and the limit with the share of texts longer than it.
    The axis may end after the 99th percentile; what lies beyond is told in words.

    Args:
        path: the PNG to write; its folder exists.
        lengths: tokens per text, by column name.
        limit: where longer texts are truncated; None for no limit.

    Raises: ValueError if there is no column.
    """
    return _write(path, _length_figure, lengths, limit)


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
    return _write(path, _attention_figure, weights, source_tokens, target_tokens, title)


def _write(path: str | os.PathLike, build: Callable[..., Figure], *arguments) -> Path:
    """Draws `build(*arguments)` to memory, then puts the finished PNG at `path` in one step."""
    path = Path(path)
    png = io.BytesIO()
    with _style():
        # The Software field would make the bytes depend on the version of Matplotlib.
        build(*arguments).savefig(png, format="png", metadata={"Software": None})
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_bytes(png.getvalue())
        os.replace(unfinished, path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise
    return path


def _style() -> AbstractContextManager:
    """Our rcParams over Matplotlib's own: the user's matplotlibrc does not change the picture."""
    families, _ = _fonts()
    return matplotlib.style.context(["default", STYLE, {"font.family": families}])


def _new_figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
    return figure


# Loss


def _loss_figure(epochs: Sequence[Mapping[str, float]]) -> Figure:
    if not epochs:
        raise ValueError("loss_curve: there is no epoch to draw.")
    curves = {"training": _points(epochs, "loss"), "validation": _points(epochs, "val_loss")}
    curves = {name: points for name, points in curves.items() if points.size}
    first, last = epochs[0]["epoch"], epochs[-1]["epoch"]

    figure = _new_figure(*SIZE)
    axes = figure.add_subplot()
    axes.set_title("Loss per epoch")
    axes.set_xlabel("epoch")
    axes.grid(axis="y")
    axes.set_xlim(first - 0.5, last + (0.02 * (last - first) or 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    for (name, (numbers, losses)), color in zip(curves.items(), COLORS, strict=False):
        marker = "o" if len(numbers) <= 40 else ""
        axes.plot(
            numbers, losses, label=name, color=color, marker=marker, markersize=3.5, linewidth=1.8
        )
    if curves:
        judged = "validation" if "validation" in curves else "training"
        _mark_best(axes, curves, judged)
        _label_line_ends(axes, curves, judged, last)
    else:
        axes.set_yticks([])
        words = "no epoch has a finite loss"
        axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center")
    return figure


def _points(epochs: Sequence[Mapping[str, float]], key: str) -> np.ndarray:
    """float (2, points): the epochs that have a finite value, and the values."""
    pairs = [(row["epoch"], row[key]) for row in epochs if row.get(key) is not None]
    points = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return points[:, np.isfinite(points[1])]


def _mark_best(axes: Axes, curves: Mapping[str, np.ndarray], judged: str) -> None:
    """Rings the lowest point of the judged curve, and writes its epoch and value beside it."""
    numbers, losses = curves[judged]
    best = int(np.argmin(losses))
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
    axes.annotate(
        f"best: {loss:#.4g} at epoch {epoch:.0f}",
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
    axes: Axes, curves: Mapping[str, np.ndarray], judged: str, last_epoch: float
) -> None:
    """Writes each curve's name and last value to the right of its end, in the curve's colour."""
    bottom, top = axes.get_ylim()
    line = 0.055 * (top - bottom)  # the height of one line of text
    heights = {name: losses[-1] for name, (_, losses) in curves.items()}
    lower, *upper = sorted(heights, key=heights.get)
    for name in upper:
        overlap = max(0.0, line - (heights[name] - heights[lower]))
        heights[lower] -= overlap / 2
        heights[name] += overlap / 2
    for (name, (numbers, losses)), color in zip(curves.items(), COLORS, strict=False):
        words = f"{name} {losses[-1]:#.4g}"
        if numbers[-1] != last_epoch:
            words += f" at epoch {numbers[-1]:.0f}"
        if name == judged and losses[-1] == losses.min():
            words += " (best)"
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


# Lengths


def _length_figure(lengths: Mapping[str, Sequence[int]], limit: int | None) -> Figure:
    if not lengths:
        raise ValueError("length_histogram: there is no column to draw.")
    columns = {name: np.asarray(values, dtype=np.int64) for name, values in lengths.items()}
    end = _longest_shown([values for values in columns.values() if values.size], limit)
    width = end // 60 + 1  # whole tokens per bar, at most 60 bars
    edges = np.arange(0, end + width + 1, width) - 0.5  # a bar stands around its whole numbers

    height = max(SIZE[1] / len(columns), 2.0)
    figure = _new_figure(SIZE[0], height * len(columns))
    panels = figure.subplots(len(columns), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, values), color in zip(panels, columns.items(), cycle(COLORS), strict=False):
        axes.hist(values, edges, color=color, alpha=0.55, edgecolor="white", linewidth=0.5)
        axes.grid(axis="y")
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        line = 0.2 / (height - 0.7)  # the height of one line of text, as a part of the panel's
        axes.set_ylim(0, max(axes.dataLim.ymax, 1) / (0.97 - 3 * line))  # the words stand above
        axes.set_title(_drawable(name))
        axes.set_title(_counted(values, edges[-1]), loc="right", fontsize=9.5, color=QUIET)
        _mark_lengths(axes, values, limit, edges[-1], line)
    panels[-1].set_xlim(edges[0], edges[-1])
    panels[-1].set_xlabel("tokens per text")
    panels[-1].xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], integer=True))
    return figure


def _longest_shown(columns: Sequence[np.ndarray], limit: int | None) -> int:
    """Where the axis ends: a few endless texts or a far limit must not squeeze all the others."""
    if not columns:
        return limit or 1
    longest = max(int(values.max()) for values in columns)
    usual = max(int(1.1 * np.percentile(values, 99)) + 1 for values in columns)
    end = longest if longest <= 1.5 * usual else usual
    if limit is not None and limit <= 3 * end:
        end = max(end, int(1.4 * limit))  # the words stand to the right of the line
    return end


def _counted(values: np.ndarray, end: float) -> str:
    words = "1 text" if values.size == 1 else f"{values.size:,} texts"
    if values.size:
        words += f", longest {values.max():,}"
    if beyond := int((values > end).sum()):
        words += f" ({beyond:,} not shown)"
    return words


def _mark_lengths(
    axes: Axes, values: np.ndarray, limit: int | None, end: float, line: float
) -> None:
    """Draws median, 95th percentile and limit, each with its words to the right of its line."""
    marks = []  # (position, words, line style)
    if values.size:
        median, most = np.percentile(values, [50, 95], method="inverted_cdf")
        marks += [(median, f"median {median:,}", "-"), (most, f"95 % ≤ {most:,}", "-")]
    if limit is not None:
        # Half a token to the right: texts that just fit stay on the left.
        marks.append((limit + 0.5, f"limit {limit:,}, {_share_above(values, limit)} longer", "--"))
    # Words run to the right, so each line further right ends lower and crosses none of them.
    for row, (position, words, style) in enumerate(sorted(marks, key=lambda mark: mark[0])):
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
    """The share in words; "none" is said only where it is true."""
    longer = int((values > limit).sum())
    if not longer:
        return "none"
    percent = 100 * longer / values.size
    return "< 0.1 %" if percent < 0.1 else f"{percent:.1f} %"


# Attention


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
    figure = _new_figure(width, height)
    axes = figure.add_subplot()
    axes.set_title(_drawable(title), pad=14)
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
    above = [_token_label(source_tokens[i]) for i in across]
    size = 8 if min(cell_width, cell_height) < 0.22 else 10
    upright = max(map(_em_width, above)) * size / 72 > 0.9 * cell_width
    axes.set_xticks(across, above, fontsize=size, color=INK, rotation=90 if upright else 0)
    axes.set_yticks(down, [_token_label(target_tokens[i]) for i in down], fontsize=size, color=INK)


def _write_numbers(axes: Axes, weights: np.ndarray) -> None:
    dark = 0.68 * weights.max()  # where white has more contrast to the colour map than black
    for (row, column), weight in np.ndenumerate(weights):
        words = f"{weight:.2f}" if weight >= 0.005 else "0"
        color = "white" if weight > dark else "#111111"
        axes.text(column, row, words, ha="center", va="center", fontsize=8.5, color=color)


def _token_label(token: str | bytes) -> str:
    """A token as it can be read on an axis: nothing invisible, at most 18 characters."""
    if isinstance(token, bytes):
        token = token.decode("utf-8", "surrogateescape")
    label = _drawable(token).replace(" ", "␣")
    return label if len(label) <= 18 else label[:17] + "…"


def _em_width(text: str) -> float:
    """About how wide a text is, in font sizes: a kanji is 1, a Latin letter about 0.62."""
    return sum(1.0 if east_asian_width(character) in "WF" else 0.62 for character in text)


# Fonts


@functools.cache
def _fonts() -> tuple[list[str], frozenset[int]]:
    """The font families to draw with, and the code points that one of them has a glyph for.

    Matplotlib brings DejaVu Sans; Japanese is IPAexGothic from the package matplotlib-fontja. Its
    file is found without importing the package, since that import changes the global rcParams.
    """
    families = ["DejaVu Sans"]
    files = [font_manager.findfont("DejaVu Sans")]
    package = importlib.util.find_spec("matplotlib_fontja")
    if package is not None:
        file = Path(package.origin).parent / "fonts" / "ipaexg.ttf"
        font_manager.fontManager.addfont(file)
        families.append(font_manager.FontProperties(fname=file).get_name())
        files.append(file)
    return families, frozenset().union(*(font_manager.get_font(f).get_charmap() for f in files))


def _drawable(text: str) -> str:
    """The text with every character that has no picture of its own spelled out."""
    _, glyphs = _fonts()
    return "".join(
        character if character.isprintable() and ord(character) in glyphs else _spelled(character)
        for character in text
    )


def _spelled(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that "surrogateescape" carried through
        return f"\\x{code - 0xDC00:02x}"
    if character in "\t\n\r":
        return repr(character)[1:-1]
    return f"U+{code:04X}"
