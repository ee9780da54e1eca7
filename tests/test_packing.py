"""Packing against a plain best-fit decreasing, the best packing there is, and rows by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfx_transformer.data.packing import Example, pack, packed_rows, padded_length

some_lengths = st.integers(1, 40).flatmap(
    lambda longest: st.tuples(st.lists(st.integers(1, longest), max_size=80), st.just(longest))
)


def loads_of(rows, lengths):
    return [sum(lengths[i] for i in row) for row in rows]


def first_fit(lengths, max_length):
    """Loads of the rows if each example goes into the first row that has room."""
    loads = []
    for length in lengths:
        place = next((i for i, load in enumerate(loads) if load + length <= max_length), None)
        if place is None:
            loads.append(length)
        else:
            loads[place] += length
    return loads


def best_fit_decreasing(lengths, max_length):
    """As `first_fit`, by looking at all rows for the fullest that has room."""
    loads = []
    for length in sorted(lengths, reverse=True):
        fits = [load for load in loads if load + length <= max_length]
        if fits:
            loads.remove(max(fits))
        loads.append(max(fits, default=0) + length)
    return loads


def fewest_rows(lengths, max_length):
    """By trying all ways."""
    best = len(lengths)

    def place(index, loads):
        nonlocal best
        if len(loads) >= best:
            return
        if index == len(lengths):
            best = len(loads)
            return
        for load in {*loads}:
            if load + lengths[index] <= max_length:
                rest = list(loads)
                rest.remove(load)
                place(index + 1, [*rest, load + lengths[index]])
        place(index + 1, [*loads, lengths[index]])

    place(0, [])
    return best


@given(some_lengths, st.integers(0, 2**32))
def test_every_example_stands_in_one_row_that_holds_it(both, seed):
    lengths, longest = both
    rows = pack(lengths, longest, seed)
    assert sorted(itertools.chain(*rows)) == list(range(len(lengths)))
    assert all(len(row) and row.dtype == np.int64 for row in rows)
    assert max(loads_of(rows, lengths), default=0) <= longest
    again = pack(lengths, longest, seed)
    assert [row.tolist() for row in rows] == [row.tolist() for row in again]


@given(some_lengths, st.integers(0, 9))
def test_rows_are_those_of_best_fit_decreasing(both, seed):
    lengths, longest = both
    loads = loads_of(pack(lengths, longest, seed), lengths)
    assert sorted(loads) == sorted(best_fit_decreasing(lengths, longest))


@given(st.lists(st.integers(1, 10), min_size=1, max_size=7))
@settings(max_examples=50)
def test_rows_are_hardly_more_than_the_fewest(lengths):
    # In general at most 11/9 as many and 4 (Johnson 1974); all lists like these were tried once.
    assert len(pack(lengths, 10)) <= fewest_rows(lengths, 10) + 1


def test_by_hand():
    assert loads_of(pack([2, 3, 3, 2], 5), [2, 3, 3, 2]) == [5, 5]
    # Decreasing: 7, 6, 4, 3; the 4 fits best beside the 6, the 3 beside the 7.
    lengths = [3, 7, 4, 6]
    assert sorted(sorted(row.tolist()) for row in pack(lengths, 10)) == [[0, 1], [2, 3]]
    assert pack([], 5) == []
    assert [row.tolist() for row in pack([5], 5)] == [[0]]


@pytest.mark.parametrize("shape", ["short", "long tail", "near the limit"])
def test_many_examples_leave_little_room(shape):
    random = np.random.default_rng(0)
    lengths = {
        "short": random.integers(10, 60, 3000),
        "long tail": np.minimum(random.geometric(1 / 80, 3000), 256),
        "near the limit": random.integers(60, 256, 3000),
    }[shape]
    rows = pack(lengths, 256)
    assert len(rows) <= len(first_fit(lengths.tolist(), 256))
    used = lengths.sum() / (256 * len(rows))
    assert used > (0.9 if shape == "near the limit" else 0.99)


def test_100_000_examples():
    lengths = np.minimum(np.random.default_rng(1).geometric(1 / 300, 100_000), 2048)
    rows = pack(lengths, 2048)
    counts = np.bincount(np.concatenate(rows), minlength=len(lengths))
    assert (counts == 1).all()
    assert lengths.sum() / (2048 * len(rows)) > 0.999


def test_the_seed_changes_who_meets_but_not_how_many():
    lengths = [5] * 40
    first, second = pack(lengths, 10, 0), pack(lengths, 10, 1)
    assert {*map(tuple, first)} != {*map(tuple, second)}
    assert len(first) == len(second) == 20


@pytest.mark.parametrize("lengths", [[0], [3, 6], [-1, 2]])
def test_lengths_that_cannot_be_packed(lengths):
    with pytest.raises(ValueError, match="from 1 to 5"):
        pack(lengths, 5)


# Rows


def example(*ids):
    ids = np.array(ids, "int32")
    return Example(ids[:-1], ids[1:], (ids[1:] % 2).astype("float32"))


def test_rows_by_hand():
    examples = [example(11, 12, 13), example(21, 22), example(31, 32, 33, 34, 35, 36, 37)]
    rows = packed_rows([[1, 0], [2]], examples, padding_id=9, length=8)
    assert rows.token_ids.tolist() == [[21, 11, 12, *[9] * 5], [31, 32, 33, 34, 35, 36, 9, 9]]
    assert rows.labels.tolist() == [[22, 12, 13, *[9] * 5], [32, 33, 34, 35, 36, 37, 9, 9]]
    assert rows.positions.tolist() == [[0, 0, 1, *[0] * 5], [0, 1, 2, 3, 4, 5, 0, 0]]
    assert rows.segment_ids.tolist() == [[1, 2, 2, *[0] * 5], [1, 1, 1, 1, 1, 1, 0, 0]]
    assert rows.weights.tolist() == [[0, 0, 1, *[0] * 5], [0, 1, 0, 1, 0, 1, 0, 0]]
    assert [array.dtype for array in rows] == ["int32"] * 4 + ["float32"]


def test_padding_stays_inside_the_limit():
    assert [padded_length(n, 20) for n in (1, 8, 9, 16, 17, 20)] == [8, 8, 16, 16, 20, 20]
    assert packed_rows([[0]], [example(*range(20))], 0, 19).token_ids.shape == (1, 19)
    empty = packed_rows([[0], []], [example(7, 8)], padding_id=3, length=2)
    assert empty.token_ids.tolist() == [[7, 3], [3, 3]] and not empty.weights[1].any()


@given(st.lists(st.lists(st.integers(1, 99), min_size=2, max_size=12), min_size=1, max_size=20))
def test_examples_can_be_read_back(texts):
    examples = [example(*ids) for ids in texts]
    rows = pack([len(e.token_ids) for e in examples], 13)
    packed = packed_rows(rows, examples, padding_id=0, length=13)
    for place, row in enumerate(rows):
        for segment, index in enumerate(row, start=1):
            here = packed.segment_ids[place] == segment
            ids = [*packed.token_ids[place][here][:1], *packed.labels[place][here]]
            assert ids == texts[index]
            assert packed.token_ids[place][here].tolist() == texts[index][:-1]
            assert packed.positions[place][here].tolist() == list(range(here.sum()))
            assert packed.weights[place][here].tolist() == examples[index].weights.tolist()
    padding = packed.segment_ids == 0
    assert padding.sum() == padding.size - sum(len(ids) - 1 for ids in texts)
    for array in packed:
        assert not array[padding].any()
