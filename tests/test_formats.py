"""Tables in every format: what another program wrote is read value for value, or refused."""

from __future__ import annotations

import datetime
import json
import sqlite3
import zipfile

import openpyxl
import pandas
import pyarrow
import pytest
from pyarrow import ipc

from tfx_transformer.data import read_instructions, read_labelled_texts
from tfx_transformer.data.formats import TableFile, open_table, table_files
from tfx_transformer.data.tables import read_header, read_table
from tfx_transformer.errors import InputError

COLUMNS = {"text": "text", "label": "label"}
ROWS = [("こんにちは", "a"), ("x\ny", "001"), ("NA", "1.0"), ('"q", ', "null")]


def message_of(path, columns=COLUMNS, **options):
    with pytest.raises(InputError) as caught:
        read_table(path, columns, **options)
    first, *remedy = str(caught.value).split("\n")
    assert first.startswith(str(path)) and remedy, "the file and a remedy are named"
    return str(caught.value)


def book(path, *rows, change=None):
    workbook = openpyxl.Workbook()
    for row in rows:
        workbook.active.append(row)
    if change:
        change(workbook.active)
    workbook.save(path)
    return path


def save_dataset(folder, *tables):
    """What `datasets.Dataset.save_to_disk` leaves: Arrow streams and a state that names them."""
    folder.mkdir(parents=True)
    names = [f"data-{n:05}-of-{len(tables):05}.arrow" for n in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        with ipc.new_stream(folder / name, table.schema) as stream:
            stream.write_table(table)
    state = {"_data_files": [{"filename": name} for name in names], "_split": "train"}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def write_rows(kind, folder):
    frame = pandas.DataFrame(ROWS, columns=["text", "label"])
    path = folder / f"table{kind}"
    if kind == ".xlsx":
        return book(path, ("text", "label"), *ROWS), [2, 3, 4, 5]
    if kind == ".parquet":
        frame.to_parquet(path)
        return path, [0, 1, 2, 3]
    if kind == ".jsonl":
        frame.to_json(path, orient="records", lines=True, force_ascii=False)
        return path, [1, 2, 3, 4]
    if kind == ".json":
        frame.to_json(path, orient="records", indent=2)
        return path, [1, 2, 3, 4]
    if kind == ".db":
        with sqlite3.connect(path) as database:
            frame.to_sql("mails", database, index=False)
        return path, [1, 2, 3, 4]
    if kind == "folder":
        table = pyarrow.Table.from_pandas(frame, preserve_index=False)
        return save_dataset(path, table.slice(0, 3), table.slice(3)), [0, 1, 2, 3]
    if kind == "parts":
        path.mkdir()
        frame[:1].to_parquet(path / "train-00000-of-00002.parquet")
        frame[1:].to_parquet(path / "train-00001-of-00002.parquet")
        return path, [0, 1, 2, 3]
    separator = "\t" if ".tsv" in kind else ","
    if kind.endswith(".zst"):
        with pyarrow.CompressedOutputStream(str(path), "zstd") as packed:
            packed.write(frame.to_csv(index=False).encode())
        return path, [2, 3, 4, 5]
    frame.to_csv(path, index=False, sep=separator)
    return path, [2, 3, 4, 5]


KINDS = [".csv", ".tsv", ".jsonl", ".json", ".xlsx", ".parquet", ".db", "folder", "parts"]
KINDS += [".csv.gz", ".tsv.bz2", ".csv.xz", ".csv.zip", ".csv.zst"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_another_program_wrote_is_read(tmp_path, kind):
    path, numbers = write_rows(kind, tmp_path)
    table = read_table(path, COLUMNS)
    assert list(zip(*table.columns.values(), strict=True)) == ROWS
    assert list(table.rows) == numbers
    assert table.path == path
    read = read_labelled_texts(path)
    assert [texts[0] for texts in read.texts] == [text for text, _ in ROWS]


def test_cells_of_a_workbook_read_as_excel_shows_them(tmp_path):
    when = datetime.datetime(2024, 1, 5, 10, 2)
    shown = [
        ("a", "a"), (1.0, "1"), (1.5, "1.5"), (0.1 + 0.2, "0.3"), (1e20, "1e+20"), (True, "TRUE"),
        (-7, "-7"), (when, "2024-01-05T10:02:00"), (when.date(), "2024-01-05"), ("001", "001"),
        (datetime.time(9, 5), "09:05:00"), ("a\nb ", "a\nb "), ("a_x000D_\nb", "a\r\nb"),
        (" x", " x"), ("_x005F_x000D_", "_x000D_"), ("#N/A!", "#N/A!"),
    ]  # fmt: skip
    path = book(tmp_path / "a.xlsx", ("text",), *[(value,) for value, _ in shown])
    table = read_table(path, {"text": "text"})
    assert table.columns["text"] == [text for _, text in shown]


def test_numbers_with_leading_zeros_keep_them(tmp_path):
    def change(sheet):
        sheet["A2"].number_format = "00000"

    path = book(tmp_path / "a.xlsx", ("text",), (123,), (7,), change=change)
    assert read_table(path, {"text": "text"}).columns["text"] == ["00123", "7"]


@pytest.mark.parametrize(
    ("rows", "change", "words"),
    [
        ([("a", "b"), ("=1+1", "c")], None, "row 3: cell A3 holds a formula without a stored"),
        ([("a", "b"), ("c", "#N/A")], None, "row 3: cell B3 holds the error #N/A"),
        ([("a", "b"), ("c", "d")], lambda s: s.merge_cells("B2:B3"), "is merged with B2"),
        ([("a", "b"), ("c", None)], None, "row 3: column 'label' is empty"),
        ([("a", "b"), ("c", "d", "e")], None, "row 3: the row has 3 cells, the header 2"),
        ([], None, "there is a header, but no row below it"),
    ],
)
def test_cells_of_a_workbook_that_cannot_be_used(tmp_path, rows, change, words):
    path = book(tmp_path / "a.xlsx", ("text", "label"), *rows, change=change)
    assert words in message_of(path)
    if rows:
        assert len(read_table(path, COLUMNS, skip_bad_rows=True).rows) == 1


def test_rows_and_header_of_a_workbook_are_where_excel_shows_them(tmp_path):
    path = book(tmp_path / "a.xlsx", (), (), ("text", "label"), ("a", "b"), (), ("c", "d"), ())
    assert read_table(path, COLUMNS).rows == [4, 6]


def test_errors_in_columns_that_are_not_read_do_not_disturb(tmp_path):
    path = book(tmp_path / "a.xlsx", ("text", "label", "n"), ("a", "b", "#DIV/0!"))
    assert read_table(path, COLUMNS).columns == {"text": ["a"], "label": ["b"]}


def test_a_sheet_or_a_table_is_named_where_there_are_several(tmp_path):
    workbook = openpyxl.Workbook()
    workbook.active.append(("text", "label"))
    for title in ("second", "三"):
        sheet = workbook.create_sheet(title)
        sheet.append(("text", "label"))
        sheet.append((title, "x"))
    workbook.save(path := tmp_path / "a.xlsx")
    assert "Name one with --sheet: 'Sheet', 'second', '三'" in message_of(path)
    assert read_table(TableFile(path, sheet="三"), COLUMNS).columns["text"] == ["三"]
    assert "there is no sheet 'x'" in message_of(TableFile(path, sheet="x"))
    with sqlite3.connect(path := tmp_path / "a.db") as database:
        for name in ("one", 'two"; drop'):
            database.execute(f'CREATE TABLE "{name.replace(chr(34), chr(34) * 2)}" (text, label)')
        database.execute("INSERT INTO one VALUES ('a', 7)")
    assert "Name one with --table: 'one', 'two\"; drop'" in message_of(path)
    assert read_table(TableFile(path, table="one"), COLUMNS).columns["label"] == ["7"]
    assert "there is a header, but no row" in message_of(TableFile(path, table='two"; drop'))


def test_an_option_of_another_format_is_refused(tmp_path):
    path, _ = write_rows(".parquet", tmp_path)
    assert "--sheet does not apply to Parquet" in message_of(TableFile(path, sheet="x"))
    other, _ = write_rows(".csv", tmp_path)
    first, second = table_files(path, other, encoding="utf-8", sheet="")
    assert (first.options(), second.options()) == ({}, {"encoding": "utf-8"})
    with pytest.raises(InputError, match="--table x: not an option of"):
        table_files(path, None, table="x")
    assert table_files(path, None) == (path, None)


def test_values_of_a_database_that_are_not_texts(tmp_path):
    with sqlite3.connect(path := tmp_path / "a.db") as database:
        database.execute("CREATE TABLE t (text, label)")
        rows = [(1, "a", 2.5), (7, "b", None), (9, b"\xff", "c"), (10, "d", "e")]
        database.executemany("INSERT INTO t (rowid, text, label) VALUES (?, ?, ?)", rows)
        database.execute("INSERT INTO t VALUES (CAST(x'ff41' AS TEXT), 'f')")
    before = path.read_bytes()
    table = read_table(path, COLUMNS, skip_bad_rows=True)
    assert table.columns == {"text": ["a", "d"], "label": ["2.5", "e"]}
    assert table.rows == [1, 10], "rows are named by their rowid"
    reasons = [(bad.row, bad.reason) for bad in table.bad_rows]
    assert reasons == [
        (7, "column 'label' is empty"),
        (9, "column 'text' is not a text but of type bytes"),
        (11, "column 'text' is not UTF-8 text"),
    ]
    assert path.read_bytes() == before, "the database is not written"


def test_values_of_parquet(tmp_path):
    when = datetime.datetime(2024, 1, 5, 10, 2)
    table = pyarrow.table({
        "text": ["a", None, "c", "d"],
        "label": pyarrow.array([1, 2, 3, 4], "int8"),
        "more": [1.5, None, float("nan"), 1.0],
        "when": [when, None, when, when],
        "tags": [["x"], None, [], ["y", "z"]],
    })  # fmt: skip
    pyarrow.parquet.write_table(table, path := tmp_path / "a.parquet")
    names = {name: name for name in ("text", "label", "more", "when")}
    read = read_table(path, names, skip_bad_rows=True, allow_empty=["more", "when"])
    assert read.rows == [0, 2, 3]
    assert read.columns == {
        "text": ["a", "c", "d"],
        "label": ["1", "3", "4"],
        "more": ["1.5", "", "1.0"],
        "when": ["2024-01-05T10:02:00"] * 3,
    }
    assert "column 'tags' is not a text but of type list" in message_of(path, {"text": "tags"})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": "a", "text": "b", "label": "c"}', "the key 'text' is there twice"),
        ('{"text": 1e999, "label": "c"}', "the number 1e999 is too large"),
        ('{"text": NaN, "label": "c"}', "NaN is not JSON"),
        ('["a", "b"]', "it is not an object but list"),
        ('{"text": "a", "label"', "it is not JSON"),
        ('{"text": "a"}', "column 'label' is empty"),
        ('{"text": {"a": 1}, "label": "c"}', "column 'text' is not a text but of type dict"),
        ('{"text": "a\\u0000", "label": "c"}', "column 'text' holds a NUL"),
    ],
)
def test_lines_of_json_that_cannot_be_used(tmp_path, line, reason):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "label": 1.10, "x": null}\n\n' + line + "\n")
    assert f"row 3: {reason}" in message_of(path)
    table = read_table(path, COLUMNS, skip_bad_rows=True)
    assert table.columns == {"text": ["a"], "label": ["1.10"]}
    assert read_header(path)[:2] == ["text", "label"]


def test_splits_of_a_folder_are_named(tmp_path):
    table = pyarrow.table({"text": ["a"], "label": ["b"]})
    for split in ("train", "test"):
        save_dataset(tmp_path / "set" / split, table)
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert f"Name one of them: {tmp_path / 'set' / 'train'}" in message_of(tmp_path / "set")
    assert read_table(tmp_path / "set" / "test", COLUMNS).columns["text"] == ["a"]


def test_a_folder_names_no_file_elsewhere(tmp_path):
    folder = save_dataset(tmp_path / "set", pyarrow.table({"text": ["a"], "label": ["b"]}))
    (folder / "state.json").write_text('{"_data_files": [{"filename": "../secret.arrow"}]}')
    assert "names no files of the folder" in message_of(folder)


@pytest.mark.parametrize("kind", [".xlsx", ".parquet", ".db", "folder", ".csv.gz", ".csv.zst"])
def test_damaged_files_are_named(tmp_path, kind):
    path, _ = write_rows(kind, tmp_path)
    file = next(path.glob("*.arrow")) if path.is_dir() else path
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    assert len(message_of(path)) < 1500


def test_entities_in_a_workbook_are_refused(tmp_path):
    path = book(tmp_path / "a.xlsx", ("text", "label"), ("a", "b"))
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = "xl/worksheets/sheet1.xml"
    parts[name] = b'<!DOCTYPE a [<!ENTITY b "c">]>' + parts[name]
    with zipfile.ZipFile(path, "w") as archive:
        for part, data in parts.items():
            archive.writestr(part, data)
    assert "defines entities" in message_of(path)


def test_conversations_in_parquet_and_workbooks(tmp_path):
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    pandas.DataFrame({"messages": [said, said]}).to_parquet(tmp_path / "a.parquet")
    book(tmp_path / "a.xlsx", ("messages",), (json.dumps(said),), (json.dumps(said),))
    for name, rows in (("a.parquet", [0, 1]), ("a.xlsx", [2, 3])):
        read = read_instructions(tmp_path / name)
        assert read.messages == [said, said]
        assert read.rows == rows
    book(tmp_path / "b.xlsx", ("instruction", "output"), ("Hi", "Hello"))
    assert read_instructions(tmp_path / "b.xlsx").messages == [said]


def test_a_source_says_how_many_rows_there_are(tmp_path):
    for kind in (".parquet", ".db", ".jsonl"):
        path, _ = write_rows(kind, tmp_path)
        opened = open_table(path).open()
        assert [row.end for row in opened.rows][-1] == opened.total == 4
