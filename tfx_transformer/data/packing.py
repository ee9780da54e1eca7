"""Packing of several examples into one row, so that little of a batch is padding."""

from __future__ import annotations

import bisect
import collections
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Rows are padded to a multiple of this, so that shapes repeat.
_LENGTH_STEP = 8


class Example(NamedTuple):
    """token_ids: int (length,), to read; labels: int (length,), the ids one step ahead, or float
    (length, n), other targets of a loss; weights: float (length,), of each label."""

    token_ids: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


class Rows(NamedTuple):
    """Packed examples, all (rows, length); int32, weights float32. Targets of several numbers are
    float32 (rows, length, n).

    positions: from 0 in each example; segment_ids: numbers of the examples, from 1 in each row, 0
    for padding; weights: 0 for padding.
    """

    token_ids: np.ndarray
    positions: np.ndarray
    segment_ids: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


def pack(lengths: Sequence[int], max_length: int, seed: int = 0) -> list[np.ndarray]:
    """Pack examples, uncut, into rows of at most `max_length` tokens.

    Best-fit decreasing (Ding et al. 2024, "Fewer Truncations Improve Language Modeling"): the
    longest example first, each into the row with the least room that is enough, else into a new
    one. Rows are kept by their room, so the one that fits best is found by bisection.

    Args:
        lengths: of the examples, each from 1 to `max_length`.
        seed: orders examples of the same length. The number of rows does not depend on it.

    Returns: int (examples in the row,) for each row, indices of its examples.

    Raises:
        ValueError: a length is out of range.
    """
    sizes = np.asarray(lengths, "int64")
    if len(sizes) and not 1 <= sizes.min() <= sizes.max() <= max_length:
        raise ValueError(f"lengths must be from 1 to {max_length}.")
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    rows: list[list[int]] = []
    open_rows: dict[int, list[int]] = collections.defaultdict(list)  # by their room
    rooms: list[int] = []  # the keys of open_rows, ascending
    for index, length in zip(order.tolist(), sizes[order].tolist(), strict=True):
        place = bisect.bisect_left(rooms, length)
        if place == len(rooms):
            row, room = len(rows), max_length
            rows.append([])
        else:
            room = rooms[place]
            row = open_rows[room].pop()
            if not open_rows[room]:
                del open_rows[room], rooms[place]
        rows[row].append(index)
        if room := room - length:
            if room not in open_rows:
                bisect.insort(rooms, room)
            open_rows[room].append(row)
    return [np.array(row) for row in rows]


def padded_length(longest: int, max_length: int) -> int:
    """Return the length of a batch whose longest row has `longest` tokens."""
    return min(-(-longest // _LENGTH_STEP) * _LENGTH_STEP, max_length)


def packed_rows(
    rows: Sequence[Sequence[int]], examples: Sequence[Example], padding_id: int, length: int
) -> Rows:
    """Return the arrays of packed rows, padded at the end.

    Args:
        rows: indices of the examples of each row, as `pack` returns them.
        examples: all examples.
        padding_id: of `token_ids` and `labels`; other targets are padded with 0.
        length: of the arrays; no row has more tokens.
    """
    shape, own = (len(rows), length), examples[0].labels.shape[1:]
    packed = Rows(
        token_ids=np.full(shape, padding_id, "int32"),
        positions=np.zeros(shape, "int32"),
        segment_ids=np.zeros(shape, "int32"),
        labels=np.zeros((*shape, *own), "float32") if own else np.full(shape, padding_id, "int32"),
        weights=np.zeros(shape, "float32"),
    )
    for place, row in enumerate(rows):
        start = 0
        for segment, index in enumerate(row, start=1):
            example = examples[index]
            count = len(example.token_ids)
            here = (place, slice(start, start + count))
            packed.token_ids[here] = example.token_ids
            packed.positions[here] = np.arange(count)
            packed.segment_ids[here] = segment
            packed.labels[here] = example.labels
            packed.weights[here] = example.weights
            start += count
    return packed
