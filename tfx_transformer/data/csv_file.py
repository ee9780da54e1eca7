"""CSV files as sources of rows: the rules for rows, and the errors of files that break them.

The file: text in the encoding that `text_encoding` finds (a byte order mark is accepted), cells
separated by what `separators` finds, a header in the first row that is not blank and not `sep=;`;
`"` quotes a cell, `""` is a quote inside a quoted cell (RFC 4180), and a quoted cell may hold
separators and line ends. Rows end with LF, CRLF or CR. A cell is the text between the separators
and nothing else: `NA`, `null`, `001`, `True` and blanks at either end stay.

Row numbers are those a spreadsheet shows: records, not lines, from 1; the header is row 1, a
quoted line end starts no new row, and a blank line is skipped but counted. (In a file of a single
column an empty cell must therefore be written `""`, as csv.writer and pandas write it.) Rows of
commas only are blank after the last row, where spreadsheets leave them, and bad rows before it.

Python's csv in strict mode reads the rows. pandas.read_csv (3.1, dtype=str, keep_default_na=False,
index_col=False) would alter them: its C parser reads the short row `a` as `a,`, turns `"x"y` into
`xy`, and cannot return the cells of a row that it leaves out; its Python parser drops empty surplus
cells. Both count lines, not rows, in their errors.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import difflib
import functools
import itertools
import os
import re
import stat
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from tfx_transformer.arguments import flag_for
from tfx_transformer.data import encodings, separators, text_encoding
from tfx_transformer.data.sources import Opened, Row, column_name, row_error, shorten
from tfx_transformer.errors import InputError

# csv refuses cells over 131,072 characters by default. Some limit has to stay: an
# unclosed quote at the top of a file larger than memory would read all of it into one cell.
_LONGEST_CELL = 100_000_000

# Encodings whose files may begin with a byte order mark, and the marks.
_MARKED = {
    "utf-8-sig": (codecs.BOM_UTF8,),
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
}
# First bytes of a file, in which the signatures of formats other than text are searched.
_SIGNATURE = 512
# Lines at the top of a file that are searched for the header.
_PREAMBLE = 30


class _Lines:
    """The lines of a file; `end` is the offset of the first byte after those read so far. It does
    not move if the bytes of a line cannot be counted in the encoding."""

    def __init__(self, file: TextIO, path: Path, encoding: str) -> None:
        self._file, self._size = file, text_encoding.line_size(encoding)
        with path.open("rb") as binary:
            start = binary.read(4)
        self.end = 0
        if encoding in _MARKED:
            marks = (mark for mark in _MARKED[encoding] if start.startswith(mark))
            self.end = len(next(marks, b""))

    def __iter__(self) -> Iterator[str]:
        size = self._size
        for line in self._file:
            if size:
                narrow = line.isascii() and not size.startswith("utf-16")
                narrow = narrow and not size.startswith("utf-32")
                self.end += len(line) if narrow else len(line.encode(size))
            yield line


class CsvFile:
    """A CSV file, as a `Source`: a row is named by its number.

    Args:
        path: the file that the user named.
        file: the file that is read, such as the unpacked one; None: `path`.
        encoding: that the user named; "": detected.
        delimiter: between cells, as the user named it; "": detected.
        wanted: names of the columns that will be read, which help to detect the delimiter.
    """

    note = ""

    def __init__(
        self,
        path: Path,
        file: Path | None = None,
        encoding: str = "",
        delimiter: str = "",
        wanted: Collection[str] = (),
    ) -> None:
        self.path, self.name, self.file = path, str(path), file or path
        self._given = (encoding, delimiter)
        self._wanted = wanted

    @functools.cached_property
    def encoding(self) -> str:
        """The encoding of the file, by its Python name."""
        self._check_opens()
        return text_encoding.find_encoding(self.file, self.name, self._given[0])

    @functools.cached_property
    def _excel_separator(self) -> str:
        return separators.excel_separator(self.file, self.encoding)

    @functools.cached_property
    def separator(self) -> str:
        """The character between cells."""
        if self._given[1]:
            return separators.given_separator(self._given[1])
        if self._excel_separator:
            return self._excel_separator
        return separators.find_separator(self.file, self.name, self.encoding, self._wanted)

    @property
    def description(self) -> str:
        """A note such as "Shift-JIS, separated by semicolons"; "" for UTF-8 with the usual
        separator, and for a file that is not text: the error of reading it says so."""
        by = separators.separator_name(self.separator)
        usual = {".tsv": "tabs", ".tab": "tabs"}.get(self.file.suffix.lower(), "commas")
        with self.file.open("rb") as opened:
            is_text = encodings.container(opened.read(_SIGNATURE)) is None
        if self.encoding in ("utf-8", "utf-8-sig") and by == usual or not is_text:
            return ""
        return f"{text_encoding.decoded_name(self.encoding)}, separated by {by}"

    @property
    def has_places(self) -> bool:
        """True if the bytes of a row are known, so that it can be read again by itself."""
        return text_encoding.line_size(self.encoding) is not None

    def open(self) -> Opened:
        rows = self._rows()
        first = next(rows, Row(1, []))
        return Opened(first.cells, first.name, rows, self.file.stat().st_size)

    def reader(self, index: int) -> Callable[[bytes], str]:
        """Return a function from the bytes of a well-formed row to its cell at `index`."""
        encoding, separator = text_encoding.line_size(self.encoding) or "utf-8", self.separator
        if self.encoding == "utf-16-be" or self._begins_with(codecs.BOM_UTF16_BE):
            encoding = "utf-16-be"
        if self._begins_with(codecs.BOM_UTF32_BE):
            encoding = "utf-32-be"

        def read(data: bytes) -> str:
            text = data.decode(encoding)
            return next(csv.reader([text], delimiter=separator, strict=True))[index]

        return read

    def check_header(
        self, row: int | None, header: list[str], wanted: Collection[str] = ()
    ) -> None:
        """Raise if the header shows that the file is not a CSV, or begins with something else.

        Args:
            row: number of the row that the header is in.
            header: cells of that row.
            wanted: names of columns that the header should have.

        Raises:
            InputError: the header shows that.
        """
        if error := _preamble_error(self, row or 1, header, set(wanted)):
            raise error
        if "\0" in "".join(header):
            remedy = encodings.advise(self.file, 0, table=True)
            raise row_error(self.name, "there are NUL characters in the header.", remedy, row=row)
        if len(header) == 1:
            for separator, plural in separators.SEPARATORS.items():
                if separator in header[0]:
                    raise _separator_error(self.name, row, header[0], separator, plural)

    def _begins_with(self, mark: bytes) -> bool:
        with self.file.open("rb") as binary:
            return binary.read(len(mark)) == mark

    def _check_opens(self) -> None:
        path = self.file
        try:
            is_pipe = stat.S_ISFIFO(os.stat(path).st_mode)
            if not is_pipe:
                path.open("rb").close()
        except OSError as error:
            raise open_error(self.path, error) from error
        except ValueError as error:  # a NUL character, or half a character
            name = repr(self.name)
            raise row_error(name, "no file has this name.", "Check the path.") from error
        if is_pipe:
            what = "this is a pipe, which can be read only once."
            raise row_error(self.name, what, "Write it to a file, and name that.")

    def _rows(self) -> Generator[Row]:
        """Every row that is not blank, the header first."""
        # Raised, never lowered: that would break a reader in another thread.
        csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
        encoding = "utf-8-sig" if self.encoding == "utf-8" else self.encoding
        separator = self.separator
        above = bool(self._excel_separator) and not self._given[1]
        row = lines = 0
        header: list[str] = []
        with self.file.open(encoding=encoding, newline="") as file:
            text = _Lines(file, self.file, encoding)
            begin = text.end
            reader = csv.reader(text, delimiter=separator, strict=True)
            try:
                for row, cells in enumerate(reader, start=1):
                    end = text.end
                    if cells and not (above and row == 1):
                        header = header or cells
                        yield Row(row, cells, begin, end)
                    lines, begin = reader.line_num, end
            except UnicodeDecodeError as error:
                raise _encoding_error(self) from error
            except csv.Error as error:
                record = (lines, reader.line_num)
                raise _quote_error(self, row + 1, header, record, error) from error


def _preamble_error(
    source: CsvFile, row: int, header: list[str], wanted: set[str]
) -> InputError | None:
    """Return the error of a file that begins with a line for Excel, a comment or a title, or None.
    `row`: number of the first row that is not blank."""
    below = _header_below(source, row, wanted)
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
    return row_error(source.name, what, remedy, row=row)


def _header_below(source: CsvFile, row: int, wanted: set[str]) -> int | None:
    """Return the number of the first row below `row` that holds all wanted names; None: no row in
    the first lines of the file does."""
    with source.file.open(encoding=source.encoding, errors="replace", newline="") as file:
        rows = csv.reader(itertools.islice(file, _PREAMBLE))
        with contextlib.suppress(csv.Error):
            for number, cells in enumerate(rows, start=1):
                for separator in (",", ";", "\t"):
                    split = cells if separator == "," else ",".join(cells).split(separator)
                    if number > row and wanted <= {cell.strip().strip('"') for cell in split}:
                        return number
    return None


class CsvWriter:
    """Writes a table as CSV in UTF-8, from texts.

    Args:
        path: the file to write.
        header: names of the columns.
        separator: between cells.
    """

    is_text = True

    def __init__(self, path: Path, header: Sequence[str], separator: str) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, delimiter=separator)
        self.write(header)

    def write(self, values: Sequence[str]) -> None:
        """Append a row."""
        self._writer.writerow(values)

    def close(self) -> None:
        """End the file."""
        self._file.close()


def open_error(path: Path, error: OSError) -> InputError:
    """Return the error of a file that is not there or cannot be opened."""
    if isinstance(error, FileNotFoundError):
        if not os.path.isdir(path.parent):
            return row_error(str(path), f"there is no folder {path.parent}.", "Check the path.")
        names = [entry.name for entry in path.parent.iterdir() if entry.is_file()]
        nearest = difflib.get_close_matches(path.name, names, n=1, cutoff=0.0)
        hint = f"The nearest name in that folder is {nearest[0]!r}. " if nearest else ""
        return row_error(str(path), "there is no such file.", f"{hint}Check the path.")
    if os.path.isdir(path):
        return row_error(
            str(path), "this is a folder.", "Name one table, for example one inside it."
        )
    return row_error(str(path), f"the file cannot be opened: {error.strerror}.", "Check the path.")


def _separator_error(
    name: str, row: int | None, header: str, separator: str, plural: str
) -> InputError:
    what = f"the header is one column, {shorten(header)!r}: cells seem separated by {plural}."
    word = "tab" if separator == "\t" else repr(separator)
    flag = flag_for("delimiter")
    remedy = f"Pass {flag} {word}." if flag else "Separate them by commas."
    return row_error(name, what, remedy, row=row)


def _quote_error(
    source: CsvFile, row: int, header: list[str], record: tuple[int, int], error: csv.Error
) -> InputError:
    """Return the error of a row with a wrong quote or too long a cell; `record`: its first line,
    counted from 0, and the line after its last."""
    mark = re.escape(source.separator)
    one_cell = re.compile(rf'(?:"(?:[^"]|"")*+"|(?!")[^{mark}\r\n]*+){mark}')
    with source.file.open(encoding=source.encoding, newline="", errors="replace") as file:
        text = "".join(itertools.islice(file, *record))
    text = text.removeprefix("\ufeff") if not record[0] else text
    column = end = 0
    while cell := one_cell.match(text, end):
        column, end = column + 1, cell.end()
    where = f"{column_name(header, column)} (line {record[0] + 1} of the file)"
    begins = f"It begins {shorten(text[end:])!r}. "
    rule = 'In a quoted cell write each quote twice: "he said ""no""".'
    if "end of data" in str(error):
        what = f"the quote that opens {where} is never closed."
        return row_error(source.name, what, f"{begins}Close it, or remove it.\n{rule}", row=row)
    if "field limit" in str(error):
        what = f"{where} has over {_LONGEST_CELL:,} characters."
        remedy = f"{begins}Is a quote not closed there?\n{rule}"
        return row_error(source.name, what, remedy, row=row)
    what = f"there is text after the quote that closes {where}."
    return row_error(source.name, what, f"{begins}{rule}", row=row)


def _encoding_error(source: CsvFile) -> InputError:
    """Return the error that names the first byte that is not UTF-8: its offset, row, column, and
    likely encoding."""
    path, offset = source.file, 0
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
            for row, cells in enumerate(_cells_through_wrong_line(source, file), start=1)
            for column, cell in enumerate(cells, start=1)
            if encodings.NOT_UTF8.search(cell)
        )
    what = f"column {column} is not UTF-8 text, from byte {offset} of the file on (0x{wrong:02x})."
    return row_error(source.name, what, encodings.advise(path, offset, table=True), row=row)


def _cells_through_wrong_line(source: CsvFile, file: TextIO) -> Iterator[list[str]]:
    return csv.reader(_through_wrong_line(file), delimiter=source.separator)


def _through_wrong_line(lines: Iterable[str]) -> Iterator[str]:
    """Yield lines up to and with the first that is not UTF-8: its row may never end."""
    for line in lines:
        yield line
        if encodings.NOT_UTF8.search(line):
            return
