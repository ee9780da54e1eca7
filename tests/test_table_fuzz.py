"""Nasty tables in every format, read and written: judged by another program that knows the format.

By default 60 tables in each format; with ALL_TESTS=1 ten times as many.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
import sqlite3
from types import SimpleNamespace

import numpy as np
import openpyxl
import pandas
import pyarrow
import pyarrow.parquet
import pytest
from openpyxl.utils.escape import unescape
from pyarrow import ipc

from tfx_transformer import bundle, runtime
from tfx_transformer.data.tables import read_table
from tfx_transformer.errors import InputError
from tfx_transformer.prediction.classification import Labels

COUNT = 600 if "ALL_TESTS" in os.environ else 60
ALPHABETS = {
    "plain": "abc ABC 019 .-_'",
    "marks": "\",;|\t\n\r'=+-@#\\/{}[]<>&",
    "wide": "日本語のテキストカナー。、「」！ａ①㈱～𠮷",
    "western": "äöüßéèçñåøæ",
    "beyond": "👩‍👧é\u0301\u200b\u2028\u202e\ufeff\u00a0\x1f\x7f\x85\ufffd",
}
WORDS = ["NA", "null", "None", "nan", "NaN", "N/A", "#N/A", "001", "1", "1.0", "1e5", "True"]
WORDS += ["TRUE", "false", "2024-01-02", "=1+1", "inf", "-", "a_x000D_", "_x005F_", "sep=;", '""']
WORDS += [",,", "\\N", "0x1F", "1_000", "10%", "$5", "+1", "-0", ".5", "1."]
FORMATS = ["csv", "semicolon", "cp932", "utf-16", "tsv", "jsonl", "xlsx", "parquet", "sqlite"]
FORMATS += ["arrow", "csv.gz"]


def nasty_table(seed: int, characters: str) -> list[list[str]]:
    """A header and up to nine rows of hard texts; the first column is never blank."""
    draw = random.Random(seed)
    width = draw.choice([2, 3, 5])

    def cell():
        if draw.random() < 0.3:
            return draw.choice(WORDS)
        text = "".join(draw.choices(characters, k=draw.choice([0, 1, 3, 7, 31])))
        return draw.choice([text, f" {text} ", text * 3])

    header = ["text", *(f"c{n}" for n in range(1, width))]
    rows = [[cell() for _ in header] for _ in range(draw.randint(1, 9))]
    for row in rows:
        row[0] = row[0] if row[0].strip() else "x" + row[0]
    return [header, *rows]


def characters_of(seed: int, kind: str) -> str:
    names = list(ALPHABETS) if kind != "cp932" else ["plain", "marks", "wide"]
    chosen = random.Random(seed).sample(names, k=2)
    text = "".join(ALPHABETS[name] for name in chosen)
    if kind == "cp932":
        text = text.encode("cp932", "ignore").decode("cp932") + "これはひらがなです" * 3
    return text


def write_other(kind: str, path, table: list[list[str]]) -> None:
    """Write a table by another program, all cells as texts."""
    header, *rows = table
    frame = pandas.DataFrame(rows, columns=header, dtype=object)
    if kind == "xlsx":
        book = openpyxl.Workbook()
        for row in table:
            book.active.append(row)
        for cells in book.active.iter_rows():
            for cell in cells:
                cell.data_type = "s" if cell.value is not None else cell.data_type
        book.save(path)
    elif kind == "parquet":
        frame.to_parquet(path)
    elif kind == "arrow":
        path.mkdir()
        arrow = pyarrow.Table.from_pandas(frame, preserve_index=False)
        with ipc.new_stream(path / "data.arrow", arrow.schema) as stream:
            stream.write_table(arrow)
        (path / "state.json").write_text('{"_data_files": [{"filename": "data.arrow"}]}')
    elif kind == "sqlite":
        with sqlite3.connect(path) as database:
            frame.to_sql("t", database, index=False)
    elif kind == "jsonl":
        lines = [json.dumps(dict(zip(header, row, strict=True))) for row in rows]
        path.write_text("".join(line + "\n" for line in lines), "utf-8")
    elif kind == "csv.gz":
        text = io.StringIO(newline="")
        csv.writer(text).writerows(table)  # pandas leaves carriage returns without quotes
        path.write_bytes(gzip.compress(text.getvalue().encode()))
    else:
        separator = {"semicolon": ";", "cp932": ";", "tsv": "\t"}.get(kind, ",")
        encoding = {"cp932": "cp932", "utf-16": "utf-16"}.get(kind, "utf-8")
        with path.open("w", encoding=encoding, newline="") as file:
            csv.writer(file, delimiter=separator, quoting=csv.QUOTE_ALL).writerows(table)


def read_other(kind: str, path) -> list[list[str]]:
    """Read what `write_other` wrote by another program: what a person finds in the file."""
    if kind == "xlsx":
        rows = openpyxl.load_workbook(path).active.values
        return [
            ["" if c is None else unescape(c) if isinstance(c, str) else c for c in row]
            for row in rows
        ]
    if kind == "parquet":
        frame = pandas.read_parquet(path)
        return [list(frame.columns), *frame.values.tolist()]
    if kind == "arrow":
        table = ipc.open_stream(path / "data.arrow").read_all()
        return [table.column_names, *map(list, zip(*table.to_pydict().values(), strict=True))]
    if kind == "sqlite":
        with sqlite3.connect(path) as database:
            found = database.execute("SELECT * FROM t ORDER BY rowid")
            return [[name for name, *_ in found.description], *map(list, found)]
    if kind == "jsonl":
        lines = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
        return [list(lines[0]), *(list(line.values()) for line in lines)]
    separator = {"semicolon": ";", "cp932": ";", "tsv": "\t"}.get(kind, ",")
    encoding = {"cp932": "cp932", "utf-16": "utf-16"}.get(kind, "utf-8")
    data = gzip.decompress(path.read_bytes()) if kind == "csv.gz" else path.read_bytes()
    text = io.StringIO(data.decode(encoding), newline="")
    return list(csv.reader(text, delimiter=separator))


def name_of(kind: str) -> str:
    return {"semicolon": "a.csv", "cp932": "a.csv", "utf-16": "a.csv", "arrow": "a"}.get(
        kind, f"a.{kind}"
    )


@pytest.mark.parametrize("kind", FORMATS)
def test_no_value_of_a_nasty_table_changes(tmp_path, kind):
    read = 0
    for seed in range(COUNT):
        folder = tmp_path / str(seed)
        folder.mkdir()
        path = folder / name_of(kind)
        table = nasty_table(seed, characters_of(seed, kind))
        if kind == "xlsx":
            table = [
                [openpyxl.cell.cell.ILLEGAL_CHARACTERS_RE.sub("", c) for c in r] for r in table
            ]
            table = [[c or "x" if i == 0 else c for i, c in enumerate(r)] for r in table]
        write_other(kind, path, table)
        header, *rows = read_other(kind, path)
        columns = {name: name for name in header}
        try:
            found = read_table(path, columns, allow_empty=header, skip_bad_rows=True)
        except InputError as error:
            assert "not certain" in str(error), (seed, str(error))
            continue
        read += 1
        got = list(map(list, zip(*found.columns.values(), strict=True)))
        assert got == rows, seed
        assert not found.bad_rows, seed
    assert read > 0.9 * COUNT, f"{read} of {COUNT} were read, the others refused"


@pytest.fixture
def labels(tmp_path, monkeypatch):
    """A bundle whose classifier labels every text."""
    found = Labels(["a", "b"])

    def classify(texts):
        return found.classifications(np.full((len(texts), 2), [0.75, 0.25]))

    folder = tmp_path / "saved"
    folder.mkdir()
    architecture = {"vocabulary_size": 300, "num_layers": 1, "num_heads": 1, "hidden_dim": 8}
    config = {"format": 1, "task": "classification", "architecture": architecture}
    config["architecture"] = architecture | {"image_size": 0}
    bundle.write_config(folder, config)
    monkeypatch.setattr(
        runtime, "load", lambda *_: SimpleNamespace(classify=classify, labels=found)
    )
    return folder


@pytest.mark.slow(but=["csv", "jsonl", "xlsx", "parquet"])
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "xlsx", "parquet", "csv.gz"])
def test_no_value_changes_on_its_way_through_predict(command, labels, tmp_path, kind):
    """From any format into one: the columns of the input are in the output as they were."""
    for seed in range(COUNT // 5):
        source = FORMATS[seed % len(FORMATS)]
        folder = tmp_path / f"{kind} {seed}"
        folder.mkdir()
        path, output = folder / name_of(source), folder / f"out.{kind}"
        table = nasty_table(seed, characters_of(seed, source))
        if source == "xlsx":
            table = [
                [openpyxl.cell.cell.ILLEGAL_CHARACTERS_RE.sub("", c) for c in r] for r in table
            ]
            table = [[c or "x" if i == 0 else c for i, c in enumerate(r)] for r in table]
        write_other(source, path, table)
        header, *rows = read_other(source, path)
        status, _, errors = command("predict", labels, path, f"--save={output}")
        if status:
            assert "not certain" in errors, (seed, errors)
            continue
        found, *answered = read_other(kind, output)
        assert found == [*header, "predicted", "probability"], seed
        got = [[cell if isinstance(cell, str) else "" for cell in row[:-2]] for row in answered]
        assert got == rows, (seed, source)
        assert {str(row[-2]) for row in answered} <= {"a", ""}, seed
