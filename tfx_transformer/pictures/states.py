"""Pictures of the inside of a model: states, key/value caches, changed weights."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tfx_transformer.pictures.canvas import (
    COLORS,
    INK,
    LARGEST,
    SIZE,
    Picture,
    drawable,
    new_figure,
    token_label,
    write,
)
from tfx_transformer.pictures.grid import draw_cells, every, side, write_numbers
from tfx_transformer.vectors import unit


def states_by_layer(
    path: str | os.PathLike[str] | None,
    states: Sequence[np.ndarray],
    tokens: Sequence[str],
    title: str = "",
) -> Picture:
    """Draws how far each layer turns each token's vector, in degrees.

    Args:
        path: the PNG to write, None to write none; its folder exists.
        states: num_layers + 1 arrays, float (length, hidden_dim), of `models.states.hidden_states`.
        tokens: `length` of them.

    Raises: ValueError if there is no layer, or the states do not fit the tokens.
    """
    return write(path, _states_figure, states, tokens, title)


def cache_growth(
    path: str | os.PathLike[str] | None,
    keys: np.ndarray,
    values: np.ndarray,
    tokens: Sequence[str],
    title: str = "",
) -> Picture:
    """Draws the key/value cache of a generation: one row per step, one column per slot; the colour
    is the length of the slot's key (value), the mean over layers; an empty slot is white.

    Args:
        path: the PNG to write, None to write none; its folder exists.
        keys, values: float (steps, layers, slots), of `models.states.cache_states`.
        tokens: one per slot.

    Raises: ValueError if the arrays do not fit each other or the tokens.
    """
    return write(path, _cache_figure, keys, values, tokens, title)


def weight_changes(
    path: str | os.PathLike[str] | None, table: Sequence[Mapping[str, Any]], title: str = ""
) -> Picture:
    """Draws how much training changed each part of a model: |after - before| / |before| over all
    weights of the part (of a block: its attention, its feed-forward layer, their norms). A part
    that was all zeros before is left out.

    Args:
        path: the PNG to write, None to write none; its folder exists.
        table: rows with path, norm and euclidean, of `models.states.weight_distance`.

    Raises: ValueError if there is no part.
    """
    changes = {
        part: (sum(row["euclidean"] ** 2 for row in rows) / was) ** 0.5
        for part, rows in _parts(table).items()
        if (was := sum(row["norm"] ** 2 for row in rows))
    }
    _check_parts("weight_changes", changes)
    return write(path, _bars_figure, changes, title, "|after − before| / |before|")


def weight_sizes(
    path: str | os.PathLike[str] | None, table: Sequence[Mapping[str, Any]], title: str = ""
) -> Picture:
    """Draws the size of the weights of each part of a model: their root mean square.

    Args:
        path: the PNG to write, None to write none; its folder exists.
        table: rows with path, shape and norm, of `models.states.weight_norms`.

    Raises: ValueError if there is no part.
    """
    sizes = {
        part: (sum(r["norm"] ** 2 for r in rows) / sum(math.prod(r["shape"]) for r in rows)) ** 0.5
        for part, rows in _parts(table).items()
    }
    _check_parts("weight_sizes", sizes)
    return write(path, _bars_figure, sizes, title, "root mean square of the weights")


def _states_figure(states: Sequence[np.ndarray], tokens: Sequence[str], title: str) -> Figure:
    states = [np.asarray(state, "float64") for state in states]
    if len(states) < 2 or any(state.shape != (len(tokens), state.shape[-1]) for state in states):
        raise ValueError(
            f"states_by_layer: {len(tokens)} tokens have states of shapes "
            f"{[state.shape for state in states]}.\n"
            "  Expected two arrays or more, each (tokens, hidden_dim)."
        )
    directions = np.array([unit(state) for state in states])
    turns = np.degrees(np.arccos(np.clip((directions[:-1] * directions[1:]).sum(axis=2), -1, 1))).T
    rows, columns = turns.shape
    width, height = max(SIZE[0], side(columns, 0.5)), side(rows, 0.26)
    figure = new_figure(width, min(height + 1.2, LARGEST[1]))
    axes = figure.add_subplot()
    axes.set_title(drawable(title) or "How far each layer turns each token's vector", pad=14)
    image = draw_cells(axes, turns, "Blues", 0, max(turns.max(), 1e-12), "degrees")
    axes.set_xlabel("layer", loc="left")
    axes.xaxis.set_label_position("top")
    axes.xaxis.tick_top()
    across = every(columns, width)
    axes.set_xticks(across, [str(layer + 1) for layer in across], color=INK)
    down = every(rows, height)
    axes.set_yticks(down, [token_label(tokens[row]) for row in down], color=INK, fontsize=9)
    if rows <= 16 and columns <= 12:
        write_numbers(axes, turns, image, "{:.0f}")
    return figure


def _cache_figure(
    keys: np.ndarray, values: np.ndarray, tokens: Sequence[str], title: str
) -> Figure:
    keys, values = np.asarray(keys, "float64"), np.asarray(values, "float64")
    if keys.shape != values.shape or keys.ndim != 3 or keys.shape[2] != len(tokens):
        raise ValueError(
            f"cache_growth: keys {keys.shape}, values {values.shape}, {len(tokens)} tokens.\n"
            "  Expected float (steps, layers, slots), twice, and one token per slot."
        )
    steps, _, slots = keys.shape
    width, height = max(SIZE[0], side(slots, 0.24)), side(steps, 0.16)
    figure = new_figure(width, min(2 * height + 1.6, LARGEST[1]))
    figure.suptitle(drawable(title), x=0.02, ha="left", fontsize=12)
    upper, lower = figure.subplots(2, 1, sharex=True)
    for axes, name, norms in ((upper, "keys", keys), (lower, "values", values)):
        mean = norms.mean(axis=1)
        shown = np.ma.masked_equal(mean, 0)
        axes.set_title(name)
        draw_cells(axes, shown, "viridis_r", 0, max(mean.max(), 1e-12), "length")
        axes.set_ylabel("step", loc="top")
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_formatter(lambda step, _: f"{step + 1:.0f}")
    across = every(slots, width)
    lower.set_xticks(
        across, [token_label(tokens[slot]) for slot in across], rotation=90, color=INK, fontsize=8
    )
    lower.set_xlabel("slot of the cache", loc="left")
    return figure


def _parts(table: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of each part: decoder/block_3/attention holds decoder/block_3/attention/query/kernel
    and its neighbours, in the table's order."""
    parts: dict[str, list[Mapping[str, Any]]] = {}
    for row in table:
        names = row["path"].split("/")
        depth = 3 if len(names) > 3 else max(1, len(names) - 1)
        parts.setdefault("/".join(names[:depth]), []).append(row)
    return parts


def _check_parts(name: str, values: Mapping[str, float]) -> None:
    if not values:
        raise ValueError(
            f"{name}: the table has no part to draw.\n"
            "  Expected a weight or more, not all zeros before the training."
        )


def _bars_figure(values: Mapping[str, float], title: str, meaning: str) -> Figure:
    kinds = list(dict.fromkeys(part.rpartition("/")[2] for part in values))
    colors = [COLORS[kinds.index(part.rpartition("/")[2]) % len(COLORS)] for part in values]
    rows = range(len(values))
    size = 9 if len(values) <= 60 else 6

    figure = new_figure(SIZE[0], float(np.clip(1.2 + 0.2 * len(values), 2.5, LARGEST[1])))
    axes = figure.add_subplot()
    axes.set_title(drawable(title))
    axes.set_xlabel(meaning, loc="right")
    axes.grid(axis="x")
    axes.barh(rows, values.values(), color=colors, height=0.7)
    axes.set_yticks(rows, map(drawable, values), color=INK, fontsize=size)
    for row, value in enumerate(values.values()):
        axes.annotate(
            f"{value:.2g}",
            (value, row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=size,
        )
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.margins(x=0.12)
    return figure
