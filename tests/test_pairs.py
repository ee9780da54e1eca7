"""Pairs of texts from a CSV to batches: columns, splits, order and padding."""

from __future__ import annotations

import csv

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_transformer.data.batches import BatchPlan, pad, tf_dataset
from tfx_transformer.data.translation_pair import Pairs, pairs, read_pairs, split_pairs
from tfx_transformer.errors import InputError
from tfx_transformer.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["the cat sat on the mat", "猫が好きです"], 270)


def numbered(lengths):
    """One pair per length, whose texts tell which they are and whose lengths differ."""
    source = [f"{number:04}" + "s" * length for number, length in enumerate(lengths)]
    target = [f"{number:04}" + "t" * (length // 2) for number, length in enumerate(lengths)]
    return Pairs(source, target, list(range(2, len(source) + 2)))


@pytest.fixture(scope="module")
def uneven():
    """103 pairs of very different length."""
    return numbered(np.random.default_rng(0).integers(0, 60, 103))


# Reading


@pytest.fixture
def csv_file(tmp_path):
    path = tmp_path / "pairs.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = [["id", "ja", "en"], ["1", "猫", "a cat, black"], ["", "NA", "null"]]
        csv.writer(file).writerows(rows)
    return path


def test_columns_are_mapped_by_name(csv_file):
    read = read_pairs(csv_file, source="en", target="ja")
    assert (read.source, read.target) == (["a cat, black", "null"], ["猫", "NA"])
    assert (read.rows, read.path) == ([2, 3], str(csv_file))
    assert read.columns == {"source": "en", "target": "ja"}
    assert len(read) == 2
    assert read.texts() == ["a cat, black", "null", "猫", "NA"]
    assert read_pairs(csv_file, "ja", "en").source == ["猫", "NA"]


def test_a_missing_column_is_named(csv_file):
    with pytest.raises(InputError, match="'target'"):
        read_pairs(csv_file, source="en")


def test_bad_rows_are_refused_or_listed(csv_file):
    with csv_file.open("a", encoding="utf-8") as file:
        file.write("3,,empty\n4,犬,dog\n")
    with pytest.raises(InputError, match="row 4"):
        read_pairs(csv_file, "en", "ja")
    read = read_pairs(csv_file, "en", "ja", skip_bad_rows=True)
    assert (read.target, read.rows) == (["猫", "NA", "犬"], [2, 3, 5])
    assert [bad.row for bad in read.bad_rows] == [4]


# Splitting


@given(
    st.lists(st.integers(0, 20), min_size=2, max_size=60),
    st.floats(0, 1),
    st.integers(0, 2**32),
)
def test_no_source_stands_on_both_sides(sources, share, seed):
    if len(set(sources)) < 2:
        sources = [*sources, 21]
    texts = [str(source) for source in sources]
    everything = Pairs(texts, [f"{n}" for n in range(len(texts))], list(range(len(texts))))
    train, validation = split_pairs(everything, share, seed)
    assert not set(train.source) & set(validation.source)
    assert train.source and validation.source
    assert sorted(train.rows + validation.rows) == everything.rows
    assert train.rows == sorted(train.rows), "the order of the file is kept"
    for part in (train, validation):
        assert part.source == [texts[row] for row in part.rows]
        assert part.target == [str(row) for row in part.rows]
    count = round(share * len(set(sources)))
    assert len(set(validation.source)) == min(max(count, 1), len(set(sources)) - 1)
    again = split_pairs(everything, share, seed)
    assert (train, validation) == again


def test_another_seed_splits_differently(uneven):
    assert split_pairs(uneven, seed=0)[1].rows != split_pairs(uneven, seed=1)[1].rows


def test_one_source_cannot_be_split():
    with pytest.raises(InputError, match="1 distinct source"):
        split_pairs(Pairs(["a", "a"], ["b", "c"], [2, 3]))


# Batches


def test_a_batch_by_hand(tokenizer):
    texts = Pairs(["ab", "c"], ["x", "yz!"], [2, 3])
    a, b, c, x, y, z, mark = (tokenizer.ranks[char.encode()] for char in "abcxyz!")
    [(inputs, labels, weights)] = pairs(texts, tokenizer, batch_size=2, shuffle=False)
    assert inputs["encoder_token_ids"].numpy().tolist() == [[a, b, 2, 0], [c, 2, 0, 0]]
    assert inputs["decoder_token_ids"].numpy().tolist() == [[1, x, 0, 0], [1, y, z, mark]]
    assert labels.numpy().tolist() == [[x, 2, 0, 0], [y, z, mark, 2]]
    assert weights.numpy().tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert [t.dtype for t in (*inputs.values(), labels, weights)] == ["int32"] * 3 + ["float32"]


def test_what_is_too_long_is_cut_before_its_end(tokenizer):
    texts = Pairs(["abcdefgh"], ["stuvwxyz"], [2])
    [(inputs, labels, weights)] = pairs(texts, tokenizer, max_length=4)
    assert tokenizer.decode(inputs["encoder_token_ids"].numpy()[0]) == "abc"
    assert tokenizer.decode(labels.numpy()[0]) == "stu"
    assert (inputs["encoder_token_ids"][0, -1], labels[0, -1]) == (2, 2)
    assert weights.numpy().tolist() == [[1] * 4]


def read_epoch(dataset, tokenizer):
    """The pairs of one iteration, batch by batch; checks what must hold in every batch."""
    batches = []
    for inputs, labels, weights in dataset:
        encoder, decoder = (inputs[f"{side}_token_ids"].numpy() for side in ("encoder", "decoder"))
        labels, weights = labels.numpy(), weights.numpy()
        assert decoder.shape == labels.shape == weights.shape
        assert (decoder[:, 0] == tokenizer.start_id).all()
        for row, ids in enumerate(labels.tolist()):
            length = 1 + ids.index(tokenizer.end_id)
            assert decoder[row, 1:length].tolist() == ids[: length - 1], "one step ahead"
            assert not decoder[row, length:].any() and not any(ids[length:])
            assert weights[row].tolist() == [1] * length + [0] * (len(ids) - length)
        texts = ([tokenizer.decode(ids) for ids in table] for table in (encoder, labels))
        batches.append(list(zip(*texts, strict=True)))
    return batches


@pytest.mark.parametrize("shuffle", [False, True])
def test_every_pair_is_seen_once_an_epoch(uneven, tokenizer, shuffle):
    dataset = pairs(uneven, tokenizer, batch_size=8, shuffle=shuffle)
    expected = list(zip(uneven.source, uneven.target, strict=True))
    epochs = [read_epoch(dataset, tokenizer) for _ in range(2)]
    for batches in epochs:
        assert len(batches) == len(dataset) == 13
        assert sorted(len(batch) for batch in batches) == [7, *[8] * 12]
        seen = [pair for batch in batches for pair in batch]
        assert sorted(seen) == expected
        assert (seen == expected) == (not shuffle)
    assert (epochs[0] == epochs[1]) == (not shuffle)


def test_order_is_a_function_of_seed_and_epoch(uneven, tokenizer):
    def epochs(seed):
        dataset = pairs(uneven, tokenizer, batch_size=8, seed=seed)
        return [read_epoch(dataset, tokenizer) for _ in range(2)]

    assert epochs(3) == epochs(3)
    assert epochs(3)[0] != epochs(4)[0]


def test_first_epoch_continues_the_plan():
    plan = BatchPlan(np.arange(20), 3, seed=5)
    batch = [ids.tolist() for ids in plan.order(2)]
    dataset = tf_dataset(plan, lambda indices: (indices,), first_epoch=2)
    assert [indices.numpy().tolist() for (indices,) in dataset] == batch


def test_fit_asks_for_each_epoch_in_turn(monkeypatch):
    asked = []
    order = BatchPlan.order
    monkeypatch.setattr(
        BatchPlan, "order", lambda plan, epoch: asked.append(epoch) or order(plan, epoch)
    )
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)

    def batch(indices):
        return np.ones((len(indices), 2), "float32"), np.ones((len(indices), 1), "float32")

    history = model.fit(tf_dataset(BatchPlan(np.arange(20), 3), batch), epochs=3, verbose=0)
    assert asked == [0, 1, 2]
    assert len(history.history["loss"]) == 3


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=300),
    st.integers(1, 7),
    st.booleans(),
    st.integers(0, 9),
)
def test_a_plan_holds_every_example_once(lengths, batch_size, shuffle, epoch):
    plan = BatchPlan(lengths, batch_size, shuffle=shuffle)
    batches = plan.order(epoch)
    assert len(batches) == len(plan)
    assert max(map(len, batches)) <= batch_size
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))


def waste(plan, lengths, epoch=0):
    """Share of padding among the tokens of an epoch."""
    padded = sum(len(batch) * lengths[batch].max() for batch in plan.order(epoch))
    return 1 - lengths.sum() / padded


def test_similar_lengths_together_waste_less():
    lengths = np.random.default_rng(0).geometric(0.05, 3000)
    sorted_in_pools = BatchPlan(lengths, 16)
    unsorted = BatchPlan(np.zeros_like(lengths), 16)
    assert waste(sorted_in_pools, lengths) < 0.1 < 0.5 < waste(unsorted, lengths)


def test_the_target_is_the_first_key():
    source, target = np.random.default_rng(0).geometric(0.05, (2, 3000))
    plan = BatchPlan(np.stack([source, target], axis=1), 16)
    assert waste(plan, target) < 0.1 < waste(plan, source)


def test_padding_by_hand():
    assert pad([[5, 6, 7, 8, 9], [5]], 0).tolist() == [[5, 6, 7, 8, 9, 0, 0, 0], [5] + [0] * 7]
    assert pad([[4]], 3).tolist() == [[4, 3, 3, 3]]
    assert pad([[4]], 3).dtype == "int32"
