"""Texts with numbers: what is read as a number, what is refused, and how errors name the rows."""

import math

import numpy as np
import pandas
import pytest

import tfx_transformer as tfx
from tfx_transformer import InputError, Tokenizer
from tfx_transformer.data import read_scored_texts, scored_texts, split_scored_texts


def table(tmp_path, *numbers: str, name: str = "in.csv", delimiter: str = ";"):
    path = tmp_path / name
    rows = [f"offer {chr(97 + i)}{delimiter}{number}" for i, number in enumerate(numbers)]
    path.write_text("\n".join([f"text{delimiter}target", *rows]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("decimal", "cells", "numbers"),
    [
        ("", ["3", "-4.25", "+.5", "1e3", " 7. "], [3, -4.25, 0.5, 1000, 7]),
        ("", ["１２", "−３．５", "0.125"], [12, -3.5, 0.125]),
        ("", ["1.234", "0.500"], [1.234, 0.5]),  # no number in thousands begins with 0
        ("", ["1.234", "2.5"], [1.234, 2.5]),
        (".", ["1,234", "12,345,678.5", "9"], [1234, 12345678.5, 9]),
        (".", ["1.234", "2.345"], [1.234, 2.345]),
        (",", ["1.234", "12.345.678,5", "0,75", "3"], [1234, 12345678.5, 0.75, 3]),
    ],
)
def test_numbers_are_read_by_a_stated_rule(tmp_path, decimal, cells, numbers):
    read = read_scored_texts(table(tmp_path, *cells), decimal=decimal)
    assert read.numbers == numbers and read.rows == list(range(2, 2 + len(cells)))


@pytest.mark.parametrize(
    ("cells", "named"),
    [
        (["3", "1,5"], "row 3: '1,5'"),
        (["1,234", "2,345"], "row 2: '1,234', row 3: '2,345'"),
        (["1.5", "2,5"], "row 3: '2,5'"),
        (["1.234.567", "2"], "row 2: '1.234.567'"),
        (["850", "1.234", "12.500"], "row 3: '1.234', row 4: '12.500'"),
        (["1,5"] * 5, "row 4: '1,5' and 2 rows more"),
        (["１，５", "2"], "row 2: '１，５'"),
    ],
)
@pytest.mark.parametrize("skip", [False, True])
def test_a_comma_or_point_that_may_mean_two_things_is_refused(tmp_path, cells, named, skip):
    path = table(tmp_path, *cells)
    with pytest.raises(InputError) as caught:
        read_scored_texts(path, skip_bad_rows=skip)
    message = str(caught.value)
    assert message.startswith(f"{path}: column 'target': is a comma or a point before decimals?")
    assert named in message and "--decimal . reads" in message and "--decimal , reads" in message


def test_both_readings_are_shown(tmp_path):
    with pytest.raises(InputError) as caught:
        read_scored_texts(table(tmp_path, "1,234"))
    assert "--decimal . reads '1,234' as 1234,\n" in str(caught.value)
    assert "--decimal , reads '1,234' as 1.234." in str(caught.value)


BAD = ["12 €", "$5", "n/a", "nan", "inf", "-Infinity", "1_000", "0x1f", "1 234", "1'234", "5%",
       "١٢", "10²", "1e400", "1e31", "2026-01-01", "true", "1,23,456", "--3", "１２円"]  # fmt: skip


@pytest.mark.parametrize("cell", BAD)
def test_a_cell_that_is_no_finite_number_is_a_bad_row(tmp_path, cell):
    path = table(tmp_path, "1", cell, "2")
    with pytest.raises(InputError, match=r"in.csv, row 3: column 'target' is .*") as caught:
        read_scored_texts(path)
    assert "--skip-bad-rows" in str(caught.value)
    read = read_scored_texts(path, skip_bad_rows=True)
    assert read.numbers == [1, 2] and [bad.row for bad in read.bad_rows] == [3]
    assert read.bad_rows[0].column == "target" and read.bad_rows[0].values[1] == cell


@pytest.mark.parametrize(("decimal", "cell"), [(".", "1,5"), (",", "1.5"), (".", "0,123")])
def test_a_number_with_another_sign_than_named_is_a_bad_row(tmp_path, decimal, cell):
    with pytest.raises(InputError, match="row 3: column 'target' is not a number"):
        read_scored_texts(table(tmp_path, "1", cell), decimal=decimal)


@pytest.mark.parametrize("name", ["in.xlsx", "in.parquet", "in.jsonl"])
@pytest.mark.parametrize("decimal", ["", ".", ","])
def test_what_is_a_number_already_is_not_read_again(tmp_path, name, decimal):
    frame = pandas.DataFrame({"text": list("abc"), "target": [1.234, 2.5, 1e-7]})
    path = tmp_path / name
    if name.endswith("xlsx"):
        frame.to_excel(path, index=False)
    elif name.endswith("parquet"):
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=True, force_ascii=False, double_precision=15)
    read = read_scored_texts(path, decimal=decimal)
    assert read.numbers == frame["target"].tolist()
    memory = read_scored_texts(frame, decimal=decimal)
    assert memory.numbers == frame["target"].tolist()


def test_texts_of_several_columns_in_memory():
    rows = [
        {"title": "a", "body": "", "price": 3},
        {"title": "", "body": "b", "price": np.int64(5)},
    ]
    read = read_scored_texts(rows, "title,body", "price")
    assert read.texts == [("a", ""), ("", "b")] and read.numbers == [3.0, 5.0]
    with pytest.raises(InputError, match="'price' is named twice"):
        read_scored_texts(rows, "price", "price")
    with pytest.raises(InputError, match="row 0: column 'price' is of type bool|is not a text"):
        read_scored_texts([{"title": "a", "price": True}], "title", "price")


def test_the_scale_is_mean_and_deviation_of_the_numbers():
    read = read_scored_texts([("a", 2), ("b", 4), ("c", 4), ("d", 4), ("e", 5), ("f", 5), ("g", 7),
                              ("h", 9)])  # fmt: skip
    scale = read.scale()
    assert scale == (5.0, 2.0)
    assert scale.standardize([9, 5, 0]).tolist() == [2.0, 0.0, -2.5]
    with pytest.raises(InputError, match="all 3 numbers of column 'target' are 0.1"):
        read_scored_texts([("a", 0.1), ("b", 0.1), ("c", 0.1)]).scale()


def test_equal_texts_stay_on_one_side():
    rows = [(f"t{i % 7}", i) for i in range(21)]
    train, held_out = split_scored_texts(read_scored_texts(rows), 0.3, seed=3)
    assert len(train) + len(held_out) == 21 and len(held_out) == 6
    assert not set(train.texts) & set(held_out.texts)


def test_batches_hold_standardized_numbers():
    read = read_scored_texts([("b b b", 10.0), ("b", 20.0), ("b b", 60.0)])
    tokenizer = Tokenizer.train(["a b"], 270)
    batches = scored_texts(read, tokenizer, tfx.data.Scale(30.0, 10.0), batch_size=2, shuffle=False)
    (inputs, numbers, weights), (_, last, _) = batches
    assert inputs["token_ids"].shape == (2, 8) and numbers.dtype == "float32"
    assert numbers.numpy().tolist() == [-2.0, -1.0] and last.numpy().tolist() == [3.0]
    assert weights.numpy().tolist() == [1.0, 1.0]


def test_the_summary_counts_texts_with_two_numbers():
    read = read_scored_texts([("a", 1), ("a", 1), ("a", 2), ("b", 3)])
    tokenizer = Tokenizer.train(["a b"], 270)
    (summary,) = tfx.data.describe_scored_texts(read, None, tokenizer, 9)
    assert (summary.duplicates, summary.contradictions) == (1, 1)
    values = summary.to_dict()
    assert values["mean"] == 1.75 and math.isclose(values["deviation"], 0.6875**0.5)
    assert "lengths" not in values and "numbers" not in values
    assert "with a text that has another number too" in "\n".join(summary.lines())
