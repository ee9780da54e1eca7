"""Files as spreadsheets, scripts and accidents leave them: read as Python's csv module reads them,
value for value, or refused with the row, the column and a remedy.

Files from elsewhere stand in `tests/test_tables.py`; here each case is made for one danger.
"""

from __future__ import annotations

import csv
import io
import zipfile

import pytest

from tfx_transformer.data.tables import read_table
from tfx_transformer.errors import InputError

COLUMNS = {"text": "text", "label": "label"}
JAPANESE = "text,label\nこれはペンです。,文房具\nとても美味しい。,食べ物\n"
FRENCH = "text,label\nHe was born in summer.,Il est né en été.\n"
RUSSIAN = "text,label\nпривет,слово\n"

# Read as text: what other readers take for missing, for numbers, dates or truth.
WORDS = r"""
    NA N/A n/a #N/A #NA NaN nan -nan -NaN null NULL None none nil <NA> 1.#IND 1.#QNAN #DIV/0! \N
    True TRUE true False yes 001 1 1.0 1e5 1E400 0x1F 1_000 +1 -0 .5 1. inf -inf Infinity
    2020-01-02 1/2 10% $5 =1+1 @sum - . ?
"""


def container(kind: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("xl/worksheets/sheet1.xml" if kind == "xlsx" else "a.csv", FRENCH)
    return data.getvalue()


def quoted(inner: str, end: str) -> str:
    return f'text,label{end}"two{inner}lines",a{end}"say ""no"", {inner}twice",b{end}last,c'


# What is to be read: name, content.
READ = [(f"word {word}", f"text,label\n{word},{word}\n") for word in WORDS.split()]
READ += [
    (f"{name}, {inside!r} inside, {ends}", quoted(inner, end) + end * last)
    for name, end in (("LF", "\n"), ("CRLF", "\r\n"), ("CR", "\r"))
    for inside, inner in (("LF", "\n"), ("CRLF", "\r\n"), ("CR", "\r"))
    for last, ends in ((True, "ended"), (False, "not ended"))
]
READ += [
    ("signature", "\ufefftext,label\na,b\n"),
    ("signature before a quote", '\ufeff"text","label"\na,b\n'),
    ("a signature in the middle", "text,label\na,b\n\ufeffc,d\n"),
    ("the separators named", "sep=,\ntext,label\na,b\n"),
    ("stray quotes", 'text,label\n6" nails,a"b\n'),
    ("a blank before a quote", 'text,label\na, "b"\n'),
    ("all cells quoted", '"text","label"\r\n"a","1"\r\n'),
    ("only quotes", 'text,label\n"""""","""a"""\n'),
    ("commas in quotes", 'text,label\n"a,b,,",",c"\n'),
    ("tabs and semicolons", "text,label\na;b;c,d\te\n"),
    ("blanks at the ends", "text,label\n  a ,\tb\u3000\n"),
    ("blank lines", "\n\ntext,label\n\r\n\na,b\n\n\nc,d\n\n"),
    ("columns in another order", "label,id,text\nb,1,a\n"),
    ("an index column", ",text,label\n0,a,b\n1,c,d\n"),
    ("a column without a name", "text,label,\na,b,\n"),
    ("the name of another column twice", "id,text,id,label\n1,a,2,b\n"),
    ("a line end in another header", '"a\nb",text,label\n1,a,b\n'),
    ("rows alike", "text,label\n" + "a,b\n" * 3),
    ("a header once more", "text,label\na,b\ntext,label\n"),
    ("a comment", "text,label\n# a,b\n"),
    ("a formula", 'text,label\n"=HYPERLINK(""http://x"",1)",b\n'),
    ("markup", "text,label\n<b>a</b>,&amp;\n"),
    ("JSON in a cell", 'text,label\n"{""a"": [1, ""b""]}",c\n'),
    ("backslashes", "text,label\na\\,b\\n\n"),
    ("control characters", "text,label\na\x01\x0b\x0c\x1a\x1b[0m\x7f,b\x85\n"),
    ("line ends of Unicode", "text,label\na\u2028b\u2029c\x85d,\x1ee\n"),
    ("joined emoji", "text,label\n👩‍👧‍👦🏽,🇯🇵\n"),
    ("composed and not", "text,label\né,e\u0301\n"),
    ("right to left", "text,label\n\u202eabc\u202c,שלום\n"),
    ("noncharacters", "text,label\n\ufffe\uffff\U0010ffff,\ufffd\n"),
    ("a hair space, a zero width one", "text,label\n\u200aa\u200b,b\u00a0\n"),
    ("a million characters", f"text,label\n{'x' * 1_000_003},b\n"),
    ("a million characters in quotes", f'text,label\n"{"日," * 500_000}",b\n'),
    ("a million lines in a cell", 'text,label\n"' + "\n" * 1_000_000 + 'end",b\n'),
    ("a million quotes in a cell", 'text,label\n"' + '""' * 1_000_000 + '",b\n'),
    ("two thousand columns", "text,label" + ",x" * 2_000 + "\na,b" + ",1" * 2_000 + "\n"),
    ("a row over the border of chunks", "text,label\n" + "a,b\n" * 10_000 + "c,d\n"),
]

# What is to be refused: name, content, what the first line says after the file's name.
REFUSED = [
    ("empty", "", ": the file is empty"),
    ("only a signature", "\ufeff", ": the file is empty"),
    ("only line ends", "\n\r\n\n", ": the file is empty"),
    ("only a header", "text,label\n", ", row 1: there is a header, but no row"),
    ("only a header and blanks", "text,label\n  \n", ", row 1: there is a header, but no row"),
    ("no header", "I like it.,good\nNot at all.,bad\n", ", row 1: there is no column 'text'"),
    ("a title above the header", "My data\ntext,label\na,b\n", ", row 1: this is not the header"),
    ("a column missing", "text,lable\na,b\n", ", row 1: there is no column 'label'"),
    ("a header in capitals", "Text,Label\na,b\n", ", row 1: there is no column 'text'"),
    ("a padded header", "text, label\na,b\n", ", row 1: the header ' label' has blanks"),
    ("a header with a hard space", "text\u00a0,label\na,b\n", ", row 1: the header 'text\\xa0'"),
    ("a name twice", "text,label,label\na,b,c\n", ", row 1: columns 2 and 3 are both named 'lab"),
    ("a signature twice", "\ufeff\ufefftext,label\na,b\n", ", row 1: there is no column 'text'"),
    ("NUL in the header", "text,la\0bel\na,b\n", ", row 1: there are NUL characters"),
    ("short, first", "text,label\na\nb,c\n", ", row 2: the row has 1 of 2 cells: column 'label'"),
    ("short, last", "text,label\nb,c\na", ", row 3: the row has 1 of 2 cells: column 'label'"),
    ("short, of three", "text,id,label\na,b\n", ", row 2: the row has 2 of 3 cells: column 'label"),
    ("short, after a line end in quotes", 'text,label\n"a\nb",c\nd\n', ", row 3: the row has 1 "),
    ("long, first", "text,label\na,b,c\nd,e\n", ", row 2: the row has 3 cells, the header 2"),
    ("long, last", "text,label\nd,e\na,b,c", ", row 3: the row has 3 cells, the header 2"),
    ("long by an empty cell", "text,label\na,b,\n", ", row 2: the row has 3 cells, the header 2"),
    ("all rows long", "text,label\na,b,c\nd,e,f\n", ", row 2: the row has 3 cells, the header 2"),
    ("a comma not quoted", "text,label\nwell, yes,b\n", ", row 2: the row has 3 cells"),
    ("a decimal comma", "text,label\na,0,5\n", ", row 2: the row has 3 cells, the header 2"),
    ("empty text", "text,label\na,b\n,c\n", ", row 3: column 'text' is empty"),
    ("empty label", "text,label\na,\n", ", row 2: column 'label' is empty"),
    ("an empty cell in quotes", 'text,label\n"",b\n', ", row 2: column 'text' is empty"),
    ("blanks for a label", "text,label\na, \t\u3000\u00a0\n", ", row 2: column 'label' is empty"),
    ("all cells empty", "text,label\n,\na,b\n", ", row 2: every cell of the row is empty"),
    ("NUL in a cell", "text,label\na,b\nc\0d,e\n", ", row 3: column 'text' holds a NUL"),
    ("NUL in another column", "text,id,label\na,\0,b\n", ", row 2: column 'id' holds a NUL"),
    ("NUL for a row", "text,label\na,b\n\0\n", ", row 3: the row has 1 of 2 cells"),
    ("NULs at the end", "text,label\na,b\n" + "\0" * 4096, ", row 3: the row has 1 of 2 cells"),
    (
        "a quote never closed",
        'text,label\na,b\n"c,d\ne,f\n',
        ", row 3: the quote that opens column",
    ),
    ("a header never closed", 'text,"label\na,b\n', ", row 1: the quote that opens column 2"),
    ("the last quote missing", 'text,label\na,"b', ", row 2: the quote that opens column 'label'"),
    ("text after a quote", 'text,label\n"a"b,c\n', ", row 2: there is text after the quote"),
    ("a blank after a quote", 'text,label\n"a" ,c\n', ", row 2: there is text after the quote"),
    ("quotes not doubled", 'text,label\n"say "no" twice",c\n', ", row 2: there is text after"),
    ("backslash before a quote", 'text,label\n"say \\"no\\"",c\n', ", row 2: there is text after"),
    ("colons", "text:label\na:b\n", ", row 1: there is no column 'text'"),
    ("semicolons under commas", "text,label\na;b\n", ", row 2: the row has 1 of 2 cells"),
    ("JSON lines", '{"text": "a", "label": "b"}\n', ", row 1: there is no column 'text'"),
    ("HTML", "<html><body>404, not found</body></html>\n", ", row 1: there is no column 'text'"),
    ("PNG", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", ", row 1: column 1 is not UTF-8"),
    ("half a character at the end", JAPANESE.encode()[:-2], ", row 3: column 2 is not UTF-8"),
    ("a surrogate", b"text,label\n\xed\xa0\x80,b\n", ", row 2: column 1 is not UTF-8"),
    ("an overlong slash", b"text,label\na,\xc0\xaf\n", ", row 2: column 2 is not UTF-8"),
    (
        "two encodings",
        JAPANESE.encode() + JAPANESE.encode("cp932"),
        ", row 5: column 1 is not UTF-8",
    ),
]
REFUSED += [
    (f"{codec}", text.encode(codec), ": the encoding is not certain")
    for codec, text in (
        ("gb18030", JAPANESE),
        ("cp1250", "text,label\nžluťoučký,kůň\n"),
        ("mac_roman", FRENCH),
        ("cp1251", RUSSIAN),
        ("koi8-r", RUSSIAN),
    )
]
REFUSED += [("xlsx", container("xlsx"), ": the workbook cannot be read")]

# What is found out before it is read: name, bytes, encoding, separator.
FOUND = [
    ("semicolons", "text;label\na;b\n", "utf-8", ";"),
    ("semicolons, decimal commas", "text;label\na,5;b\n", "utf-8", ";"),
    ("tabs", "text\tlabel\na\tb\n", "utf-8", "\t"),
    ("bars", "text|label\na|b\n", "utf-8", "|"),
    ("Excel's tabs", "text\tlabel\r\na\tb\r\n", "utf-16", "\t"),
    ("commas in most cells", "text;label\na,b,c;d\ne,f;g,h\n", "cp1252", ";"),
    ("quotes around semicolons", 'text;label\n"a;b";"c""d"\n', "utf-8-sig", ";"),
]
FOUND += [
    (codec, text, codec, ",")
    for codec, text in (
        ("utf-16", JAPANESE),
        ("utf-16-be", JAPANESE),
        ("utf-32", JAPANESE),
        ("cp932", JAPANESE),
        ("euc_jp", JAPANESE + "私は今日学校で友だちと話をした。,学校\n"),
        ("latin-1", FRENCH),
    )
]


def written(tmp_path, content: str | bytes):
    path = tmp_path / "file.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def names(cases) -> list[str]:
    return [case[0] for case in cases]


@pytest.mark.parametrize("content", [case[1] for case in READ], ids=names(READ))
def test_what_is_read_is_what_the_csv_module_reads(tmp_path, content):
    path = written(tmp_path, content)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [(row, cells) for row, cells in enumerate(csv.reader(file, strict=True), 1) if cells]
    header, *records = rows[1:] if rows[0][1][0] == "sep=" else rows
    table = read_table(path, COLUMNS)
    assert table.rows == [row for row, _ in records]
    for name in COLUMNS:
        assert table.columns[name] == [cells[header[1].index(name)] for _, cells in records]
    assert table.bad_rows == []


@pytest.mark.parametrize("case", FOUND, ids=names(FOUND))
def test_what_is_found_is_what_the_csv_module_reads_when_it_is_told(tmp_path, case):
    _, text, encoding, separator = case
    path = written(tmp_path, text.encode(encoding))
    with path.open(encoding=encoding, newline="") as file:
        header, *records = csv.reader(file, delimiter=separator, strict=True)
    table = read_table(path, COLUMNS)
    for name in COLUMNS:
        assert table.columns[name] == [cells[header.index(name)] for cells in records]


@pytest.mark.parametrize("case", REFUSED, ids=names(REFUSED))
def test_what_is_refused_is_named_with_a_remedy(tmp_path, case):
    name, content, beginning = case
    path = written(tmp_path, content)
    if name == "xlsx":
        path = path.rename(path.with_suffix(".xlsx"))
    with pytest.raises(InputError) as caught:
        read_table(path, COLUMNS)
    first, *remedy = str(caught.value).split("\n")
    assert first.startswith(f"{path}{beginning}")
    assert remedy and all(line.startswith("  ") for line in remedy)


def test_there_are_as_many_cases_as_the_readme_says():
    assert (len(READ), len(REFUSED), len(FOUND)) == (102, 55, 13)
    assert len({case[1] for case in READ + REFUSED}) == 157, "no case stands here twice"
