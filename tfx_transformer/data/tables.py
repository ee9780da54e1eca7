"""Reads named columns of a CSV file as text: nothing lost, shifted or altered without saying so.

The file: UTF-8 (a byte order mark is accepted), cells separated by commas, a header in the first
row that is not blank; `"` quotes a cell, `""` is a quote inside a quoted cell (RFC 4180), and a
quoted cell may hold commas and line ends. Rows end with LF, CRLF or CR. A cell is the text between
the separators and nothing else: `NA`, `null`, `001`, `True` and blanks at either end stay.

Row numbers are those a spreadsheet shows: records, not lines, from 1; the header is row 1, a
quoted line end starts no new row, and a blank line is skipped but counted. (In a file of a single
column an empty cell must therefore be written `""`, as csv.writer and pandas write it.)

Why Python's csv in strict mode and not pandas.read_csv (3.1, dtype=str, keep_default_na=False,
index_col=False): its C parser reads the short row `a` as `a,`, turns `"x"y` into `xy`, and cannot
hand over the cells of a row that it leaves out; its Python parser drops empty surplus cells. Both
count lines, not rows, in their errors.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import dataclasses
import difflib
import itertools
import json
import os
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np

from tfx_transformer.data import file_rows
from tfx_transformer.data.file_rows import FileRows, RowFile, Rows
from tfx_transformer.errors import InputError
from tfx_transformer.reprs import counted

# csv refuses cells over 131,072 characters unless told otherwise. Some limit has to stay: an
# unclosed quote at the top of a file larger than memory would read all of it into one cell.
_LONGEST_CELL = 100_000_000

# A well-formed cell and the comma after it.
_CELL = re.compile(r'(?:"(?:[^"]|"")*+"|(?!")[^,\r\n]*+),')
# What errors="surrogateescape" makes of the bytes that are not UTF-8.
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_KANA = re.compile("[\u3041-\u3096\u30a1-\u30fa]")

_SPREADSHEET = "in a spreadsheet program save it as 'CSV UTF-8 (comma delimited)'"
_SIGNATURES = (
    (codecs.BOM_UTF32_LE, "UTF-32"),  # before UTF-16: it begins with the same two bytes
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_KNOWN_AS = {"CP932": "Shift-JIS (CP932)", "WINDOWS-1252": "Latin-1 (Windows-1252)"}
_CONTAINERS = (
    (b"\x1f\x8b", "a gzip file: unpack it"),
    (b"PK\x03\x04", f"a zip file or an Excel workbook: unpack it, or {_SPREADSHEET}"),
    (b"\xd0\xcf\x11\xe0", f"an Excel workbook: {_SPREADSHEET}"),
)


@dataclasses.dataclass(frozen=True)
class BadRow:
    """A row that was left out because of `skip_bad_rows=True`.

    row: its number in the file; column: header of the column at fault, None for surplus cells;
    reason: what is wrong with it; values: all its cells.
    """

    row: int
    column: str | None
    reason: str
    values: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Table:
    """The wanted columns of a CSV file, or of a stretch of its rows.

    columns: role -> the cells, one for each kept row; used: role -> header of its column;
    rows: number in the file of each kept row; bad_rows: the rows left out; header: all the headers.
    """

    path: Path
    columns: dict[str, Rows[str]]
    used: dict[str, str]
    rows: Sequence[int]
    bad_rows: list[BadRow]
    header: list[str]

    def __repr__(self) -> str:
        skipped = f", {counted(len(self.bad_rows), 'bad row')} skipped" if self.bad_rows else ""
        used = ", ".join(f"{role}: {name!r}" for role, name in self.used.items())
        return f"Table: {counted(len(self.rows), 'row')} of {self.path} ({used}){skipped}"


class _Problem(NamedTuple):
    """Why a row cannot be used; `column` as in BadRow."""

    column: str | None
    reason: str
    remedy: str


def read_table(
    path: str | os.PathLike[str],
    columns: dict[str, str],
    *,
    skip_bad_rows: bool = False,
    allow_empty: Collection[str] = (),
    leave_in_file: Collection[str] = (),
) -> Table:
    """Reads a whole CSV file; arguments and errors as for `stream_table`.

    Args:
        leave_in_file: roles whose cells are checked like all others, but stay in a file of more
            than 64 MiB: they are then `FileRows`, and the numbers of the rows an array.
    """
    read = _stream(Path(path), columns, skip_bad_rows, allow_empty)
    first = next(read)
    status = os.stat(path)
    if leave_in_file and status.st_size > file_rows.MOST_IN_MEMORY:
        return _indexed(itertools.chain([first], read), leave_in_file, status)
    tables = [table for table, _ in itertools.chain([first], read)]
    return dataclasses.replace(
        tables[0],
        columns={role: [cell for t in tables for cell in t.columns[role]] for role in columns},
        rows=[row for t in tables for row in t.rows],
        bad_rows=[bad for t in tables for bad in t.bad_rows],
    )


def stream_table(
    path: str | os.PathLike[str],
    columns: dict[str, str],
    *,
    skip_bad_rows: bool = False,
    allow_empty: Collection[str] = (),
    chunk_rows: int = 10_000,
) -> Iterator[Table]:
    """Reads a CSV file, larger than memory if need be, as successive tables of its rows.

    Arguments:
        path: the file.
        columns: role -> header of its column, exactly as the file has it.
        skip_bad_rows: leave out rows that are short, long, hold a NUL character or an empty
            required cell, and list them in `bad_rows`, instead of raising at the first.
        allow_empty: roles whose cells may be empty; every other cell needs more than blanks.
        chunk_rows: rows in a table, the left out ones included; the last may have fewer.

    Yields: Table, at least one. Errors are raised when iteration reaches them.
    Raises: InputError naming file, row and column, and the remedy: for a bad row, and whatever
        `skip_bad_rows` says, when the file cannot be read, is not UTF-8 or not separated by
        commas, lacks a wanted column or has it twice, has quotes that do not pair up (from there
        on nobody knows where rows end), or holds no usable row. ValueError if `allow_empty` names
        an unknown role or `chunk_rows` is not positive.
    """
    for table, _ in _stream(Path(path), columns, skip_bad_rows, allow_empty, chunk_rows):
        yield table


def _stream(
    path: Path,
    columns: dict[str, str],
    skip_bad_rows: bool,
    allow_empty: Collection[str],
    chunk_rows: int = 10_000,
) -> Iterator[tuple[Table, list[tuple[int, int]]]]:
    """What `stream_table` yields, and the first byte of each kept row and the first after it."""
    if unknown := set(allow_empty) - set(columns):
        raise ValueError(f"allow_empty has {sorted(unknown)}; the roles are {list(columns)}.")
    if chunk_rows < 1:
        raise ValueError(f"chunk_rows must be 1 or more, not {chunk_rows}.")
    kept = 0
    first_bad = None
    with contextlib.closing(_records(path)) as records:
        header_row, header, *_ = next(records, (1, []))
        if not header:
            raise _error(path, "the file is empty.", _expected(columns))
        position = {role: _find_column(path, header_row, header, role, columns) for role in columns}
        required = [position[role] for role in columns if role not in allow_empty]
        for first in records:
            empty = {role: [] for role in columns}
            table, places = Table(path, empty, dict(columns), [], [], header), []
            rest = itertools.islice(records, chunk_rows - 1)
            for row, cells, begin, end in itertools.chain([first], rest):
                if problem := _find_problem(cells, header, required):
                    if not skip_bad_rows:
                        raise _bad_row_error(path, row, problem)
                    bad = BadRow(row, problem.column, problem.reason, tuple(cells))
                    first_bad = first_bad or bad
                    table.bad_rows.append(bad)
                    continue
                kept += 1
                table.rows.append(row)
                places.append((begin, end))
                for role, index in position.items():
                    table.columns[role].append(cells[index])
            yield table, places
    if not kept and first_bad:
        what = f"{first_bad.reason}, and every row after it is bad too."
        raise _error(path, what, "Leaving out bad rows leaves none: fix them.", row=first_bad.row)
    if not kept:
        what = "there is a header, but no row below it."
        raise _error(path, what, _expected(columns), row=header_row)


def read_header(path: str | os.PathLike[str]) -> list[str]:
    """Return the cells of the header of a CSV file.

    Raises:
        InputError: the file is empty, or see `stream_table`.
    """
    path = Path(path)
    with contextlib.closing(_records(path)) as records:
        _, header, *_ = next(records, (1, []))
    if not header:
        raise _error(
            path, "the file is empty.", "Expected: a header row, then one row per example."
        )
    return header


def write_bad_rows(path: str | os.PathLike[str], bad_rows: Iterable[BadRow]) -> None:
    """Writes bad rows as CSV: row, column, reason, values (a JSON list of the cells).

    The file appears whole or not at all: written beside its place, synced, then renamed.
    """
    path = Path(path)
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        with unfinished.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["row", "column", "reason", "values"])
            for bad in bad_rows:
                values = json.dumps(bad.values, ensure_ascii=False)
                writer.writerow([bad.row, bad.column, bad.reason, values])
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _indexed(
    read: Iterable[tuple[Table, list[tuple[int, int]]]],
    left: Collection[str],
    status: os.stat_result,
) -> Table:
    """All that `_stream` yields as one table that leaves the cells of some roles in the file;
    `status`: as for RowFile."""
    bounds, rows, bad_rows = [], [], []
    columns, hashes, lengths = {}, {}, {}
    known: dict[str, str] = {}  # the others are held once, however often they stand in the file
    for table, places in read:
        bounds.append(np.array(places, "int64").reshape(-1, 2))
        rows.append(np.array(table.rows, "int64"))
        bad_rows += table.bad_rows
        for role, cells in table.columns.items():
            if role in left:
                hashes.setdefault(role, []).append(file_rows.hashes(cells))
                lengths.setdefault(role, []).append(file_rows.sizes(cells).astype("int32"))
            else:
                columns.setdefault(role, []).extend(known.setdefault(c, c) for c in cells)
    file = RowFile(table.path, np.concatenate(bounds), status)
    for role in hashes:
        cell = _cell_reader(table.header.index(table.used[role]))
        columns[role] = FileRows(
            file, cell, np.concatenate(hashes[role]), np.concatenate(lengths[role])
        )
    return dataclasses.replace(
        table,
        columns={role: columns[role] for role in table.used},
        rows=np.concatenate(rows),
        bad_rows=bad_rows,
    )


def _cell_reader(index: int) -> Callable[[str], str]:
    """What reads a cell of a row that was found to be well formed."""

    def read(text: str) -> str:
        return next(csv.reader([text], strict=True))[index]

    return read


class _Lines:
    """The lines of a file in UTF-8, and in `end` the byte after those that were read."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self._file = file
        with path.open("rb") as binary:
            self.end = len(codecs.BOM_UTF8) * (binary.read(3) == codecs.BOM_UTF8)

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            self.end += len(line) if line.isascii() else len(line.encode())
            yield line


def _records(path: Path) -> Iterator[tuple[int, list[str], int, int]]:
    """Yields number and cells of every row that is not blank, the header first, and the first byte
    of the row and the first after it."""
    # Only ever raised: putting it back would break a reader in another thread.
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
    try:
        file = path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise _open_error(path, error) from error
    row = lines = 0
    header: list[str] = []
    with file:
        text = _Lines(file, path)
        begin = text.end
        reader = csv.reader(text, strict=True)
        try:
            for row, cells in enumerate(reader, start=1):
                end = text.end
                if cells:
                    header = header or cells
                    yield row, cells, begin, end
                lines, begin = reader.line_num, end
        except UnicodeDecodeError as error:
            raise _encoding_error(path) from error
        except csv.Error as error:
            record = (lines, reader.line_num)
            raise _quote_error(path, row + 1, header, record, error) from error


def _find_column(
    path: Path, row: int, header: list[str], role: str, columns: dict[str, str]
) -> int:
    """Index of the column that `role` asks for; raises InputError unless there is exactly one."""
    name = columns[role]
    found = [index for index, text in enumerate(header) if text == name]
    if len(found) == 1:
        return found[0]
    if found:
        places = " and ".join(str(index + 1) for index in found)
        remedy = "It is not clear which one to read. Rename or remove the others."
        raise _error(path, f"columns {places} are both named {name!r}.", remedy, row=row)
    if "\0" in "".join(header):
        raise _error(path, "there are NUL characters in the header.", _advice(path, b""), row=row)
    if len(header) == 1:
        for separator, plural in ((";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")):
            if separator in header[0]:
                raise _separator_error(path, row, header[0], separator, plural)

    there = ", ".join(repr(_shorten(text)) if text else "(no name)" for text in header)
    remedy = f"The columns there are: {there}.\n"
    for text in header:
        if text.strip() == name:
            what = f"the header {text!r} has blanks around it."
            remedy += f"Remove them, so that it reads {name!r}."
            raise _error(path, what, remedy, row=row)
    plain = {text.strip().casefold(): text for text in header if text.strip()}
    if nearest := difflib.get_close_matches(name.strip().casefold(), plain, n=1):
        remedy += f"Did you mean {plain[nearest[0]]!r}? "
    elif not set(header) & set(columns.values()):
        remedy += f"If this row is data already, put a header above it. {_expected(columns)}\n"
    remedy += f"Rename the column in the file, or name the one to read ({role}=...)."
    raise _error(path, f"there is no column {name!r}.", remedy, row=row)


def _find_problem(cells: list[str], header: list[str], required: list[int]) -> _Problem | None:
    """Tells why a row cannot be used, or None if it can. `required`: indices of columns."""
    if len(cells) != len(header):
        remedy = "Every row needs as many cells as the header; a text with commas needs quotes."
        if len(cells) > len(header):
            reason = f"the row has {len(cells)} cells, the header {len(header)}"
            return _Problem(None, reason, remedy)
        missing = _name(header, len(cells))
        reason = f"the row has {len(cells)} of {len(header)} cells: {missing} is missing"
        return _Problem(header[len(cells)], reason, remedy)
    if "\0" in "".join(cells):
        index = next(index for index, cell in enumerate(cells) if "\0" in cell)
        return _Problem(
            header[index],
            f"{_name(header, index)} holds a NUL character",
            "Such a character is a trace of a damaged or binary file.",
        )
    for index in required:
        if not cells[index].strip():
            name = _name(header, index)
            return _Problem(header[index], f"{name} is empty", f"Every row needs a text in {name}.")
    return None


def _bad_row_error(path: Path, row: int, problem: _Problem) -> InputError:
    remedy = (
        f"{problem.remedy}\nFix the row, or pass --skip-bad-rows (skip_bad_rows=True) to leave it "
        "out\n(it is then listed among the bad rows)."
    )
    return _error(path, f"{problem.reason}.", remedy, row=row)


def _open_error(path: Path, error: OSError) -> InputError:
    if isinstance(error, FileNotFoundError):
        if not os.path.isdir(path.parent):
            return _error(path, f"there is no folder {path.parent}.", "Check the path.")
        names = [entry.name for entry in path.parent.iterdir() if entry.is_file()]
        nearest = difflib.get_close_matches(path.name, names, n=1, cutoff=0.0)
        hint = f"The nearest name in that folder is {nearest[0]!r}. " if nearest else ""
        return _error(path, "there is no such file.", f"{hint}Check the path.")
    if os.path.isdir(path):
        return _error(path, "this is a folder.", "Name one CSV file, for example one inside it.")
    return _error(path, f"the file cannot be opened: {error.strerror}.", "Check the path.")


def _separator_error(path: Path, row: int, header: str, separator: str, plural: str) -> InputError:
    what = f"the header is one column, {_shorten(header)!r}: cells seem separated by {plural}."
    remedy = (
        f"Commas are expected: {_SPREADSHEET}, or convert it in Python:\n"
        "import csv\n"
        "csv.writer(open('commas.csv', 'w', encoding='utf-8', newline='')).writerows(\n"
        f"    csv.reader(open({str(path)!r}, encoding='utf-8-sig', newline=''),"
        f" delimiter={separator!r}))"
    )
    return _error(path, what, remedy, row=row)


def _quote_error(
    path: Path, row: int, header: list[str], record: tuple[int, int], error: csv.Error
) -> InputError:
    """`record`: the lines that csv read of the row, from (counted from 0) and up to (excluded)."""
    with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
        text = "".join(itertools.islice(file, *record))
    column = end = 0
    while cell := _CELL.match(text, end):
        column, end = column + 1, cell.end()
    where = f"{_name(header, column)} (line {record[0] + 1} of the file)"
    begins = f"It begins {_shorten(text[end:])!r}. "
    rule = 'In a quoted cell write each quote twice: "he said ""no""".'
    if "end of data" in str(error):
        what = f"the quote that opens {where} is never closed."
        return _error(path, what, f"{begins}Close it, or remove it.\n{rule}", row=row)
    if "field limit" in str(error):
        what = f"{where} has over {_LONGEST_CELL:,} characters."
        return _error(path, what, f"{begins}Is a quote not closed there?\n{rule}", row=row)
    what = f"there is text after the quote that closes {where}."
    return _error(path, what, f"{begins}{rule}", row=row)


def _encoding_error(path: Path) -> InputError:
    """Finds the first byte that is not UTF-8: its offset, row, column, and what it might be."""
    offset = 0
    with path.open("rb") as binary:
        for line in binary:  # a line feed is never part of a longer UTF-8 character
            try:
                line.decode()
            except UnicodeDecodeError as error:
                wrong = line[error.start]
                offset += error.start
                break
            offset += len(line)
        binary.seek(max(0, offset - 65_536))
        sample = binary.read(131_072)
    with path.open(encoding="utf-8-sig", newline="", errors="surrogateescape") as file:
        row, column = next(
            (row, column)
            for row, cells in enumerate(csv.reader(_through_wrong_line(file)), start=1)
            for column, cell in enumerate(cells, start=1)
            if _NOT_UTF8.search(cell)
        )
    what = f"column {column} is not UTF-8 text, from byte {offset} of the file on (0x{wrong:02x})."
    return _error(path, what, _advice(path, sample), row=row)


def _through_wrong_line(lines: Iterable[str]) -> Iterator[str]:
    """Ends after the first line with a byte that is not UTF-8: its row may never end."""
    for line in lines:
        yield line
        if _NOT_UTF8.search(line):
            return


def _advice(path: Path, sample: bytes) -> str:
    """Says what a file that is no UTF-8 text might be, and how to make it so.

    `sample`: its bytes around the first that is wrong; empty if all of it can be decoded.
    """
    with path.open("rb") as file:
        start = file.read(4)
    for signature, kind in _CONTAINERS:
        if start.startswith(signature):
            return f"It looks like {kind}."
    encoding = next((name for bom, name in _SIGNATURES if start.startswith(bom)), None)
    if encoding is None and b"\0" in start:
        encoding = "UTF-16BE" if start.startswith(b"\0") else "UTF-16LE"
    encoding = encoding or _likely_encoding(sample)
    if encoding == "UTF-8":
        return "The text around it is UTF-8, so this place is damaged: write it anew."
    looks = "is none that is known here"
    if encoding:
        looks = f"looks like {_KNOWN_AS.get(encoding, encoding)}"
    return (
        f"The encoding {looks}.\n"
        f"UTF-8 is expected: {_SPREADSHEET}, or convert it:\n"
        f"iconv -f {encoding or 'ENCODING'} -t UTF-8 {shlex.quote(str(path))} > utf8.csv"
    )


def _likely_encoding(sample: bytes) -> str | None:
    """Guesses the encoding, by the name iconv has for it, of bytes that are not all UTF-8."""
    high = [character for character in sample.decode(errors="surrogateescape") if character > "~"]
    broken = sum(1 for character in high if _NOT_UTF8.match(character))
    if 2 * broken < len(high):
        return "UTF-8"
    kana = {
        name: len(_KANA.findall(sample.decode(codec, errors="ignore")))
        for name, codec in (("CP932", "cp932"), ("EUC-JP", "euc_jp"))
    }
    if any(kana.values()):
        return max(kana, key=kana.__getitem__)
    # Scripts other than Latin have a byte over 127 for nearly every letter.
    return "WINDOWS-1252" if 3 * len(high) < len(sample) else None


def _error(path: Path, what: str, remedy: str, *, row: int | None = None) -> InputError:
    place = f"{path}, row {row}" if row else f"{path}"
    return InputError(f"{place}: {what}\n  " + remedy.strip().replace("\n", "\n  "))


def _expected(columns: dict[str, str]) -> str:
    return f"Expected: a header row ({','.join(columns.values())}), then one row per example."


def _name(header: list[str], index: int) -> str:
    """Names a column for a person: by its header where there is one, else by its number."""
    named = index < len(header) and header[index]
    return f"column {header[index]!r}" if named else f"column {index + 1}"


def _shorten(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"
