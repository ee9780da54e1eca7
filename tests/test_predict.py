"""The verb predict: every row of a table answered, none lost, and an interrupted one goes on."""

import csv
import datetime
import gzip
import json
import os
from pathlib import Path

import numpy as np
import openpyxl
import pandas
import pyarrow.parquet
import pytest
from openpyxl.utils.escape import unescape

from tfx_transformer import bundle, files, runtime
from tfx_transformer.cli.predict import _given_options
from tfx_transformer.errors import InputError
from tfx_transformer.generation.options import GenerationOptions
from tfx_transformer.prediction.answers import PREDICTIONS, TablePredictor
from tfx_transformer.prediction.classification import Labels
from tfx_transformer.prediction.tags import Entity

NAMES = ["even", "odd"]
ARCHITECTURE = {"vocabulary_size": 300, "num_layers": 1, "num_heads": 1, "hidden_dim": 8}


class Reader:
    """Labels a text by its length, writes it backwards, or counts its letters; like the answers of
    `runtime.load`."""

    def __init__(self, dies_after=None):
        self.labels, self.batches, self.dies_after = Labels(NAMES), [], dies_after

    def _count(self, inputs):
        self.batches.append(len(inputs))
        if self.dies_after is not None and len(self.batches) > self.dies_after:
            raise KeyboardInterrupt

    def classify(self, inputs):
        self._count(inputs)
        texts = ["".join(row) if isinstance(row, tuple) else row for row in inputs]
        odd = np.array([len(text) % 2 for text in texts])
        probabilities = np.where(odd[:, None] == [0, 1], 0.75, 0.25)
        probabilities[np.array([len(text) for text in texts]) > 9] = 0.5
        return self.labels.classifications(probabilities)

    def tag(self, texts):
        self._count(texts)
        return [[Entity(0, 1, "LETTER", text[0], 0.75)] for text in texts]

    def predict(self, texts):
        self._count(texts)
        return np.array([len(text) + 0.25 for text in texts])

    def generate(self, texts, truncate):
        self._count(texts)
        return [text[::-1] for text in texts]

    def embed(self, texts):
        self._count(texts)
        return np.array([[len(text), 0.25] for text in texts])


@pytest.fixture
def answers(tmp_path, monkeypatch):
    """Makes a bundle of a task and lets a reader answer for it; returns the reader."""

    def make(task="classification", reader=None, **details):
        folder = tmp_path / "saved"
        folder.mkdir(exist_ok=True)
        architecture = ARCHITECTURE | {"image_size": 0}
        config = {"format": 1, "task": task, "architecture": architecture, **details}
        bundle.write_config(folder, config)
        found = reader or Reader()
        monkeypatch.setattr(runtime, "load", lambda *_: found)
        return found

    return make


# Format -> what reads it: rows of the header and the values, by another program.
def read_excel(path):
    return [list(row) for row in openpyxl.load_workbook(path).active.values]


def read_parquet(path):
    table = pyarrow.parquet.read_table(path)
    return [table.column_names, *map(list, zip(*table.to_pydict().values(), strict=True))]


def read_lines(path):
    rows = [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]
    return [list(rows[0]), *(list(row.values()) for row in rows)]


def read_packed(path):
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def read_tabs(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter="\t"))


READERS = {
    "out.xlsx": read_excel,
    "out.parquet": read_parquet,
    "out.jsonl": read_lines,
    "out.csv.gz": read_packed,
    "out.tsv": read_tabs,
}


def write(path, *rows):
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_every_row_gets_its_label_and_keeps_its_cells(command, answers):
    answers()
    write("in.csv", ("id", "text", "note"), (1, "abc", "x, y"), (2, "abcd", 'a "b"'), (3, "猫", ""))
    status, output, errors = command("predict", "saved", "in.csv", "--save=out.csv")
    assert (status, output, errors) == (0, "out.csv: 3 rows\n", "")
    assert read("out.csv") == [
        ["id", "text", "note", "predicted", "probability"],
        ["1", "abc", "x, y", "odd", "0.7500"],
        ["2", "abcd", 'a "b"', "even", "0.7500"],
        ["3", "猫", "", "odd", "0.7500"],
    ]


@pytest.mark.parametrize("name", READERS)
def test_any_format_is_written(command, answers, name):
    answers()
    rows = [("id", "text"), ("001", "=1+1"), ("", "_x000D_\r"), ("NA", "猫"), ("4", " ")]
    write("in.csv", *rows)
    status, _, errors = command("predict", "saved", "in.csv", f"--save={name}", "--batch-size=3")
    assert (status, errors) == (0, "")
    header, *found = READERS[name](name)
    assert header == ["id", "text", "predicted", "probability"]
    is_text = name in ("out.tsv", "out.csv.gz")
    plain = unescape if name == "out.xlsx" else str  # openpyxl leaves escapes as they are
    got = [[plain(v or "") if isinstance(v, str) or v is None else v for v in r] for r in found]
    sure = "0.7500" if is_text else 0.75
    assert [row[:2] for row in got] == [list(row) for row in rows[1:]]
    assert [row[2:] for row in got] == [["even", sure], ["even", sure], ["odd", sure], ["", ""]]
    assert sorted(os.listdir()) == sorted(
        ["in.csv", f"{name.rpartition('.')[0]}.bad_rows.csv", name, "saved"]
    ), "nothing is left behind"


def test_types_are_kept(command, answers):
    answers()
    when = datetime.datetime(2024, 1, 5, 10, 2)
    frame = pandas.DataFrame(
        {"text": ["abc", "de"], "n": [1, 2], "x": [0.1, None], "when": [when, when], "l": [[1], []]}
    )
    frame.to_parquet("in.parquet")
    assert command("predict", "saved", "in.parquet", "--save=out.parquet")[0] == 0
    before, after = (pyarrow.parquet.read_table(f"{n}.parquet") for n in ("in", "out"))
    assert after.select(before.column_names).equals(before)
    assert after["probability"].to_pylist() == [0.75, 0.75]
    assert command("predict", "saved", "in.parquet", "--save=out.xlsx")[0] == 0
    assert read_excel("out.xlsx")[1] == ["abc", 1, 0.1, when, "[1]", "odd", 0.75]
    assert command("predict", "saved", "out.xlsx", "--save=b.csv")[0] == 2, "there is a predicted"
    assert command("predict", "saved", "in.parquet", "--save=out.csv")[0] == 0
    assert read("out.csv")[1] == ["abc", "1", "0.1", "2024-01-05T10:02:00", "[1]", "odd", "0.7500"]


def test_vectors_are_lists_where_a_format_has_them(command, answers):
    answers("embedding")
    write("in.csv", ("text",), ("abc",), ("",), ("de!",))
    assert command("predict", "saved", "in.csv", "--save=out.parquet")[0] == 0
    assert read_parquet("out.parquet")[1:] == [["abc", [3.0, 0.25]], ["", None], ["de!", [3, 0.25]]]
    assert command("predict", "saved", "in.csv", "--save=out.jsonl")[0] == 0
    assert read_lines("out.jsonl")[1:] == [["abc", [3.0, 0.25]], ["", None], ["de!", [3, 0.25]]]


def test_an_interrupted_command_goes_on_in_a_format_that_cannot_be_appended_to(command, answers):
    write("in.csv", ("id", "text"), *[(n, "x" * (n % 7 + 1)) for n in range(23)])
    answers(reader=Reader(dies_after=2))
    flags = ("predict", "saved", "in.csv", "--save=out.xlsx", "--batch-size=5")
    assert command(*flags)[0] == 130
    assert not os.path.exists("out.xlsx")
    again = answers()
    assert command(*flags)[:2] == (0, "Goes on after 10 rows.\nout.xlsx: 23 rows\n")
    assert again.batches == [5, 5, 3]
    rows = read_excel("out.xlsx")
    assert [row[0] for row in rows[1:]] == [str(n) for n in range(23)]
    assert [row[2] for row in rows[1:]] == [NAMES[(n % 7 + 1) % 2] for n in range(23)]


def test_a_table_of_shift_jis_with_semicolons(command, answers):
    answers()
    with open("in.csv", "w", encoding="cp932", newline="") as file:
        csv.writer(file, delimiter=";").writerows([("text", "id"), ("これはペンです", "1;2")])
    status, output, errors = command("predict", "saved", "in.csv", "--save=out.csv")
    assert (status, output) == (0, "out.csv: 1 row\n")
    assert errors == "in.csv: Shift-JIS, separated by semicolons\n"
    assert read("out.csv")[1] == ["これはペンです", "1;2", "odd", "0.7500"]
    flags = ("predict", "saved", "in.csv", "--save=b.csv", "--encoding=cp932", "--delimiter=;")
    assert command(*flags)[0] == 0
    assert read("b.csv") == read("out.csv")


@pytest.mark.parametrize(
    ("save", "rows", "message"),
    [
        ("out.ods", [("text",), ("a",)], "not written in this format"),
        ("out.sqlite", [("text",), ("a",)], "not written in this format"),
        ("out.jsonl", [("text", "a", "a"), ("b", "c", "d")], "two columns have the same name"),
        ("out.parquet", [("text", "a", "a"), ("b", "c", "d")], "two columns have the same name"),
        ("out.xlsx", [("text",), ("x" * 32_768,)], "A cell of Excel holds 32,767"),
    ],
)
def test_what_a_format_cannot_hold_is_named(command, answers, save, rows, message):
    answers()
    write("in.csv", *rows)
    status, _, errors = command("predict", "saved", "in.csv", f"--save={save}")
    assert status == 2 and message in errors
    assert not os.path.exists(save)


class Predictor(Reader, TablePredictor):
    """What `runtime.load` returns, as far as a table is concerned."""

    def __init__(self, task):
        super().__init__()
        self.task = task


@pytest.mark.parametrize("task", PREDICTIONS)
def test_a_dataframe_gets_what_the_command_writes(command, answers, task):
    answers(task)
    column = PREDICTIONS[task].column
    frame = pandas.DataFrame({"id": [7, 8, 9], column: ["abc", None, "de"]}, index=["a", "b", "c"])
    frame.to_csv("in.csv", index=False)
    assert command("predict", "saved", "in.csv", "--save=out.csv")[0] == 0
    with pytest.warns(UserWarning, match="1 of 3 rows are not answered"):
        found = Predictor(task).predict_table(frame, batch_size=2)
    assert list(found.index) == ["a", "b", "c"]
    assert list(frame.columns) == ["id", column], "the table itself stays as it is"
    header, *rows = read("out.csv")
    assert list(found.columns) == header
    kinds = PREDICTIONS[task].kinds
    for name, kind in zip(PREDICTIONS[task].names, kinds, strict=True):
        cells = [row[header.index(name)] for row in rows]
        for cell, value in zip(cells, found[name], strict=True):
            empty = value is None or value == "" or value != value
            assert (cell == "") == empty
            if not empty:
                assert value == (cell if kind is str else json.loads(cell))


def test_a_dataframe_without_the_column_is_refused():
    frame = pandas.DataFrame({"body": ["a"]})
    with pytest.raises(InputError, match="there is no column 'text'"):
        Predictor("classification").predict_table(frame)
    found = Predictor("classification").predict_table(frame, "body", unsure=0.9)
    assert found["predicted"].tolist() == [""]
    with pytest.raises(InputError, match="there is a column 'predicted'|has a column 'predicted'"):
        Predictor("classification").predict_table(found, "body")


def test_labels_below_a_probability_are_left_open(command, answers):
    answers()
    write("in.csv", ("text",), ("abc",), ("abcdefghijk",))
    command("predict", "saved", "in.csv", "--save=out.csv", "--unsure=0.7")
    assert [row[1:] for row in read("out.csv")[1:]] == [["odd", "0.7500"], ["", "0.5000"]]


@pytest.mark.parametrize(
    ("task", "column", "new", "cells"),
    [
        ("seq2seq", "source", "answer", ["cba", "!ed"]),
        ("causal", "instruction", "answer", ["cba", "!ed"]),
        ("embedding", "text", "vector", ["[3.0, 0.25]", "[3.0, 0.25]"]),
    ],
)
def test_other_tasks(command, answers, task, column, new, cells):
    answers(task)
    write("in.csv", (column,), ("abc",), ("de!",))
    assert command("predict", "saved", "in.csv", "--save=out.csv")[0] == 0
    assert read("out.csv") == [[column, new], ["abc", cells[0]], ["de!", cells[1]]]


def test_rows_that_cannot_be_read_are_kept_and_listed(command, answers):
    answers(text_columns=2, columns=["a", "b"])
    rows = [("x", "y"), ("", ""), ("z",), ("u", "v", "w"), ("", "q"), ("", "")]
    write("in.csv", ("a", "b"), *rows)
    status, output, _ = command("predict", "saved", "in.csv", "--save=out.csv", "--batch-size=2")
    assert status == 0 and "3 of them could not be read" in output
    assert read("out.csv")[1:] == [
        ["x", "y", "even", "0.7500"],
        ["", "", "", ""],
        ["z", "", "", ""],
        ["u", "v", "", ""],
        ["", "q", "odd", "0.7500"],
    ], "the last row is commas only, as spreadsheets leave them"
    bad = read("out.bad_rows.csv")[1:]
    assert [(row[0], json.loads(row[3])) for row in bad] == [
        ("3", ["", ""]),
        ("4", ["z"]),
        ("5", ["u", "v", "w"]),
    ]


@pytest.mark.parametrize("cut", [0, 7])
def test_an_interrupted_command_goes_on(command, answers, cut):
    table = [(n, "x" * (n % 7 + 1)) for n in range(23)]
    write("in.csv", ("id", "text"), *table)
    answers()
    command("predict", "saved", "in.csv", "--save=whole.csv")
    answers(reader=Reader(dies_after=2))
    flags = ("predict", "saved", "in.csv", "--save=out.csv", "--batch-size=5")
    assert command(*flags)[0] == 130
    with open("out.csv.part", "a", encoding="utf-8") as file:
        file.write("half a row"[:cut])  # what a kill may leave
    again = answers()
    status, output, _ = command(*flags)
    assert (status, output) == (0, "Goes on after 10 rows.\nout.csv: 23 rows\n")
    assert again.batches == [5, 5, 3], "the first ten rows are not answered again"
    assert read("out.csv") == read("whole.csv")


def test_options_are_as_the_record_of_an_interrupted_command_has_them():
    given = _given_options(GenerationOptions(stop=("a", "b"), top_k=3))
    assert given == json.loads(json.dumps(given))
    assert given == {"temperature": 1.0, "top_k": 3, "stop": ["a", "b"]}


def test_a_signal_between_two_rows_answers_none_twice(command, answers, monkeypatch):
    """It may come when some rows of a batch are made into cells, and others not yet."""
    write("in.csv", ("text",), *[("x" * (n % 7 + 1),) for n in range(23)])
    answers()
    command("predict", "saved", "in.csv", "--save=whole.csv")
    flags = ("predict", "saved", "in.csv", "--save=out.csv", "--batch-size=5")

    def interrupted(*arguments):
        yield from labels.answer(*arguments)[:3]
        raise KeyboardInterrupt

    labels = PREDICTIONS["classification"]
    for _ in range(2):
        broken = labels._replace(answer=interrupted)
        monkeypatch.setitem(PREDICTIONS, "classification", broken)
        assert command(*flags)[0] == 130
        monkeypatch.setitem(PREDICTIONS, "classification", labels)
        answers(reader=Reader(dies_after=1))
        assert command(*flags)[0] == 130, "one batch more"
    again = answers()
    assert command(*flags)[:2] == (0, "Goes on after 10 rows.\nout.csv: 23 rows\n")
    assert again.batches == [5, 5, 3], "a batch is answered whole"
    assert read("out.csv") == read("whole.csv")


def test_one_command_at_a_time_writes_a_table(command, answers):
    answers()
    write("in.csv", ("text",), ("x",))
    lock = files.Lock(Path("out.csv.part.lock")).hold()
    status, _, errors = command("predict", "saved", "in.csv", "--save=out.csv")
    assert status == 2 and "is writing it now" in errors
    lock.release()
    assert command("predict", "saved", "in.csv", "--save=out.csv")[0] == 0
    assert sorted(os.listdir()) == ["in.csv", "out.csv", "saved"], "nothing is left behind"


def test_another_table_begins_anew(command, answers):
    write("in.csv", ("text",), *[("x",)] * 9)
    answers(reader=Reader(dies_after=1))
    flags = ("predict", "saved", "in.csv", "--save=out.csv", "--batch-size=3")
    assert command(*flags)[0] == 130
    write("in.csv", ("text",), *[("xy",)] * 9)
    again = answers()
    assert command(*flags)[:2] == (0, "out.csv: 9 rows\n")
    assert again.batches == [3, 3, 3]
    assert {row[1] for row in read("out.csv")[1:]} == {"even"}


@pytest.mark.parametrize(
    ("header", "flags", "message"),
    [
        (("body",), [], "there is no column 'text'"),
        (("text", "predicted"), [], "there is a column 'predicted' already"),
        (("text",), ["--unsure=2"], "--unsure is 2.0"),
        (("text",), ["--column=a,b"], "--column names 2 columns; the model reads 1"),
        (("text",), ["--top-k=3"], "--top-k is for models that write"),
        (("text",), ["--save=there.csv"], "there.csv exists already"),
        (("text",), ["--save=no/out.csv"], "there is no folder no"),
        (("text",), ["--save=./in.csv", "--overwrite"], "that is the table to read"),
    ],
)
def test_what_cannot_be_predicted_is_named(command, answers, header, flags, message):
    answers()
    write("in.csv", header, ["x"] * len(header))
    write("there.csv", ("kept",))
    status, _, errors = command("predict", "saved", "in.csv", "--save=out.csv", *flags)
    assert status == 2 and message in errors
    assert read("there.csv") == [["kept"]]


def test_a_base_answers_nothing(command, answers):
    answers("masked")
    write("in.csv", ("text",), ("x",))
    status, _, errors = command("predict", "saved", "in.csv", "--save=out.csv")
    assert status == 2 and "answers nothing" in errors
