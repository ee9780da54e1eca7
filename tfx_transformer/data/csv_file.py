"""CSV files as sources of rows: what their rows are, and how a file that is none is refused.

The file: UTF-8 (a byte order mark is accepted), cells separated by commas, a header in the first
row that is not blank; `"` quotes a cell, `""` is a quote inside a quoted cell (RFC 4180), and a
quoted cell may hold commas and line ends. Rows end with LF, CRLF or CR. A cell is the text between
the separators and nothing else: `NA`, `null`, `001`, `True` and blanks at either end stay.

Row numbers are those a spreadsheet shows: records, not lines, from 1; the header is row 1, a
quoted line end starts no new row, and a blank line is skipped but counted. (In a file of a single
column an empty cell must therefore be written `""`, as csv.writer and pandas write it.) Rows of
commas only, which spreadsheets leave behind the last row, are blank there, and bad rows before it.

Why Python's csv in strict mode and not pandas.read_csv (3.1, dtype=str, keep_default_na=False,
index_col=False): its C parser reads the short row `a` as `a,`, turns `"x"y` into `xy`, and cannot
hand over the cells of a row that it leaves out; its Python parser drops empty surplus cells. Both
count lines, not rows, in their errors.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import difflib
import itertools
import os
import re
import stat
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from pathlib import Path
from typing import TextIO

from tfx_transformer.data import encodings
from tfx_transformer.data.sources import Opened, Row, column_name, row_error, shorten
from tfx_transformer.errors import InputError

# csv refuses cells over 131,072 characters unless told otherwise. Some limit has to stay: an
# unclosed quote at the top of a file larger than memory would read all of it into one cell.
_LONGEST_CELL = 100_000_000

# A well-formed cell and the comma after it.
_CELL = re.compile(r'(?:"(?:[^"]|"")*+"|(?!")[^,\r\n]*+),')
# Lines above the header, at most, that are looked through for it.
_PREAMBLE = 30


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


class CsvFile:
    """A CSV file, as a `Source`: a row is named by its number."""

    note = ""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, str(path)

    def open(self) -> Opened:
        rows = self._rows()
        first = next(rows, Row(1, []))
        return Opened(first.cells, first.name, rows)

    def _rows(self) -> Generator[Row]:
        """Every row that is not blank, the header first."""
        # Only ever raised: putting it back would break a reader in another thread.
        csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
        path = self.path
        try:
            is_pipe = stat.S_ISFIFO(os.stat(path).st_mode)
            file = None if is_pipe else path.open(encoding="utf-8-sig", newline="")
        except OSError as error:
            raise _open_error(path, error) from error
        except ValueError as error:  # a NUL character, or half a character
            raise row_error(repr(str(path)), "no file has this name.", "Check the path.") from error
        if file is None:
            what = "this is a pipe, which can be read only once."
            raise row_error(str(path), what, "Write it to a file, and name that.")
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
                        yield Row(row, cells, begin, end)
                    lines, begin = reader.line_num, end
            except UnicodeDecodeError as error:
                raise _encoding_error(path) from error
            except csv.Error as error:
                record = (lines, reader.line_num)
                raise _quote_error(path, row + 1, header, record, error) from error


def cell_reader(index: int) -> Callable[[str], str]:
    """What reads a cell of a row that was found to be well formed."""

    def read(text: str) -> str:
        return next(csv.reader([text], strict=True))[index]

    return read


def check_header(
    path: Path, row: int | None, header: list[str], wanted: Collection[str] = ()
) -> None:
    """Refuses a header that shows that the file is not a CSV in UTF-8, or begins with something
    else; wanted: names of columns that the header should have."""
    if error := _preamble_error(path, row or 1, header, set(wanted)):
        raise error
    if "\0" in "".join(header):
        remedy = encodings.advise(path, 0, table=True)
        raise row_error(str(path), "there are NUL characters in the header.", remedy, row=row)
    if len(header) == 1:
        for separator, plural in ((";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")):
            if separator in header[0]:
                raise _separator_error(path, row, header[0], separator, plural)


def _preamble_error(path: Path, row: int, header: list[str], wanted: set[str]) -> InputError | None:
    """Return the error of a file that begins with a line for Excel, a comment or a title, or None.
    `row`: of the first row that is not blank."""
    below = _header_below(path, row, wanted)
    there = f"The header seems to be row {below}. " if below else ""
    first = header[0].strip()
    if re.fullmatch(r"(?i)sep=.?", first):
        what = "this line tells Excel how cells are separated; it is not the header."
        remedy = f"{there}Remove the line, and save the file with commas between cells."
    elif first.startswith("#"):
        what = f"this is a comment, not the header: {shorten(header[0])!r}."
        remedy = f"{there}Remove the lines above the header: a table has no comments."
    elif below:
        filled = next((cell for cell in header if cell.strip()), "")
        what = f"this is not the header but a title: {shorten(filled)!r}."
        if not filled:
            what = "every cell is empty; this is not the header."
        remedy = f"{there}Remove the rows above it."
    else:
        return None
    return row_error(str(path), what, remedy, row=row)


def _header_below(path: Path, row: int, wanted: set[str]) -> int | None:
    """The number of the first of some rows below `row` that holds the names of all columns."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = csv.reader(itertools.islice(file, _PREAMBLE))
        with contextlib.suppress(csv.Error):
            for number, cells in enumerate(rows, start=1):
                for separator in (",", ";", "\t"):
                    split = cells if separator == "," else ",".join(cells).split(separator)
                    if number > row and wanted <= {cell.strip().strip('"') for cell in split}:
                        return number
    return None


def _open_error(path: Path, error: OSError) -> InputError:
    if isinstance(error, FileNotFoundError):
        if not os.path.isdir(path.parent):
            return row_error(str(path), f"there is no folder {path.parent}.", "Check the path.")
        names = [entry.name for entry in path.parent.iterdir() if entry.is_file()]
        nearest = difflib.get_close_matches(path.name, names, n=1, cutoff=0.0)
        hint = f"The nearest name in that folder is {nearest[0]!r}. " if nearest else ""
        return row_error(str(path), "there is no such file.", f"{hint}Check the path.")
    if os.path.isdir(path):
        return row_error(
            str(path), "this is a folder.", "Name one CSV file, for example one inside it."
        )
    return row_error(str(path), f"the file cannot be opened: {error.strerror}.", "Check the path.")


def _separator_error(path: Path, row: int, header: str, separator: str, plural: str) -> InputError:
    what = f"the header is one column, {shorten(header)!r}: cells seem separated by {plural}."
    remedy = "Commas are expected. Convert the file in Python:\n" + encodings.conversion(
        path, separator=separator
    )
    return row_error(str(path), what, remedy, row=row)


def _quote_error(
    path: Path, row: int, header: list[str], record: tuple[int, int], error: csv.Error
) -> InputError:
    """`record`: the lines that csv read of the row, from (counted from 0) and up to (excluded)."""
    with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
        text = "".join(itertools.islice(file, *record))
    column = end = 0
    while cell := _CELL.match(text, end):
        column, end = column + 1, cell.end()
    where = f"{column_name(header, column)} (line {record[0] + 1} of the file)"
    begins = f"It begins {shorten(text[end:])!r}. "
    rule = 'In a quoted cell write each quote twice: "he said ""no""".'
    if "end of data" in str(error):
        what = f"the quote that opens {where} is never closed."
        return row_error(str(path), what, f"{begins}Close it, or remove it.\n{rule}", row=row)
    if "field limit" in str(error):
        what = f"{where} has over {_LONGEST_CELL:,} characters."
        return row_error(str(path), what, f"{begins}Is a quote not closed there?\n{rule}", row=row)
    what = f"there is text after the quote that closes {where}."
    return row_error(str(path), what, f"{begins}{rule}", row=row)


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
    with path.open(encoding="utf-8-sig", newline="", errors="surrogateescape") as file:
        row, column = next(
            (row, column)
            for row, cells in enumerate(csv.reader(_through_wrong_line(file)), start=1)
            for column, cell in enumerate(cells, start=1)
            if encodings.NOT_UTF8.search(cell)
        )
    what = f"column {column} is not UTF-8 text, from byte {offset} of the file on (0x{wrong:02x})."
    return row_error(str(path), what, encodings.advise(path, offset, table=True), row=row)


def _through_wrong_line(lines: Iterable[str]) -> Iterator[str]:
    """Ends after the first line with a byte that is not UTF-8: its row may never end."""
    for line in lines:
        yield line
        if encodings.NOT_UTF8.search(line):
            return
