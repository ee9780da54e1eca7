"""Pairs of sentences from a CSV to batches: scores, splits, and no text twice in a contrast."""

from __future__ import annotations

import collections
import csv
import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_transformer.data import (
    SentencePairs,
    describe_sentence_pairs,
    read_sentence_pairs,
    sentence_pairs,
    split_sentence_pairs,
)
from tfx_transformer.data.contrast_plan import ContrastPlan
from tfx_transformer.data.tables import BadRow
from tfx_transformer.errors import InputError
from tfx_transformer.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def letters():
    """A tokenizer without merges: a token is a byte."""
    return Tokenizer.train([], 259)


@pytest.fixture
def csv_file(tmp_path):
    """Writes pairs with their scores."""

    def write(*scores):
        path = tmp_path / "pairs.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            rows = [["a", "b", "s"]] + [[f"a{i}", f"猫{i}", s] for i, s in enumerate(scores)]
            csv.writer(file).writerows(rows)
        return path

    return write


def unscored(*pairs):
    first, second = (list(texts) for texts in zip(*pairs, strict=True))
    return SentencePairs(first, second, None, list(range(2, len(pairs) + 2)))


# Reading


def test_columns_are_mapped_by_name(csv_file):
    path = csv_file("NA", "", "3")
    read = read_sentence_pairs(path, "b", "a")
    assert (read.first, read.second) == (["猫0", "猫1", "猫2"], ["a0", "a1", "a2"])
    assert (read.scores, read.scale, read.rows, read.path) == (None, None, [2, 3, 4], str(path))
    assert read.columns == {"first": "b", "second": "a"}
    assert len(read) == 3
    assert read.texts() == ["猫0", "猫1", "猫2", "a0", "a1", "a2"]
    with pytest.raises(InputError, match="'sentence1'"):
        read_sentence_pairs(path)


def test_scores_become_a_share_of_their_scale(csv_file):
    path = csv_file("1", "2.5", "4", " 1e0 ")
    read = read_sentence_pairs(path, "a", "b", "s")
    assert (read.scores, read.scale) == ([0, 0.5, 1, 0], (1, 4))
    read = read_sentence_pairs(path, "a", "b", "s", lowest=0, highest=5)
    assert (read.scores, read.scale) == ([0.2, 0.5, 0.8, 0.2], (0, 5))
    read = read_sentence_pairs(path, "a", "b", "s", highest=7)
    assert (read.scores, read.scale) == ([0, 0.25, 0.5, 0], (1, 7))
    taken = read.take([2, 0])
    assert (taken.first, taken.second, taken.scores) == (["a2", "a0"], ["猫2", "猫0"], [0.5, 0])
    assert (taken.rows, taken.scale) == ([4, 2], (1, 7))


@pytest.mark.parametrize("cell", ["high", "3,5", "nan", "inf", "4 5"])
def test_a_score_that_is_no_number_is_named(csv_file, cell):
    path = csv_file("1", cell, "2")
    with pytest.raises(
        InputError, match=f"row 3: column 's' is not a number: '{cell}'.\n  Expected a"
    ):
        read_sentence_pairs(path, "a", "b", "s")
    read = read_sentence_pairs(path, "a", "b", "s", skip_bad_rows=True)
    assert (read.first, read.scores, read.rows) == (["a0", "a2"], [0, 1], [2, 4])
    [bad] = read.bad_rows
    assert (bad.row, bad.column, bad.values) == (3, "s", ("a1", "猫1", cell))


def test_bad_rows_are_listed_in_order(csv_file):
    path = csv_file("1", "x", "", "2", "y")
    read = read_sentence_pairs(path, "a", "b", "s", skip_bad_rows=True)
    assert [bad.row for bad in read.bad_rows] == [3, 4, 6]
    assert read.rows == [2, 5]


@pytest.mark.parametrize(("cell", "limits"), [("-0.1", "from 0"), ("5.1", "from 0 to 5")])
def test_a_score_outside_the_scale_is_named(csv_file, cell, limits):
    path = csv_file("1", "2", cell)
    message = f"row 4: column 's' is {cell}: outside the scale.\n  Expected a number {limits}"
    with pytest.raises(InputError, match=message):
        read_sentence_pairs(path, "a", "b", "s", lowest=0, highest=5 if "to" in limits else None)


def test_a_scale_needs_two_ends(csv_file):
    with pytest.raises(InputError, match="column 's': the scale of the scores is from 3.0 to 3.0"):
        read_sentence_pairs(csv_file("3", "3"), "a", "b", "s")
    with pytest.raises(InputError, match="row 2: .*, and every row after it is bad too"):
        read_sentence_pairs(csv_file("x", "y"), "a", "b", "s", skip_bad_rows=True)


# Splitting


def test_texts_that_are_connected_stay_together():
    # a-b-c and d-e hang together, f-g and h-h stand alone.
    pairs = unscored("ab", "de", "cb", "fg", "ed", "hh")
    for seed in range(20):
        training, validation = split_sentence_pairs(pairs, 0.34, seed)
        assert validation.rows in ([2, 4], [3, 6], [5, 7])
        assert sorted(training.rows + validation.rows) == pairs.rows


@given(
    st.lists(st.tuples(st.integers(0, 25), st.integers(0, 25)), min_size=1, max_size=50),
    st.floats(0, 1),
    st.integers(0, 2**32),
)
def test_no_text_stands_on_both_sides(numbers, share, seed):
    pairs = unscored(*[(str(a), str(b)) for a, b in numbers], ("x", "y"))
    training, validation = split_sentence_pairs(pairs, share, seed)
    assert not set(training.texts()) & set(validation.texts())
    assert len(training) and len(validation)
    assert sorted(training.rows + validation.rows) == pairs.rows
    for part in (training, validation):
        assert part.rows == sorted(part.rows), "the order of the file is kept"
        assert part == pairs.take([row - 2 for row in part.rows])
    assert (training, validation) == split_sentence_pairs(pairs, share, seed)
    assert len(validation) <= max(round(share * len(pairs)), 1), "x-y is a group of one pair"


def test_one_large_group_is_not_held_out():
    pairs = unscored(
        *[("same", f"{n}") for n in range(90)], *[(f"a{n}", f"b{n}") for n in range(10)]
    )
    for seed in range(9):
        training, validation = split_sentence_pairs(pairs, 0.1, seed)
        assert len(validation) == 10 and "same" in training.first


def test_what_cannot_be_split():
    with pytest.raises(InputError, match="pairs: cannot be split"):
        split_sentence_pairs(unscored("ab", "bc", "cd"))
    with pytest.raises(InputError, match="hold out is 1.5"):
        split_sentence_pairs(unscored("ab", "cd"), 1.5)


# Which pairs meet


def repeated(batches, texts):
    """How many texts are in a batch already when they come once more."""
    counts = (collections.Counter(t for i in batch for t in {*texts[i]}) for batch in batches)
    return sum(n - 1 for count in counts for n in count.values())


@given(st.integers(2, 60), st.integers(2, 9), st.booleans(), st.integers(0, 9))
def test_every_pair_stands_in_a_batch_of_two_or_more(count, size, shuffle, epoch):
    texts = [(f"a{i % 7}", f"b{i % 5}") for i in range(count)]
    lengths = np.arange(2 * count).reshape(count, 2) % 11
    for plan in (
        ContrastPlan(lengths, texts, size, shuffle=shuffle),
        ContrastPlan(lengths, None, size, shuffle=shuffle),
    ):
        batches = plan.order(epoch)
        assert len(batches) == len(plan)
        assert sorted(np.concatenate(batches)) == list(range(count))
        assert all(2 <= len(batch) <= size + 1 for batch in batches)
        again = plan.order(epoch)
        assert all((a == b).all() for a, b in zip(batches, again, strict=True))


@pytest.mark.parametrize("shuffle", [False, True])
def test_no_text_stands_twice_in_a_batch(shuffle):
    # Premises with three hypotheses each, as in natural language inference; some are shared. As
    # many as fit: the most frequent text has a place in each of the 19 batches, and no more.
    texts = [
        (f"premise {i // 3}", f"hypothesis {i // 10}" if i < 190 else f"{i}") for i in range(301)
    ]
    texts += [(f"other {i}", "same") for i in range(19)]
    random = np.random.default_rng(1)
    lengths = random.integers(3, 40, (320, 2))
    plan = ContrastPlan(lengths, texts, 17, shuffle=shuffle)
    without = ContrastPlan(lengths, None, 17, shuffle=shuffle)
    assert len(plan) == 19
    for epoch in range(3):
        assert repeated(without.order(epoch), texts) > 10
        assert repeated(plan.order(epoch), texts) == 0


def test_a_text_may_be_first_in_one_pair_and_second_in_another():
    texts = [("a", "b"), ("c", "a"), ("d", "e"), ("f", "f")]
    plan = ContrastPlan(np.full((4, 2), 5), texts, 2, shuffle=False)
    assert [sorted(batch.tolist()) for batch in plan.order(0)] in (
        [[0, 2], [1, 3]],
        [[1, 2], [0, 3]],
    )


def test_what_cannot_be_parted_stays():
    texts = [("a", "same"), ("b", "same"), ("c", "same")]
    plan = ContrastPlan(np.full((3, 2), 5), texts, 3)
    assert [sorted(batch) for batch in plan.order(0)] == [[0, 1, 2]]


def test_pairs_change_places_with_others_of_their_length():
    random = np.random.default_rng(0)
    texts = [(f"a{i}", f"b{i // 2}") for i in range(2000)]
    lengths = random.geometric(0.05, (1000, 2)).repeat(2, axis=0)  # both of the same length: meet
    waste = []
    for held in (texts, None):
        batches = ContrastPlan(lengths, held, 16).order(0)
        padded = sum(len(batch) * lengths[batch, 1].max() for batch in batches)
        waste.append(1 - lengths[:, 1].sum() / padded)
    assert waste[0] < waste[1] + 0.05


@pytest.mark.parametrize(
    ("lengths", "size", "message"),
    [([[1, 1]] * 3, 1, "batch_size is 1"), ([[1, 1]], 2, "only one pair")],
)
def test_one_pair_is_no_contrast(lengths, size, message):
    with pytest.raises(InputError, match=message):
        ContrastPlan(lengths, None, size)


# Batches


def test_a_batch_by_hand(letters):
    a, b, c, d = (letters.encode(letter)[0] for letter in "abcd")
    pairs = SentencePairs(["aaa", "b"], ["c", "ddddd"], [0.25, 1], [2, 3])
    [(inputs, scores, weights)] = sentence_pairs(pairs, letters, max_length=6, shuffle=False)
    assert inputs["token_ids"].numpy().tolist() == [[1, a, a, a, 2, 0, 0, 0], [1, b, 2] + [0] * 5]
    assert inputs["pair_token_ids"].numpy().tolist() == [
        [1, c, 2, 0, 0, 0, 0, 0],
        [1, d, d, d, d, 2, 0, 0],
    ]
    assert scores.numpy().tolist() == [0.25, 1]
    assert weights.numpy().tolist() == [1, 1]
    assert [t.dtype for t in (*inputs.values(), scores, weights)] == ["int32"] * 2 + ["float32"] * 2


def test_pairs_without_scores_mean_the_same(letters):
    [(_, scores, weights)] = sentence_pairs(unscored("ab", "cd", "ef"), letters)
    assert scores.numpy().tolist() == weights.numpy().tolist() == [1, 1, 1]


def read_epoch(dataset, tokenizer):
    """(first text, second text, score) of one iteration, batch by batch."""
    batches = []
    for inputs, scores, _ in dataset:
        tables = (inputs[name].numpy() for name in ("token_ids", "pair_token_ids"))
        texts = ([tokenizer.decode(ids) for ids in table] for table in tables)
        batches.append(list(zip(*texts, scores.numpy().tolist(), strict=True)))
    return batches


@pytest.mark.parametrize("shuffle", [False, True])
def test_every_pair_is_seen_once_an_epoch(letters, shuffle):
    first = ["a" * (n % 7 + 1) + str(n) for n in range(41)]
    second = ["猫" * (n % 5 + 1) + str(n) for n in range(41)]
    scores = [n / 64 for n in range(41)]
    pairs = SentencePairs(first, second, scores, list(range(2, 43)))
    dataset = sentence_pairs(pairs, letters, batch_size=8, shuffle=shuffle, seed=3)
    epochs = [read_epoch(dataset, letters) for _ in range(2)]
    expected = list(zip(first, second, scores, strict=True))
    for batches in epochs:
        assert len(batches) == len(dataset) == 5
        assert sorted(map(len, batches)) == [8, 8, 8, 8, 9]
        seen = list(itertools.chain(*batches))
        assert sorted(seen) == sorted(expected)
        assert (seen == expected) == (not shuffle)
    assert (epochs[0] == epochs[1]) == (not shuffle)
    again = sentence_pairs(pairs, letters, batch_size=8, shuffle=shuffle, seed=3)
    assert read_epoch(again, letters) == epochs[0]


def test_a_repeated_text_is_parted_in_the_batches_too(letters):
    pairs = unscored(("a", "same"), ("b", "same"), ("c", "x"), ("d", "y"))
    for batch in read_epoch(sentence_pairs(pairs, letters, batch_size=2), letters):
        assert len({second for _, second, _ in batch}) == 2


def test_no_room_for_text(letters):
    with pytest.raises(InputError, match="max_length is 2"):
        sentence_pairs(unscored("ab", "cd"), letters, max_length=2)


def test_real_pairs_share_no_text_with_what_is_held_out(shared_data):
    read = read_sentence_pairs(shared_data / "vectors" / "stsb_ja" / "train.csv", score="score")
    assert (len(read), read.scale) == (5749, (0, 5))
    training, validation = split_sentence_pairs(read, 0.1)
    assert len(validation) == 575
    assert not set(training.texts()) & set(validation.texts())


# Figures


TRAINING = SentencePairs(
    ["a", "bb", "c", "dddd"],
    ["c", "w", "a", "猫"],
    [0, 0.5, 0, 1],
    [2, 3, 4, 6],
    path="train.csv",
    columns={"first": "x", "second": "y", "score": "s"},
    bad_rows=[BadRow(5, "s", "column 's' is empty", ("e", "f", ""))],
    scale=(1, 5),
)


def test_figures(letters):
    held_out = SentencePairs(["new", "w"], ["newer", "z"], None, [2, 3], path="check.csv")
    training, validation = describe_sentence_pairs(TRAINING, held_out, letters, max_length=5)
    assert training.lengths == {"first": [1, 2, 1, 4], "second": [1, 1, 1, 3]}
    assert training.to_dict() == {
        "name": "training",
        "path": "train.csv",
        "columns": {"first": "x", "second": "y", "score": "s"},
        "rows": 4,
        "bad_rows": 1,
        "scores": {"lowest": 1, "mean": 2.5, "highest": 5},
        "duplicates": 1,  # a, c and c, a
        "overlap": 0,
        "truncated": 1,  # dddd and 猫
        "tokens": 14 + 16,
        "percentiles": [50, 95, 99, 100],
        "first_tokens": [2, 4, 4, 4],
        "second_tokens": [1, 3, 3, 3],
    }
    json.dumps(training.to_dict())
    assert (validation.rows, validation.overlap, validation.scores) == (2, 1, None)
    assert validation.truncated == 1


def test_the_table(letters):
    [training] = describe_sentence_pairs(TRAINING, None, letters, max_length=5)
    assert training.lines() == [
        "training    train.csv",
        "  rows      4 ('x' ↔ 'y'), 1 bad row left out",
        "  scores    1 to 5, mean 2.5 ('s')",
        "  tokens    30; per text: half ≤ 2 ↔ 1, 95 % ≤ 4 ↔ 3, longest 4 ↔ 3",
        "  truncated 1 row (25.0 %)",
        "  repeated  1 row (25.0 %)",
    ]
