"""The CSV reader against Python's csv module, files found in the wild, and values made by hand."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import re
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfx_transformer.arguments import use_flags
from tfx_transformer.data import read_pairs, read_sentence_pairs
from tfx_transformer.data.formats import TableFile
from tfx_transformer.data.tables import (
    BadRow,
    read_header,
    read_table,
    stream_table,
    write_bad_rows,
)
from tfx_transformer.data.text_encoding import find_encoding
from tfx_transformer.errors import InputError

PAIR = {"source": "source", "target": "target"}

# Every example writes its file anew, so they can share one folder.
many_examples = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
hard_text = st.one_of(
    st.text(st.sampled_from('",\n\r\t ;|ab01é日語𠮷👩‍👧\u2028\ufeff\x0b\x1a')),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    st.sampled_from(["NA", "null", "None", "nan", "001", "1.0", "True", "-", "#N/A", "inf", '"']),
)


@pytest.fixture
def write(tmp_path):
    """Writes bytes, or text as UTF-8, to a new file and returns its path."""

    def write_file(content: bytes | str, name: str = "pairs.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


@pytest.fixture
def short_cells(monkeypatch):
    """A limit of 1,000 characters a cell."""
    before = csv.field_size_limit(1_000)
    monkeypatch.setattr("tfx_transformer.data.csv_file._LONGEST_CELL", 1_000)
    yield
    csv.field_size_limit(before)


def columns_of(text: str) -> dict[str, list[str]]:
    """What Python's csv module reads: header -> cells."""
    header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    return {name: list(cells) for name, cells in zip(header, zip(*rows, strict=True), strict=True)}


def message_of(path: Path, columns: dict[str, str] = PAIR, **options) -> str:
    with pytest.raises(InputError) as caught:
        read_table(path, columns, **options)
    message = str(caught.value)
    first, *remedy = message.split("\n")
    assert first.startswith(str(path)), "the first line names the file"
    assert remedy, "a remedy follows"
    assert all(line.startswith("  ") for line in remedy), "the remedy is indented"
    return message


def oracle(
    path: Path, encoding: str = "utf-8-sig", separator: str = ","
) -> list[tuple[int, list[str]]]:
    """Row number and cells of every row that is not blank, as Python's csv module reads them."""
    with path.open(encoding=encoding, newline="") as file:
        reader = csv.reader(file, delimiter=separator, strict=True)
        return [(n, cells) for n, cells in enumerate(reader, 1) if cells]


# What is read


def test_values_stay_as_they_are(write):
    words = ["NA", "null", "None", "nan", "N/A", "001", "1.0", "1e5", "True", " both ", "\u3000x\t"]
    path = write("label\n" + "\n".join(words) + "\n")
    table = read_table(path, {"label": "label"})
    assert table.columns == {"label": words}
    assert table.rows == list(range(2, 13))


def test_table_says_what_it_used(write):
    path = write("id,text,kind,\n7,hello,good,\n")
    table = read_table(path, {"x": "text", "y": "kind"})
    assert table.path == path
    assert table.columns == {"x": ["hello"], "y": ["good"]}
    assert table.used == {"x": "text", "y": "kind"}
    assert table.header == ["id", "text", "kind", ""]
    assert table.rows == [2]
    assert table.bad_rows == []


@given(
    rows=st.lists(st.lists(hard_text, min_size=3, max_size=3), min_size=1, max_size=8),
    line_end=st.sampled_from(["\r\n", "\n", "\r"]),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    byte_order_mark=st.booleans(),
)
@many_examples
def test_round_trip(tmp_path, rows, line_end, quoting, byte_order_mark):
    path = tmp_path / "round_trip.csv"
    encoding = "utf-8-sig" if byte_order_mark else "utf-8"
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, lineterminator=line_end, quoting=quoting)
        writer.writerows([["a", "b", "c"], *rows])
    table = read_table(path, {"a": "a", "b": "b", "c": "c"}, allow_empty="abc")
    assert [list(row) for row in zip(*table.columns.values(), strict=True)] == rows


@given(st.lists(st.sampled_from(["x,y", '"p\nq",r', '"\r\n\r\n",s', ""]), max_size=9))
@many_examples
def test_row_numbers_count_records_and_blank_lines(tmp_path, records):
    path = tmp_path / "blank_lines.csv"
    path.write_text("\n".join(["a,b", *records, "last,row"]), newline="")
    expected = [n for n, text in enumerate([*records, "last,row"], start=2) if text]
    assert read_table(path, {"a": "a", "b": "b"}, allow_empty=["a"]).rows == expected


def test_blank_lines_before_the_header(write):
    table = read_table(write("\n\nsource,target\n\none,two\n"), PAIR)
    assert table.columns == {"source": ["one"], "target": ["two"]}
    assert table.rows == [5]


@given(st.text(st.sampled_from(',,"\n\n\raab\0é\ufeff ')), st.booleans())
@settings(many_examples, max_examples=600)
def test_any_text_is_read_as_csv_reads_it_or_refused(tmp_path, body, skip):
    path = tmp_path / "any.csv"
    path.write_bytes(f"a,b\nfirst,row\n{body}".encode())
    try:
        (_, header), *records = oracle(path)
    except csv.Error:
        message_of(path, {"a": "a", "b": "b"}, skip_bad_rows=skip)
        return
    while records and not any(map(str.strip, records[-1][1])):
        records.pop()  # what spreadsheets leave behind the last row
    good, bad = [], []
    for row, cells in records:
        fine = len(cells) == len(header) and cells[0].strip() and "\0" not in cells[0] + cells[1]
        (good if fine else bad).append((row, cells))
    if bad and not skip:
        message = message_of(path, {"a": "a", "b": "b"}, allow_empty=["b"])
        assert message.startswith(f"{path}, row {bad[0][0]}: ")
        return
    table = read_table(path, {"a": "a", "b": "b"}, skip_bad_rows=skip, allow_empty=["b"])
    assert list(zip(table.rows, *table.columns.values(), strict=True)) == [
        (row, *cells) for row, cells in good
    ]
    assert [(r.row, list(r.values)) for r in table.bad_rows] == bad


@given(st.binary(max_size=60), st.sampled_from(["", "utf-16", "utf-16-le", "cp932", "latin-1"]))
@settings(many_examples, max_examples=300)
def test_any_bytes_are_read_or_refused(tmp_path, noise, encoding):
    path = tmp_path / "bytes.csv"
    start = "source,target\n日,é\n".encode(encoding, errors="replace") if encoding else b""
    path.write_bytes(start + noise)
    try:
        table = read_table(path, PAIR, skip_bad_rows=True)
    except InputError as error:
        assert str(error).startswith(str(path))  # any other exception fails
    else:
        found = find_encoding(path, str(path))
        read_in = "utf-8-sig" if found == "utf-8" else found
        kept = [cells for row, cells in oracle(path, read_in) if row in table.rows]
        assert [list(pair) for pair in zip(*table.columns.values(), strict=True)] == kept


@pytest.mark.parametrize("end", [",\n", ",\r\n" * 7, '"",""\n', " , \n\n,", "   \n", ",,\n,,,\n"])
def test_rows_of_commas_at_the_end_are_blank(write, end):
    assert read_table(write("source,target\na,b\n" + end), PAIR).rows == [2]
    path = write(f"source,target\na,b\n{end}\nc,d\n")
    message = message_of(path)
    assert message.startswith(f"{path}, row 3: "), message
    table = read_table(path, PAIR, skip_bad_rows=True)
    assert table.columns["source"] == ["a", "c"]
    assert len(table.bad_rows) == sum(1 for line in re.split(r"\r?\n", end) if line)


def test_a_file_of_commas_has_no_rows(write):
    assert "no row below it" in message_of(write("source,target\n,\n,\n"))
    assert "row 3: every cell of the row is empty" in message_of(
        write("source,target\na,b\n,\nc,d\n")
    )
    # Where every cell may be empty, such a row is one.
    table = read_table(write("source,target\na,b\n,\n"), PAIR, allow_empty=["source", "target"])
    assert table.rows == [2, 3]


@pytest.mark.parametrize(
    ("above", "row", "words"),
    [
        ("# made on Monday\n# by me\n", 1, "this is a comment, not the header: '# made on Monday'"),
        ("My mails\n\n", 1, "this is not the header but a title: 'My mails'"),
        ("My mails,,\n", 1, "this is not the header but a title: 'My mails'"),
        ("\n,,\n", 2, "every cell is empty; this is not the header"),
    ],
)
def test_what_is_above_the_header_is_named(write, above, row, words):
    path = write(f"{above}source,target\na,b\n")
    message = message_of(path)
    assert message.startswith(f"{path}, row {row}: {words}"), message
    found = [line for line in path.read_text().split("\n")].index("source,target") + 1
    assert f"The header seems to be row {found}." in message
    assert "emove the" in message


def test_a_header_is_not_looked_for_in_data(write):
    """Nothing above it is odd, and no row below names all columns."""
    assert "there is no column 'source'" in message_of(write("from,to\na,b\n"))
    assert read_header(write("from,to\na,b\n")) == ["from", "to"]


def test_a_comment_among_the_rows_is_named(write):
    message = message_of(write("source,target\na,b\n# to do\nc,d\n"))
    assert "row 3" in message and "begins with # may be a comment" in message


def test_cells_over_a_million_characters(write):
    huge = 'He said "no",\n' * 100_000
    quoted = huge.replace('"', '""')
    table = read_table(write(f'source,target\n"{quoted}",{"x" * 2_000_000}\n'), PAIR)
    assert table.columns == {"source": [huge], "target": ["x" * 2_000_000]}


def test_a_larger_limit_of_the_csv_module_is_left_alone(write):
    before = csv.field_size_limit(2**31 - 1)
    try:
        read_table(write("source,target\na,b\n"), PAIR)
        assert csv.field_size_limit() == 2**31 - 1
    finally:
        csv.field_size_limit(before)


# Streaming


@given(
    records=st.lists(st.sampled_from(["x,y", "é,", "short", "l,o,n,g", "", '"q\n",z', ","])),
    chunk_rows=st.integers(1, 7),
)
@many_examples
def test_streaming_equals_reading_whole(tmp_path, records, chunk_rows):
    path = tmp_path / "stream.csv"
    path.write_text("\n".join(["a,b", "first,row", *records]), newline="")
    columns = {"a": "a", "b": "b"}
    whole = read_table(path, columns, skip_bad_rows=True)
    tables = list(stream_table(path, columns, skip_bad_rows=True, chunk_rows=chunk_rows))
    for role in columns:
        assert [cell for t in tables for cell in t.columns[role]] == whole.columns[role]
    assert [row for t in tables for row in t.rows] == whole.rows
    assert [bad for t in tables for bad in t.bad_rows] == whole.bad_rows
    sizes = [len(t.rows) + len(t.bad_rows) for t in tables]
    assert sizes[:-1] == [chunk_rows] * (len(tables) - 1)
    assert 1 <= sizes[-1] <= chunk_rows


def test_streaming_holds_one_chunk_in_memory(write):
    path = write("source,target\n" + f"{'s' * 400},{'t' * 400}\n" * 10_000)
    tracemalloc.start()
    try:
        rows = sum(len(table.rows) for table in stream_table(path, PAIR, chunk_rows=100))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows == 10_000
    assert peak < path.stat().st_size / 8


def test_streaming_gives_the_rows_before_an_error(write):
    path = write("source,target\n1,a\n2,b\n3,c\n4\n")
    tables = stream_table(path, PAIR, chunk_rows=2)
    assert next(tables).rows == [2, 3]
    with pytest.raises(InputError, match="row 5"):
        next(tables)


def test_arguments_are_checked(write):
    path = write("source,target\n1,a\n")
    with pytest.raises(ValueError, match="allow_empty.*'labl'.*'target'"):
        read_table(path, PAIR, allow_empty=["labl"])
    with pytest.raises(ValueError, match="chunk_rows"):
        next(stream_table(path, PAIR, chunk_rows=0))


# Bad rows

ONE_BAD_ROW = [
    ("short", "only", "target", "the row has 1 of 2 cells: column 'target' is missing"),
    ("long", "a,b,c,d", None, "the row has 4 cells, the header 2"),
    ("blanks", " ", "target", "the row has 1 of 2 cells: column 'target' is missing"),
    ("empty source", ",b", "source", "column 'source' is empty"),
    ("blank target", "a,\u3000 \t", "target", "column 'target' is empty"),
    ("NUL", "a,b\0", "target", "column 'target' holds a NUL character"),
]


@pytest.mark.parametrize(("kind", "line", "column", "reason"), ONE_BAD_ROW)
def test_bad_row(write, kind, line, column, reason):
    path = write(f'source,target\n"two\nlines",x\n\n{line}\nlast,row\n')
    message = message_of(path)
    assert message.startswith(f"{path}, row 4: {reason}.\n")
    assert "--skip-bad-rows" in message

    table = read_table(path, PAIR, skip_bad_rows=True)
    assert table.columns == {"source": ["two\nlines", "last"], "target": ["x", "row"]}
    assert table.rows == [2, 5]
    assert table.bad_rows == [BadRow(4, column, reason, tuple(line.split(",")))]


def test_empty_cells_where_allowed(write):
    path = write("source,target,note\na,,\nb, ,x\n")
    table = read_table(path, PAIR, allow_empty=["target"])
    assert table.columns == {"source": ["a", "b"], "target": ["", " "]}
    # A short row is never an empty cell.
    assert "row 4: the row has 1 of 3" in message_of(
        write("source,target,note\na,,\nb, ,x\nc\n"), allow_empty=["target"]
    )


def test_a_column_without_a_name_is_called_by_its_number(write):
    assert "row 2: the row has 2 of 3 cells: column 3 is missing" in message_of(
        write("source,target,\na,b\n")
    )


def test_skipping_leaves_nothing(write):
    message = message_of(write("source,target\n\nx\n,y\n"), skip_bad_rows=True)
    assert "row 3: the row has 1 of 2 cells: column 'target' is missing, and every" in message


def test_bad_rows_file(tmp_path):
    bad_rows = [
        BadRow(4, "target", "column 'target' is empty", ('say "hi"\r\n, 日本', "")),
        BadRow(9, None, "the row has 3 cells, the header 2", ("a", "b\0", "👩‍👧")),
    ]
    path = tmp_path / "bad_rows.csv"
    path.write_text("an older file")
    write_bad_rows(path, iter(bad_rows))
    (_, header), *records = oracle(path)
    assert header == ["row", "column", "reason", "values"]
    assert "日本" in path.read_text("utf-8"), "readable in a text editor"
    assert [
        BadRow(int(row), column or None, reason, tuple(json.loads(values)))
        for _, (row, column, reason, values) in records
    ] == bad_rows
    assert os.listdir(tmp_path) == ["bad_rows.csv"]


def test_bad_rows_file_is_whole_or_unchanged(tmp_path):
    def fails_halfway():
        yield BadRow(2, None, "long", ("a",))
        raise RuntimeError("halfway")

    path = tmp_path / "bad_rows.csv"
    path.write_text("an older file")
    with pytest.raises(RuntimeError, match="halfway"):
        write_bad_rows(path, fails_halfway())
    assert path.read_text() == "an older file"
    assert os.listdir(tmp_path) == ["bad_rows.csv"]


# Files that cannot be read


def test_missing_file(write):
    path = write("source,target\na,b\n", "en_ja.csv")
    assert "'en_ja.csv'" in message_of(path.with_name("en-ja.csv"))
    assert "no folder" in message_of(path.parent / "data" / "en_ja.csv")


def test_folder(tmp_path):
    assert "is a folder" in message_of(tmp_path)


def test_file_that_cannot_be_opened(tmp_path):
    assert "cannot be opened: File name too long" in message_of(tmp_path / ("x" * 300))


@pytest.mark.parametrize("content", ["", "\ufeff", "\n\r\n\n"])
def test_empty_file(write, content):
    message = message_of(write(content))
    assert "is empty" in message
    assert "source,target" in message


@pytest.mark.parametrize("content", ["source,target", "source,target\n", "source,target\n\n\n"])
def test_header_only(write, content):
    assert "row 1: there is a header, but no row below it" in message_of(write(content))


JAPANESE = 'source,target\n"I rarely\ncatch a cold.",私はめったに風邪をひかない。\n'
FRENCH = "source,target\nplain,text\nHe was born in summer.,Il est né en été.\n"


ENCODINGS = [
    (JAPANESE, "cp932", "Shift-JIS"),
    (JAPANESE, "euc_jp", "EUC-JP"),
    (JAPANESE, "iso2022_jp", "ISO-2022-JP"),
    (JAPANESE, "utf-16", "UTF-16"),
    (JAPANESE, "utf-16-le", "UTF-16 (little endian)"),
    (FRENCH, "cp1252", "Windows-1252"),
    (FRENCH, "utf-16-be", "UTF-16 (big endian)"),
    (FRENCH, "utf-32", "UTF-32"),
]


@pytest.mark.parametrize(("text", "codec", "name"), ENCODINGS, ids=[row[1] for row in ENCODINGS])
def test_other_encodings_are_found_and_said(write, capsys, text, codec, name):
    path = write(text.encode(codec))
    assert read_table(path, PAIR).columns == columns_of(text)
    read_table(path, PAIR)
    assert capsys.readouterr().err == f"{path}: {name}, separated by commas\n", "said once"


def test_utf_16_that_happens_to_be_utf_8_too(write):
    path = write("source,target\na,b\n".encode("utf-16-le"))
    assert read_table(path, PAIR).columns == {"source": ["a"], "target": ["b"]}


@pytest.mark.parametrize(
    ("text", "codec", "names"),
    [
        ("source,target\nтекст,слово это так\n", "cp1251", ["cp1251"]),
        ("source,target\n東京都,大阪府\n", "cp932", ["cp932", "gb18030"]),  # no kana
        ("source,target\n안녕하세요,감사합니다\n", "euc_kr", ["euc_kr", "euc_jp"]),
        ("source,target\n中文,你好世界\n", "gb18030", ["gb18030"]),
        ("source,target\npříliš,žluťoučký kůň\n", "cp1250", ["cp1250"]),
        ("source,target\nça va,où êtes-vous\n", "mac_roman", ["mac_roman"]),
    ],
)
def test_an_encoding_is_not_guessed_but_named_by_the_person(write, text, codec, names):
    path = write(text.encode(codec))
    message = message_of(path)
    assert "the encoding is not certain" in message
    assert all(f"--encoding {name}" in message for name in names), message
    assert read_table(TableFile(path, encoding=codec), PAIR).columns == columns_of(text)


def test_a_command_without_flags_of_reading_names_none(write):
    remedies = {
        "source,target\n東京都,大阪府\n".encode("cp932"): "Convert the file to UTF-8.",
        b"source;a,target;b\n1;2,3;4\n": "Write the file with commas.",
        b"source,target\na,b,c\n": "Fix the row.",
        b"source,other\na,b\n": "Rename the column in the file.",
    }
    use_flags(["--column"])
    try:
        for content, remedy in remedies.items():
            message = message_of(write(content))
            assert remedy in message and "--" not in message, message
    finally:
        use_flags(None)


def test_an_encoding_that_a_file_does_not_have_is_refused(write):
    path = write(JAPANESE.encode("cp932"))
    assert "is not EUC-JP, which --encoding names" in message_of(TableFile(path, encoding="euc_jp"))
    with pytest.raises(InputError, match="there is no encoding of this name"):
        read_table(TableFile(path, encoding="klingon"), PAIR)


def test_one_damaged_place(write):
    start = 'source,target\n\n"a\nb",日本語\nc,日'.encode()
    message = message_of(write(b"\xef\xbb\xbf" + start + b"\xe6,\nd,e\n"), skip_bad_rows=True)
    assert f"row 4: column 2 is not UTF-8 text, from byte {3 + len(start)} of" in message
    assert "0xe6" in message
    assert "this place is damaged" in message


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp932"])
@pytest.mark.parametrize(
    ("separator", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")]
)
def test_other_separators_are_found_and_said(write, capsys, separator, name, encoding):
    rows = [["source", "target"], ["a, b", f'say "{separator}"'], ["two\nlines", "これは日本語"]]
    path = write("")
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=separator).writerows(rows)
    table = read_table(path, PAIR)
    assert list(zip(*table.columns.values(), strict=True)) == [tuple(row) for row in rows[1:]]
    assert f"separated by {name}\n" in capsys.readouterr().err


@pytest.mark.parametrize("mark", [";", ",", "\t"])
def test_the_line_in_which_excel_names_the_separator_is_not_the_header(write, mark):
    path = write(f"sep={mark}\r\nsource{mark}target\r\na;b,c{mark}d\r\n".replace("a;b,c", "a"))
    table = read_table(path, PAIR)
    assert table.columns == {"source": ["a"], "target": ["d"]}
    assert table.rows == [3]


def test_separators_that_both_fit_are_the_persons_to_choose(write):
    path = write("a;b,c\n1;2,3\n4;5,6\n")
    with pytest.raises(InputError, match="not certain what separates") as caught:
        read_header(path)
    assert "2 columns separated by commas (--delimiter ',')" in str(caught.value)
    assert read_header(TableFile(path, delimiter=";")) == ["a", "b,c"]
    assert read_header(TableFile(path, delimiter="comma")) == ["a;b", "c"]
    assert read_table(path, {"x": "b,c"}).columns == {"x": ["2,3", "5,6"]}, "the name decides"
    with pytest.raises(InputError, match="one character"):
        read_header(TableFile(path, delimiter=";;"))


def test_commas_stay_where_semicolons_are_in_cells(write):
    table = read_table(write("source,target; or not\na;b,c;d\ne,f\n"), {"x": "source"})
    assert table.columns == {"x": ["a;b", "e"]}


def test_missing_column(write):
    message = message_of(write("id,source,targte,\n1,a,b,\n"))
    assert "row 1: there is no column 'target'" in message
    assert "'id', 'source', 'targte', (no name)" in message
    assert "Did you mean 'targte'?" in message
    assert "target=..." in message


def test_missing_header(write):
    message = message_of(write("I love cats.,猫が大好きです。\nGood morning.,おはよう。\n"))
    assert "row 1: there is no column 'source'" in message
    assert "put a header above it" in message


def test_padded_header(write):
    message = message_of(write("text, label\na,b\n"), {"x": "text", "y": "label"})
    assert "row 1: the header ' label' has blanks around it" in message
    assert "'label'" in message.split("\n", 1)[1]
    assert read_table(write("text, label\na,b\n"), {"y": " label"}).columns == {"y": ["b"]}


def test_header_in_capitals(write):
    assert "Did you mean 'Source'?" in message_of(write("Source,Target\na,b\n"))


def test_duplicate_header(write):
    path = write("label,text,label,,\na,b,c,,\n")
    assert "row 1: columns 1 and 3 are both named 'label'" in message_of(path, {"y": "label"})
    assert read_table(path, {"x": "text"}).columns == {"x": ["b"]}


def test_nul_characters_in_the_header(write):
    assert "row 1: there are NUL characters in the header" in message_of(
        write("source,tar\0get\na,b\n")
    )


@pytest.mark.parametrize("module", [bz2, gzip, lzma])
@pytest.mark.parametrize("name", ["a.csv.{}", "a.csv"])
def test_packed_files(write, module, name):
    ending = {bz2: "bz2", gzip: "gz", lzma: "xz"}[module]
    path = write(module.compress(JAPANESE.encode("cp932")), name.format(ending))
    assert read_table(path, PAIR).columns == columns_of(JAPANESE)
    damaged = write(module.compress(JAPANESE.encode() * 99)[:-40], name.format(ending))
    assert "cannot be unpacked" in message_of(damaged)


def test_zip_files(write):
    path = write("", "a.zip")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inner/b.tsv", JAPANESE.replace(",", "\t"))
    assert read_table(path, PAIR).columns == columns_of(JAPANESE)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("c.csv", JAPANESE)
    assert "the zip file holds 2 files: 'inner/b.tsv', 'c.csv'" in message_of(path)


def test_a_file_that_unpacks_without_end_is_refused(write, monkeypatch):
    monkeypatch.setattr("tfx_transformer.data.unpacking._FREE_BYTES", 1_000_000)
    path = write(gzip.compress(b"source,target\n" + b"a,b\n" * 2_000_000), "a.csv.gz")
    assert "unpacks to more than" in message_of(path)


@pytest.mark.parametrize("inside", ["xl/workbook.xml", "a.csv"])
def test_a_workbook_that_is_none(tmp_path, inside):
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w") as archive:
        archive.writestr(inside, "<sheet/>")
    assert "the workbook cannot be read" in message_of(tmp_path / "a.xlsx")


@pytest.mark.parametrize("damage", [b"\xff", b"\x81", b"\xc3", b"\x93\x9d", b"\xe9\xff"])
def test_damage_is_not_taken_for_an_encoding(write, damage):
    message = message_of(write(b"source,target\nplain caf" + damage + b",text\n"))
    assert "If this place is damaged, write it anew" in message
    assert "cp1252" not in message and "looks like" not in message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_before_it_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")  # opening it would wait for who writes
    assert "this is a pipe" in message_of(tmp_path / "pipe.csv")


@pytest.mark.parametrize("name", ["a\0b.csv", "a\ud800.csv"])
def test_a_name_that_no_file_has(name):
    with pytest.raises(InputError, match="no file has this name"):
        read_table(name, PAIR)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ('"never closed,b\nc,d', "the quote that opens column 'source' (line 5 of the file)"),
        ('ab"c,"d ""e""\n\n', "the quote that opens column 'target' (line 5 of the file)"),
        ('"a"b,c', "text after the quote that closes column 'source' (line 5 of the file)"),
        ('"a\n,""",x"y,"b" c\nd,e', "closes column 3 (line 5 of the file)"),
        (r'a,"he said \"no\""', "closes column 'target' (line 5 of the file)"),
    ],
)
def test_quotes_that_do_not_pair_up(write, record, problem, skip):
    path = write(f'source,target\n"two\nlines",x\n\n{record}')
    first = message_of(path, skip_bad_rows=skip).split("\n")[0]
    assert first.startswith(f"{path}, row 4: ")
    assert problem in first


def test_a_cell_longer_than_can_be_meant(write, short_cells):
    message = message_of(write('source,target\na,"never closed\n' + "b,c\n" * 500))
    assert "row 2: column 'target' (line 2 of the file) has over 1,000 characters" in message


def test_quote_open_and_another_encoding(write, short_cells):
    text = 'source,target\na,"été, never closed\n' + "b,c\n" * 500
    message = message_of(write(text.encode("latin-1")))
    assert "row 2: column 'target' (line 2 of the file) has over 1,000 characters" in message


# Files found in the wild


def test_csv_spectrum(shared_data):
    folder = shared_data / "nasty_csv" / "csv_spectrum"
    for path in sorted((folder / "csvs").glob("*.csv")):
        # Its JSON holds another row than its CSV; compared with csv instead.
        differs = path.stem == "location_coordinates"
        (_, header), *records = oracle(path)
        expected = json.loads((folder / "json" / f"{path.stem}.json").read_text("utf-8"))
        if differs:
            expected = [dict(zip(header, cells, strict=True)) for _, cells in records]
        table = read_table(path, {name: name for name in header}, allow_empty=header)
        cells = zip(*table.columns.values(), strict=True)
        got = [dict(zip(table.columns, row, strict=True)) for row in cells]
        if path.stem == "newlines_crlf" and b"\r" not in path.read_bytes():
            expected = json.loads(json.dumps(expected).replace(r"\r\n", r"\n"))  # LF in the copy
        assert got == expected, path.name


# Files of csvkit in other encodings or with other separators, by what makes them so.
OTHERWISE = {
    "test_latin1": ("latin-1", ","),
    "test_utf16_big": ("utf-16", ","),
    "test_utf16_little": ("utf-16", ","),
    "sniff_limit": ("utf-8", ";"),
}


def test_csvkit_examples_as_csv_reads_them(shared_data):
    refused = set()
    paths = sorted((shared_data / "nasty_csv" / "csvkit_examples").glob("*.csv"))
    for path in paths:
        try:
            (_, header), *records = oracle(path, *OTHERWISE.get(path.stem, ()))
            columns = {f"{i} {name}": name for i, name in enumerate(header) if name}
            table = read_table(path, columns, allow_empty=columns, skip_bad_rows=True)
        except ValueError:  # an empty file, not UTF-8, or refused
            message_of(path, {"a": "a"})
            refused.add(path.stem)
            continue
        kept = [(row, cells) for row, cells in records if row in table.rows]
        for index, name in enumerate(header):
            if name:
                assert table.columns[f"{index} {name}"] == [cells[index] for _, cells in kept]
        bad = [row for row, cells in records if row not in table.rows]
        assert [row.row for row in table.bad_rows] == bad
        for row, cells in records:
            assert (row in bad) == (len(cells) != len(header) or "\0" in "".join(cells))
    assert len(paths) == 65
    assert refused == {
        "empty",
        "no_header_row",  # a single row, so a header without rows
        "no_header_row2",
        "null_byte",
        "test_empty_columns_long_row",
        "test_empty_columns_short_row",
        "test_extra_header",
    }


# Where the expectation leaves a choice, what this reader chose: the row named, or rows.
CHOSEN = {
    "11_missing_cells.csv": "row 3: column 'target' is empty",
    "14_ragged_short.csv": "row 6: the row has 1 of 2 cells",
    "15_ragged_long.csv": "row 6: the row has 4 cells",
    "16_header_case_space.csv": "Did you mean ' SOURCE '?",
    "17_no_header.csv": "put a header above it",
    "18_duplicate_header.csv": "columns 1 and 3 are both named 'source'",
    "19_unclosed_quote.csv": "row 6: the quote that opens column 'source'",
    "20_nul_byte.csv": "row 6: column 'source' holds a NUL",
    "22_header_only.csv": "no row below it",
    "23_empty.csv": "the file is empty",
    "26_comment_first.csv": "row 1: this is a comment, not the header",
    "30_invalid_utf8.csv": "row 6: column 1 is not UTF-8",
    "33_wrong_columns.csv": "'foo', 'bar'",
}
# Where it might refuse, but reads the rows.
READ = {"07_semicolon.csv", "08_tab.tsv", "09_utf16.csv", "10_cp932.csv", "37_gzipped.csv.gz"}


def test_derived_pairs_meet_their_expectations(shared_data):
    folder = shared_data / "nasty_csv" / "derived_enja"
    expectations = json.loads((folder / "expected.json").read_text("utf-8"))
    assert len(expectations) == 37
    plain = read_table(folder / "01_plain.csv", PAIR)
    for name, expected in expectations.items():
        may_refuse = "clear_error" in expected["outcome"] or expected["outcome"] == "no_crash"
        assert (name in CHOSEN or name in READ) == may_refuse, name
        if name in READ:
            assert read_table(folder / name, PAIR).columns == plain.columns
            continue
        if may_refuse:
            assert CHOSEN[name] in message_of(folder / name)
            continue
        table = read_table(folder / name, PAIR)
        got = [list(pair) for pair in zip(*table.columns.values(), strict=True)]
        if expected["outcome"] == "rows_maybe_unstripped":
            assert got != expected["rows"], "blanks at the ends stay"
            got = [[cell.strip() for cell in pair] for pair in got]
        assert got == expected["rows"], name


def test_derived_pairs_with_bad_rows_left_out(shared_data):
    folder = shared_data / "nasty_csv" / "derived_enja"
    expected = json.loads((folder / "expected.json").read_text("utf-8"))["11_missing_cells.csv"]
    table = read_table(folder / "11_missing_cells.csv", PAIR, skip_bad_rows=True)
    got = [list(pair) for pair in zip(*table.columns.values(), strict=True)]
    assert got == expected["rows"]
    assert [bad.row for bad in table.bad_rows] == [3, 5, 7]


def test_a_picture_is_not_described_as_a_table(write, capsys):
    file = write(b"\xff\xd8\xff\xe0" + bytes(range(256)) * 9, "my.png")
    message = message_of(file)
    assert "It looks like an image" in message
    assert "separated by" not in capsys.readouterr().out + message


def test_the_two_texts_of_a_pair_have_a_column_each(write):
    file = write("a,b\nx,y\n")
    for read, names in ((read_pairs, "--source and --target"), (read_sentence_pairs, "--first")):
        with pytest.raises(InputError, match=f"column 'a' is named twice: for {names}"):
            read(file, "a", "a")
