"""Labels: names, numbers, weights against scikit-learn, and the stratified split."""

import collections

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import MultiLabelBinarizer
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

from tfx_transformer.data import (
    class_weights,
    label_ids,
    label_matrix,
    label_names,
    split_stratified,
)
from tfx_transformer.data.labels import alike_labels, alike_warning, example_weights
from tfx_transformer.errors import InputError

NAMES = ["animals", "food", "sport"]


def one_each(text):
    """One label of one letter for each example."""
    return [(letter,) for letter in text]


# Names and numbers


@pytest.mark.parametrize(
    ("names", "alike"),
    [
        (["1", "1.0", "2"], [["1", "1.0"]]),
        (["01", "1", "1e0"], [["01", "1", "1e0"]]),
        (["A", "B", "a"], [["A", "a"]]),
        (["Ａ", "A"], [["Ａ", "A"]]),
        (["a  b", "a b"], [["a  b", "a b"]]),
        (["NaN", "nan", "inf", "Straße", "STRASSE"], [["NaN", "nan"], ["Straße", "STRASSE"]]),
        (["a", "b", "1", "-1", "1a", "inf"], []),
    ],
)
def test_labels_that_may_be_the_same(names, alike):
    assert alike_labels(names) == alike
    line = alike_warning(names)
    assert (line is None) == (not alike)
    assert all(repr(name) in line for group in alike for name in group)


def test_names_are_sorted_and_distinct():
    labels = [("b",), ("10", "a"), (), ("a",), ("猫",), ("2",), ("B",)]
    assert label_names(labels, "x.csv") == ["10", "2", "B", "a", "b", "猫"]


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        ([("spam",), ("spam",)], r"^x\.csv: 'spam' is the only label\.\n"),
        ([(), ()], r"^x\.csv: there is no label\.\n"),
        ([("w" * 1000,)], r"^x\.csv: 'w{59}…' is the only label\.\n"),
    ],
)
def test_a_single_class_is_refused(labels, what):
    with pytest.raises(InputError, match=what) as caught:
        label_names(labels, "x.csv")
    assert "(label=...)" in str(caught.value)


def test_numbers_are_places_in_the_names():
    labels = [("food",), ("sport",), ("animals",), ("food",)]
    ids = label_ids(labels, NAMES, path="x.csv", rows=[2, 3, 4, 5])
    assert (ids.dtype, ids.tolist()) == ("int32", [1, 2, 0, 1])


def test_an_unknown_label_is_named_with_its_row_and_the_nearest_known_one():
    with pytest.raises(InputError) as caught:
        label_ids([("food",), ("Sports",)], NAMES, path="test.csv", rows=[2, 7])
    assert str(caught.value) == (
        "test.csv, row 7: the label 'Sports' is unknown.\n"
        "  The model knows 'animals', 'food', 'sport'; the nearest is 'sport'.\n"
        "  Fix the row or leave it out, or train with examples of that label."
    )
    with pytest.raises(InputError, match=r"row 3: the label 'x' is unknown"):
        label_matrix([("food",), ("sport", "x")], NAMES, path="test.csv", rows=[2, 3])


def test_a_text_as_label_among_many_makes_a_short_message():
    names = [f"intent {number}" for number in range(77)]
    with pytest.raises(InputError) as caught:
        label_ids([("intent 7" + "7" * 10_000_000,)], names, path="x.csv", rows=[2])
    message = str(caught.value)
    assert "'intent 9' and 67 more; the nearest is 'intent 7" in message
    assert len(message) < 500


@pytest.mark.parametrize("several", [(), ("food", "sport")])
def test_a_number_needs_exactly_one_label(several):
    with pytest.raises(InputError, match=rf"^x.csv, row 3: there are {len(several)} labels"):
        label_ids([("food",), several], NAMES, path="x.csv", rows=[2, 3])


@given(st.lists(st.lists(st.sampled_from(NAMES), unique=True).map(tuple), min_size=1))
def test_the_matrix_is_that_of_scikit_learn(labels):
    matrix = label_matrix(labels, NAMES, path="", rows=range(len(labels)))
    assert matrix.dtype == "float32"
    assert (matrix == MultiLabelBinarizer(classes=NAMES).fit_transform(labels)).all()


# Weights


@given(st.lists(st.integers(0, 6), min_size=1, max_size=50))
def test_weights_are_those_of_scikit_learn(ids):
    weights = class_weights(np.array(ids), 7)
    assert (weights.dtype, weights.shape) == ("float32", (7,))
    present = np.unique(ids)
    expected = compute_class_weight("balanced", classes=present, y=np.array(ids))
    assert weights[present] == pytest.approx(expected, rel=1e-6)
    assert (np.delete(weights, present) == 1).all()


def test_weights_by_hand():
    assert class_weights(np.array([0, 0, 0, 1]), 2).tolist() == pytest.approx([4 / 6, 4 / 2])


@given(st.lists(st.integers(0, 6), min_size=1, max_size=50))
def test_balanced_examples_are_those_of_scikit_learn(ids):
    weights = example_weights("balanced", np.array(ids), 7)
    assert weights.dtype == "float32"
    assert weights == pytest.approx(compute_sample_weight("balanced", ids), rel=1e-6)


def test_an_example_weighs_what_its_class_does():
    weights = example_weights([2.5, 1, 0], np.array([1, 0, 2, 0]), 3)
    assert (weights.dtype, weights.tolist()) == ("float32", [1, 2.5, 0, 2.5])
    assert example_weights(np.array([3, 7]), np.array([1, 0]), 2).tolist() == [7, 3]


@pytest.mark.parametrize("none", [None, "", []])
def test_without_weights_every_example_weighs_one(none):
    # Of several labels a row, ids are a matrix: they are not read.
    weights = example_weights(none, np.zeros((3, 2)), 2)
    assert (weights.dtype, weights.tolist()) == ("float32", [1, 1, 1])


def test_another_word_for_weights_is_refused():
    with pytest.raises(InputError) as caught:
        example_weights("equal", np.array([0, 1]), 2)
    assert str(caught.value) == "class weights are 'equal'.\n  Expected 'balanced', or none."


# Splitting


@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 30)), min_size=2, max_size=80),
    st.floats(0, 1),
    st.integers(0, 2**32),
)
def test_a_split_keeps_its_promises(examples, share, seed):
    examples += [("z", 98), ("z", 99)]  # so that something can be held out
    labels, keys = one_each(e[0] for e in examples), [e[1] for e in examples]
    training, held_out = split_stratified(labels, keys, share, seed, path="x.csv")
    assert sorted(training + held_out) == list(range(len(examples)))
    assert (training, held_out) == (sorted(training), sorted(held_out))
    assert not {keys[i] for i in training} & {keys[i] for i in held_out}
    assert {labels[i] for i in training} == set(labels), "no class is lost"
    assert split_stratified(labels, keys, share, seed, path="x.csv") == (training, held_out)


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=6).filter(lambda sizes: max(sizes) > 1),
    st.floats(0, 1),
    st.integers(0, 2**32),
)
def test_every_class_is_held_out_in_proportion(sizes, share, seed):
    labels = [(str(number),) for number, size in enumerate(sizes) for _ in range(size)]
    _, held_out = split_stratified(labels, range(len(labels)), share, seed, path="x.csv")
    found = collections.Counter(labels[i] for i in held_out)
    for number, size in enumerate(sizes):
        expected = min(max(round(share * size), 1), size - 1)
        assert found[(str(number),)] == expected


def test_a_class_with_one_example_stays_in_training():
    labels = one_each("aaabbbc")
    for seed in range(20):
        training, held_out = split_stratified(labels, range(7), 0.9, seed, path="x.csv")
        assert 6 in training
        assert [labels[i] for i in held_out] == one_each("aabb")


def test_a_repeated_text_drags_no_class_out_of_training():
    # The only "c" has the text 0, as an "a" has; so text 0 cannot be held out.
    labels, keys = one_each("aaac"), [0, 1, 2, 0]
    for seed in range(20):
        training, held_out = split_stratified(labels, keys, 1, seed, path="x.csv")
        assert (training, held_out) == ([0, 3], [1, 2])


def test_each_combination_of_labels_is_a_class():
    labels = [("a", "b"), ("b", "a"), ("a",), ("a",), ("b",), (), ()]
    for seed in range(20):
        _, held_out = split_stratified(labels, range(7), 0.5, seed, path="x.csv")
        assert [set(labels[i]) for i in held_out] == [{"a", "b"}, {"a"}, set()]


def test_another_seed_splits_differently():
    labels = one_each("ab" * 50)
    splits = [split_stratified(labels, range(100), 0.2, seed, path="x.csv") for seed in (0, 1)]
    assert splits[0] != splits[1]


def test_a_share_is_checked():
    with pytest.raises(InputError, match=r"the share to hold out is 1\.5"):
        split_stratified(one_each("aabb"), range(4), 1.5, 0, path="x.csv")


@pytest.mark.parametrize("keys", [[0, 0, 1], [0, 0, 0]])
def test_nothing_to_hold_out_is_said(keys):
    with pytest.raises(InputError, match=r"^x\.csv: cannot be split"):
        split_stratified(one_each("aab"), keys, 0.5, 0, path="x.csv")
