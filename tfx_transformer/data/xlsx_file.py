"""Excel workbooks (.xlsx): one sheet as rows that are numbered and read as Excel shows them.

openpyxl reads cell by cell, in constant memory. It ignores some things that are handled here:
characters that Excel writes as `_x000D_`, formulas without a stored result, and merged cells.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import math
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from tfx_transformer.data.sources import Problem
from tfx_transformer.data.typed_rows import (
    ABSENT,
    TypedFile,
    Values,
    nested_text,
    shortest_number,
)
from tfx_transformer.errors import InputError

# Bytes that the parts of a workbook may unpack to, and those of its shared texts, which stay in
# memory.
_MOST_BYTES = 8 * 1024**3
_MOST_TEXTS = 512 * 1024**2
# Limits of Excel for one cell and one sheet.
_LONGEST_CELL = 32_767
_MOST_ROWS = 1_048_576
_MOST_COLUMNS = 16_384
_MOST_MERGED = 1_000_000
# Whole numbers up to this are exact in Excel's doubles.
_EXACT = 10**15

_ESCAPE = re.compile("_x([0-9A-Fa-f]{4})_")
_NOT_IN_XML = re.compile("[\0-\x08\x0b-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")
_MERGED = re.compile(rb'<(?:\w+:)?mergeCell\s[^>]{0,200}?ref="([A-Z]{1,3}\d+):([A-Z]{1,3}\d+)"')
_FORMULA = re.compile(rb"<(?:\w+:)?f[ />]")
_BLOCK = 1 << 20


class XlsxFile(TypedFile):
    """One sheet of a workbook; a row has the number that Excel shows.

    The header is in the first row that is not blank. Blank rows are skipped.
    """

    option = "sheet"

    def _read(self) -> tuple[list[str], int | None, Iterable[Values], int | None]:
        sheet = self._sheet()
        rows = self._rows_of(sheet)
        first = next(rows, None)
        if first is None:
            what = f"the sheet {sheet!r} is empty."
            raise self.error(what, "Name a sheet that has a header row and rows below it.")
        if first.problem:
            raise self.error(f"{first.problem.reason}.", first.problem.remedy, first.name)
        header = [self.as_text(value) for value in first.values]
        return header, first.name, (self._fit_row(row, header) for row in rows), None

    def _fit_row(self, row: Values, header: list[str]) -> Values:
        """Return a row with at least as many cells as the header, since Excel does not store empty
        ones, and without problems of columns that are not read."""
        values = [*row.values, *[None] * (len(header) - len(row.values))]
        problem = row.problem
        if problem and isinstance(problem.column, int):
            name = header[problem.column] if problem.column < len(header) else ""
            unread = self.wanted and name not in self.wanted
            problem = None if unread else problem._replace(column=name)
        return row._replace(values=values, problem=problem)

    def as_text(self, value: Any) -> str:
        if isinstance(value, bool):
            return "TRUE" if value else "FALSE"
        if isinstance(value, float) and math.isfinite(value):
            return shortest_number(value)
        if isinstance(value, datetime.datetime) and value.time() == datetime.time():
            return value.date().isoformat()
        return super().as_text(value)

    def _sheet(self) -> str:
        """Return the name of the sheet to read; raise if the file is not a workbook."""
        with self._opened() as book:
            sheets = [sheet.title for sheet in book.worksheets]
        return self.choose(sheets, "sheet")

    @contextlib.contextmanager
    def _opened(self, data_only: bool = True) -> Iterator[Any]:
        from openpyxl import load_workbook

        try:
            self._check_parts()
            book = load_workbook(self.file, read_only=True, data_only=data_only, keep_links=False)
        except InputError:
            raise
        except Exception as error:  # openpyxl has no error class of its own for damaged files
            raise self._damaged(error) from error
        try:
            yield book
        finally:
            book.close()

    def _check_parts(self) -> None:
        with zipfile.ZipFile(self.file) as archive:
            parts = archive.infolist()
            total = sum(part.file_size for part in parts)
            texts = sum(p.file_size for p in parts if p.filename.endswith("sharedStrings.xml"))
            if total > _MOST_BYTES or texts > _MOST_TEXTS:
                what = "it unpacks to more bytes than a table should need."
                raise self.error(what, "Save the table as CSV.")
            for part in parts:
                if part.filename.endswith((".xml", ".rels")):
                    with archive.open(part) as opened:
                        start = opened.read(1024)
                    if b"<!DOCTYPE" in start or b"<!ENTITY" in start:
                        what = f"its part {part.filename} defines entities."
                        raise self.error(what, "Excel writes none: save the table anew.")

    def _damaged(self, error: Exception) -> InputError:
        remedy = "Open it in a spreadsheet program, and save it as .xlsx or as CSV UTF-8."
        with contextlib.suppress(OSError), self.file.open("rb") as file:
            if file.read(4) == b"\xd0\xcf\x11\xe0":
                return self.error("this is an old or an encrypted workbook, not .xlsx.", remedy)
        return self.error(f"the workbook cannot be read: {type(error).__name__}: {error}.", remedy)

    def _rows_of(self, name: str) -> Iterator[Values]:
        """Yield the rows of a sheet that are not blank."""
        with contextlib.ExitStack() as stack:
            book = stack.enter_context(self._opened())
            sheet = book[name]
            try:
                sheet._shared_strings = self._texts(book)
                sheet.reset_dimensions()  # the size that a sheet declares may be wrong
                merged, has_formulas = self._find_merged(book, sheet)
                formulas: Iterable[Any] = itertools.repeat(None)
                if has_formulas:
                    second = stack.enter_context(self._opened(data_only=False))[name]
                    second._shared_strings = sheet._shared_strings
                    second.reset_dimensions()
                    formulas = second.iter_rows()
                for number, (cells, written) in enumerate(
                    zip(sheet.iter_rows(), formulas, strict=False), start=1
                ):
                    row = _row(number, cells, written, merged.get(number, {}))
                    if row is not None:
                        yield row
            except InputError:
                raise
            except Exception as error:
                raise self._damaged(error) from error

    def _texts(self, book: Any) -> list[str]:
        """Return the shared texts as in the file, with escapes."""
        from openpyxl.cell.text import Text
        from openpyxl.xml.constants import SHEET_MAIN_NS
        from openpyxl.xml.functions import iterparse

        part = next(
            (n for n in book._archive.namelist() if n.lower().endswith("sharedstrings.xml")), None
        )
        if part is None:
            return []
        texts = []
        with book._archive.open(part) as opened:
            for _, node in iterparse(opened):
                if node.tag == f"{{{SHEET_MAIN_NS}}}si":
                    texts.append(Text.from_tree(node).content)
                    node.clear()
        return texts

    def _find_merged(self, book: Any, sheet: Any) -> tuple[dict[int, dict[int, str]], bool]:
        """Return {row: {column, from 0: first cell of the range}} of the merged cells except the
        first of each range, and True if there are formulas."""
        from openpyxl.utils.cell import coordinate_to_tuple

        merged: dict[int, dict[int, str]] = {}
        count, has_formulas, rest = 0, False, b""
        with book._archive.open(sheet._worksheet_path) as opened:
            while data := opened.read(_BLOCK):
                text = rest + data
                has_formulas = has_formulas or bool(_FORMULA.search(text))
                end = 0
                for found in _MERGED.finditer(text):
                    end = found.end()
                    first, last = (found[i].decode() for i in (1, 2))
                    (top, left), (bottom, right) = map(coordinate_to_tuple, (first, last))
                    count += (bottom - top + 1) * (right - left + 1)
                    if count > _MOST_MERGED:
                        what = f"more than {_MOST_MERGED:,} cells are merged."
                        raise self.error(what, "Unmerge them, or save the table as CSV.")
                    for row in range(top, bottom + 1):
                        columns = dict.fromkeys(range(left - 1, right), first)
                        merged.setdefault(row, {}).update(columns)
                    del merged[top][left - 1]
                rest = text[max(end, len(text) - 400) :]
        return merged, has_formulas


def _row(
    number: int, cells: Sequence[Any], written: Sequence[Any] | None, merged: dict[int, str]
) -> Values | None:
    """Return a row without the empty cells at its end; None for a blank row. `merged`: column of
    each merged cell -> the first cell of its range."""
    values: list[Any] = []
    problem = None
    for index, cell in enumerate(cells):
        value = cell.value
        formula = written[index] if written is not None and index < len(written) else None
        if value is None and formula is not None and formula.data_type == "f":
            reason = f"cell {formula.coordinate} holds a formula without a stored result"
            remedy = "Open the workbook in Excel, let it calculate, and save it."
            problem = problem or Problem(None, reason, remedy)
        elif cell.data_type == "e" and isinstance(value, str):
            reason = f"cell {cell.coordinate} holds the error {value}"
            problem = problem or Problem(index, reason, "Correct the formula, or empty the cell.")
        elif isinstance(value, str):
            value = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), value)
        elif isinstance(value, int) and not isinstance(value, bool):
            zeros = re.fullmatch("0{2,}", str(getattr(cell, "number_format", "")))
            value = str(value).zfill(len(zeros[0])) if zeros else value
        values.append(value)
    for index, first in merged.items():
        if index >= len(values) or values[index] is None:
            reason = f"a cell of column {index + 1} is merged with {first}, which alone has a value"
            problem = problem or Problem(index, reason, "Unmerge the cells, and fill in each.")
    while values and values[-1] is None:
        values.pop()
    if not values and not problem:
        return None
    return Values(number, values, problem)


class XlsxWriter:
    """Writes a table as a workbook of one sheet, row by row. Texts never become formulas.

    Args:
        path: the file to write.
        header: names of the columns.
    """

    is_text = False

    def __init__(self, path: Path, header: Sequence[str], columns: Sequence[Any]) -> None:
        from openpyxl import Workbook

        if len(header) > _MOST_COLUMNS:
            raise InputError(
                f"{path.name}: {len(header):,} columns.\n"
                f"  Excel holds {_MOST_COLUMNS:,} at most: save as .csv."
            )
        self._path, self._rows = path, 0
        self._book = Workbook(write_only=True)
        self._sheet = self._book.create_sheet("Sheet1")
        self.write(header)

    def write(self, values: Sequence[Any]) -> None:
        """Append a row.

        Raises:
            InputError: there are more rows, or a longer text, than Excel allows.
        """
        self._rows += 1
        if self._rows > _MOST_ROWS:
            raise InputError(
                f"{self._path.name}: more rows than Excel holds, {_MOST_ROWS:,}.\n"
                "  Save as .csv or .parquet."
            )
        self._sheet.append([self._cell(value) for value in values])

    def close(self) -> None:
        """Write the file."""
        self._book.save(self._path)

    def _cell(self, value: Any) -> Any:
        from openpyxl.cell import WriteOnlyCell

        value = _for_excel(value)
        if not isinstance(value, str):
            return value
        text = _NOT_IN_XML.sub(lambda found: f"_x{ord(found[0]):04X}_", value)
        if len(text) > _LONGEST_CELL:
            raise InputError(
                f"{self._path.name}, row {self._rows}: a text of {len(text):,} characters.\n"
                f"  A cell of Excel holds {_LONGEST_CELL:,}: save as .csv or .parquet."
            )
        cell = WriteOnlyCell(self._sheet, text)
        cell.data_type = "s"
        return cell


def _for_excel(value: Any) -> Any:
    """Return the value if Excel can hold it unchanged, else its text; None if it is missing."""
    if value is None or value is ABSENT or type(value).__name__ in ("NaTType", "NAType"):
        return None
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _EXACT else str(value)
    if isinstance(value, float):
        return None if math.isnan(value) else float(value) if math.isfinite(value) else repr(value)
    if isinstance(value, datetime.datetime):
        fits = value.tzinfo is None and value.year >= 1901 and type(value) is datetime.datetime
        return value if fits and not value.microsecond else value.isoformat()
    if isinstance(value, datetime.date):
        return value if value.year >= 1901 else value.isoformat()
    if isinstance(value, datetime.time):
        return value if not value.microsecond else value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    return nested_text(value)
