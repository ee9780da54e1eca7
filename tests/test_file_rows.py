"""Rows that stay in their file: the same texts, splits, figures and batches as in memory."""

from __future__ import annotations

import csv
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_transformer.data import file_rows, tables
from tfx_transformer.data.batches import own_errors
from tfx_transformer.data.file_rows import FileRows
from tfx_transformer.data.labelled_summary import describe_labelled_texts
from tfx_transformer.data.labelled_text import (
    labelled_texts,
    read_labelled_texts,
    split_labelled_texts,
)
from tfx_transformer.data.pairs_summary import describe_pairs
from tfx_transformer.data.translation_pair import pairs, read_pairs, split_pairs
from tfx_transformer.errors import InputError
from tfx_transformer.text.tokenizer import Tokenizer

CELLS = st.text(st.sampled_from('ab",\n\r日é\u2028 '), max_size=9).map(lambda text: f"x{text}")


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["the cat sat on the mat", "猫が好きです"], 270)


@pytest.fixture
def nothing_in_memory(monkeypatch):
    monkeypatch.setattr(file_rows, "MOST_IN_MEMORY", 0)


def write(path, rows, header=("source", "target"), line_end="\r\n", encoding="utf-8"):
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows([header, *rows])
    return path


@pytest.fixture
def two_ways(monkeypatch):
    """What a reader makes of a file in memory, and when it leaves the texts in the file."""

    def read(reader, *arguments, **options):
        inside = reader(*arguments, **options)
        with monkeypatch.context() as patched:
            patched.setattr(file_rows, "MOST_IN_MEMORY", 0)
            outside = reader(*arguments, **options)
        return inside, outside

    return read


def numbered(tmp_path, count=101):
    """A file of rows of uneven length that tell which they are; every seventh source is one."""
    rows = [(f"s{i % 7 * i}" + "é" * (i % 5), f't{i}\n"{"y" * (i % 11)}"') for i in range(count)]
    return write(tmp_path / "numbered.csv", rows)


def same(inside, outside):
    assert isinstance(outside.source, FileRows)
    assert list(outside.source) == inside.source
    assert list(outside.target) == inside.target
    assert list(outside.rows) == inside.rows


@given(
    rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=9),
    line_end=st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig"]),
)
def test_every_row_is_found_where_it_lies(tmp_path_factory, rows, line_end, encoding):
    path = tmp_path_factory.getbasetemp() / "rows.csv"
    write(path, rows, line_end=line_end, encoding=encoding)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(file_rows, "MOST_IN_MEMORY", 0)
        read = read_pairs(path)
    assert list(zip(read.source, read.target, strict=True)) == rows
    assert read.source[-1] == rows[-1][0]
    assert read.source[:2] == [source for source, _ in rows[:2]]
    with pytest.raises(IndexError):
        read.source[len(rows)]
    assert read.source.lengths.tolist() == [len(source) for source, _ in rows]
    order = np.random.default_rng(0).permutation(len(rows))
    again = read.take(order).take(order.argsort())
    assert list(zip(again.source, again.target, strict=True)) == rows


def test_bad_rows_are_left_out_or_refused(tmp_path, nothing_in_memory):
    path = tmp_path / "bad.csv"
    path.write_text("source,target\na,b\nshort\n,c\nd,e\n")
    with pytest.raises(InputError, match="row 3: the row has 1 of 2"):
        read_pairs(path)
    read = read_pairs(path, skip_bad_rows=True)
    assert (list(read.source), list(read.rows)) == (["a", "d"], [2, 5])
    assert [bad.row for bad in read.bad_rows] == [3, 4]


def test_pairs_are_split_alike(tmp_path, two_ways):
    inside, outside = two_ways(read_pairs, numbered(tmp_path))
    same(inside, outside)
    for part, other in zip(split_pairs(inside, 0.3), split_pairs(outside, 0.3), strict=True):
        same(part, other)


def test_pairs_have_the_same_figures(tmp_path, two_ways, tokenizer):
    inside, outside = two_ways(read_pairs, numbered(tmp_path))
    figures = [
        [summary.to_dict() for summary in describe_pairs(*split_pairs(read), tokenizer, 9)]
        for read in (inside, outside)
    ]
    assert figures[0] == figures[1]
    assert inside.texts() == outside.texts()


def epoch(dataset):
    return [
        [tensor.numpy().tolist() for tensor in (*inputs.values(), *rest)]
        for inputs, *rest in dataset
    ]


def test_pairs_make_the_same_batches(tmp_path, two_ways, tokenizer):
    inside, outside = two_ways(read_pairs, numbered(tmp_path))
    in_order = {"batch_size": 8, "max_length": 9, "shuffle": False}
    assert epoch(pairs(inside, tokenizer, **in_order)) == epoch(
        pairs(outside, tokenizer, **in_order)
    )

    def shuffled(texts, seed):
        dataset = pairs(texts, tokenizer, batch_size=8, seed=seed)
        return epoch(dataset), epoch(dataset)

    first, second = shuffled(outside, 1)
    assert (first, second) == shuffled(outside, 1), "a function of data, seed and step"
    assert first != second
    assert first != shuffled(outside, 2)[0]
    labels = sorted(row[: row.index(2)] for batch in first for row in batch[2])
    expected = sorted(row[: row.index(2)] for batch in shuffled(inside, 1)[0] for row in batch[2])
    assert labels == expected, "every pair once"


@pytest.mark.parametrize("text", ["title", "title,body"])
def test_labelled_texts_are_the_same(tmp_path, two_ways, tokenizer, text):
    rows = [(f"t{i}", f"b{i % 3}" * (i % 4), "ab"[i % 2] + f"|c{i % 3}") for i in range(59)]
    path = write(tmp_path / "labelled.csv", rows, ("title", "body", "label"))
    inside, outside = two_ways(read_labelled_texts, path, text, separator="|")
    assert isinstance(outside.texts, FileRows)
    names = ["a", "b", "c0", "c1", "c2"]
    for part, other in zip(
        split_labelled_texts(inside, 0.3), split_labelled_texts(outside, 0.3), strict=True
    ):
        assert (list(other.texts), other.labels) == (part.texts, part.labels)
        assert list(other.rows) == part.rows
        assert other.flat_texts() == part.flat_texts()
        options = {"batch_size": 8, "multi_label": True, "shuffle": False}
        assert epoch(labelled_texts(part, tokenizer, names, **options)) == epoch(
            labelled_texts(other, tokenizer, names, **options)
        )
    figures = [
        [s.to_dict() for s in describe_labelled_texts(read, read, tokenizer, names, 5)]
        for read in (inside, outside)
    ]
    assert figures[0] == figures[1]
    assert figures[0][1]["overlap"] == 59


def test_a_row_without_any_text_is_named(tmp_path, nothing_in_memory):
    rows = [("t", "b", "x"), (" ", "", "y"), ("", "c", "z")]
    path = write(tmp_path / "labelled.csv", rows, ("title", "body", "label"))
    with pytest.raises(InputError, match="row 3: columns 'title' and 'body' are empty"):
        read_labelled_texts(path, "title,body")
    read = read_labelled_texts(path, "title,body", skip_bad_rows=True)
    assert (list(read.texts), list(read.rows)) == ([("t", "b"), ("", "c")], [2, 4])
    assert [bad.row for bad in read.bad_rows] == [3]


def test_a_sample_is_spread_over_the_file(tmp_path, nothing_in_memory, monkeypatch):
    rows = [(f"{i:03}", f"{i:03}") for i in range(100)]
    read = read_pairs(write(tmp_path / "a.csv", rows))
    monkeypatch.setattr(file_rows, "_SAMPLE", 30)
    assert file_rows.sample(read.source) == [f"{i:03}" for i in range(0, 100, 10)]


def replace(path):
    path.write_text(path.read_text().replace("t1", "u1"))


def lengthen(path):
    with path.open("a") as file:
        file.write("new,row\n")


@pytest.mark.parametrize("change", [replace, lengthen])
def test_a_file_that_changes_is_not_read_on(tmp_path, nothing_in_memory, change):
    path = numbered(tmp_path)
    read = read_pairs(path)
    assert read.source[3].startswith("s")
    change(path)
    os.utime(path, (0, 0))
    with pytest.raises(InputError, match="numbered.csv: the file was changed while"):
        read.source[3]


def test_threads_do_not_disturb_each_other(tmp_path, nothing_in_memory):
    rows = [(f"s{i}", f"t{i}" * (i % 50)) for i in range(1, 2_000)]
    read = read_pairs(write(tmp_path / "a.csv", rows), skip_bad_rows=True)
    expected = [target for _, target in rows if target]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert list(pool.map(read.target.__getitem__, range(len(read)))) == expected


def test_a_file_that_changes_while_it_is_read_is_not_used(tmp_path, nothing_in_memory, monkeypatch):
    path = numbered(tmp_path)
    indexed = tables._index_rows

    def later(*arguments):
        lengthen(path)
        return indexed(*arguments)

    monkeypatch.setattr(tables, "_index_rows", later)
    read = read_pairs(path)
    with pytest.raises(InputError, match="numbered.csv: the file was changed while"):
        read.source[0]


def test_a_file_that_is_gone_is_named(tmp_path, nothing_in_memory):
    path = numbered(tmp_path)
    read = read_pairs(path)
    path.unlink()
    with pytest.raises(InputError, match="cannot be read any more: No such file"):
        read.source[3]


def test_training_ends_with_the_message_of_a_batch(tmp_path, nothing_in_memory, tokenizer):
    path = numbered(tmp_path)
    batches = pairs(read_pairs(path), tokenizer, batch_size=2)
    with (
        pytest.raises(InputError, match="numbered.csv: the file was changed while"),
        own_errors(batches),
    ):
        for _ in batches:
            lengthen(path)


def test_other_errors_of_training_are_raised_as_they_are(tmp_path, tokenizer):
    batches = pairs(read_pairs(numbered(tmp_path)), tokenizer)
    with pytest.raises(ZeroDivisionError), own_errors(batches):
        raise ZeroDivisionError


def test_small_files_are_read_into_memory(tmp_path):
    assert isinstance(read_pairs(numbered(tmp_path)).source, list)
