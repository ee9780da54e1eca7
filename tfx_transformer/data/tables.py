"""Read named columns of a table as text; nothing is lost, shifted or changed without a message.

A table is a file of any format (see `data.formats`), or in memory (see `data.sources`).
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import difflib
import itertools
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from tfx_transformer import files
from tfx_transformer.arguments import flag_for
from tfx_transformer.data import file_rows
from tfx_transformer.data.file_rows import FileRows, RowFile, Rows
from tfx_transformer.data.formats import open_table
from tfx_transformer.data.sources import (
    Convert,
    Opened,
    Problem,
    Row,
    Source,
    TableData,
    column_name,
    fix_or_skip,
    in_memory,
    row_error,
    shorten,
    show,
)
from tfx_transformer.errors import InputError
from tfx_transformer.reprs import quantity

# Role of a column -> its flag, if the flag has another name.
_FLAGS = {"image": "path", "shown": "show"}


@dataclasses.dataclass(frozen=True)
class BadRow:
    """A row that was left out because of `skip_bad_rows=True`.

    row: its number in the file, or its name in memory (see `data.sources`); column: header of the
    column at fault, None for surplus cells; reason: what is wrong with it; values: all its cells.
    """

    row: Any
    column: str | None
    reason: str
    values: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Table:
    """The wanted columns of a table, or of a stretch of its rows.

    path: of the file; in memory the kind of table, such as "DataFrame"; columns: role -> the cells,
    one for each kept row; used: role -> header of its column; rows: number in the file, or name in
    memory, of each kept row; bad_rows: the rows left out; header: all the headers.
    """

    path: Path | str
    columns: dict[str, Rows[Any]]
    used: dict[str, str]
    rows: Sequence[Any]
    bad_rows: list[BadRow]
    header: list[str]

    def __repr__(self) -> str:
        skipped = f", {quantity(len(self.bad_rows), 'bad row')} skipped" if self.bad_rows else ""
        used = ", ".join(f"{role}: {name!r}" for role, name in self.used.items())
        return f"Table: {quantity(len(self.rows), 'row')} of {self.path} ({used}){skipped}"


# (role -> cell of a row) -> the problem that makes the row unusable, or None.
Check = Callable[[dict[str, Any]], Problem | None]


def read_table(
    path: TableData,
    columns: dict[str, str],
    *,
    skip_bad_rows: bool = False,
    allow_empty: Collection[str] = (),
    leave_in_file: Collection[str] = (),
    convert: Mapping[str, Convert] | None = None,
    check: Check | None = None,
    nested: Collection[str] = (),
) -> Table:
    """Read a whole table; arguments and errors as for `stream_table`.

    Args:
        nested: roles whose cells may be lists and objects, if the format has them; they are
            returned as JSON.
        leave_in_file: roles whose cells are checked like all others, but stay in a file of more
            than 64 MiB, as `FileRows`; the numbers of the rows are then an array.
    """
    source: Any = _source(path, columns, convert, nested)
    read = _stream(source, columns, skip_bad_rows, allow_empty, check)
    first = next(read)
    if leave_in_file and source.path is not None and source.has_places:
        status = os.stat(source.file)
        if status.st_size > file_rows.MOST_IN_MEMORY:
            return _index_rows(source, itertools.chain([first], read), leave_in_file, status)
    tables = [table for table, _ in itertools.chain([first], read)]
    return dataclasses.replace(
        tables[0],
        columns={role: [cell for t in tables for cell in t.columns[role]] for role in columns},
        rows=[row for t in tables for row in t.rows],
        bad_rows=[bad for t in tables for bad in t.bad_rows],
    )


def stream_table(
    path: TableData,
    columns: dict[str, str],
    *,
    skip_bad_rows: bool = False,
    allow_empty: Collection[str] = (),
    chunk_rows: int = 10_000,
    convert: Mapping[str, Convert] | None = None,
    check: Check | None = None,
) -> Iterator[Table]:
    """Read a table, which may be larger than memory, as successive tables of its rows.

    Args:
        path: a file of any format (see `formats`); or a table in memory: a pandas DataFrame, a
            dictionary of columns, a list of dictionaries, or a list of rows whose values are in the
            order of `columns`.
        columns: role -> header of its column, exactly as in the file.
        skip_bad_rows: leave out rows that are short, long, hold a NUL character or an empty
            required cell, and list them in `bad_rows`, instead of raising at the first.
        allow_empty: roles whose cells may be empty; every other cell needs more than blanks.
        chunk_rows: rows in a table, bad ones included; the last table may have fewer.
        convert: role -> function from a value in memory to a cell; the default is
            `sources.as_text`.
        check: an additional check of each row.

    Yields: Table, at least one. Errors are raised when iteration reaches them.
    Raises: InputError naming file, row and column, and the remedy: for a bad row; and, even with
        `skip_bad_rows`, if the file cannot be read, its encoding or separator is not certain, it
        lacks a wanted column or has it twice, has quotes that do not pair up (so that the ends of
        rows are unknown), or has no usable row. ValueError if `allow_empty` names an unknown role
        or `chunk_rows` is not positive.
    """
    source = _source(path, columns, convert)
    for table, _ in _stream(source, columns, skip_bad_rows, allow_empty, check, chunk_rows):
        yield table


def _source(
    data: TableData,
    columns: dict[str, str],
    convert: Mapping[str, Convert] | None = None,
    nested: Collection[str] = (),
) -> Source:
    if (source := in_memory(data, columns, convert)) is not None:
        return source
    texts = [name for role, name in columns.items() if role not in nested]
    return open_table(cast("str", data), texts)


def _open(source: Source, columns: dict[str, str]) -> Opened:
    opened = source.open()
    if source.path is not None and not opened.header:
        raise row_error(source.name, "the file is empty.", _expected(columns))
    return opened


def _stream(
    source: Source,
    columns: dict[str, str],
    skip_bad_rows: bool,
    allow_empty: Collection[str],
    check: Check | None = None,
    chunk_rows: int = 10_000,
) -> Iterator[tuple[Table, list[tuple[int, int]]]]:
    """Yield the tables of `stream_table`, and for each kept row its first byte and the one after
    its last."""
    if unknown := set(allow_empty) - set(columns):
        raise ValueError(f"allow_empty has {sorted(unknown)}; the roles are {list(columns)}.")
    if chunk_rows < 1:
        raise ValueError(f"chunk_rows must be 1 or more, not {chunk_rows}.")
    kept = 0
    first_bad = None
    header, header_row, rows, _ = _open(source, columns)
    with contextlib.closing(rows):
        position = {
            role: _find_column(source, header_row, header, role, columns) for role in columns
        }
        required = [position[role] for role in columns if role not in allow_empty]
        records: Iterator[Row] = rows
        if source.path is not None and required and len(header) > 1:
            records = without_blank_end(rows)
        for first in records:
            cells: dict[str, list[Any]] = {role: [] for role in columns}
            names: list[Any] = []
            path = source.path or source.name
            table, places = Table(path, {**cells}, dict(columns), names, [], header), []
            for row in itertools.chain([first], itertools.islice(records, chunk_rows - 1)):
                problem = _find_problem(row, header, required, source.path is None)
                if not problem and check:
                    problem = check({role: row.cells[index] for role, index in position.items()})
                if problem:
                    if not skip_bad_rows:
                        raise _bad_row_error(source, row.name, problem)
                    bad = BadRow(row.name, problem.column, problem.reason, _cells(row))
                    first_bad = first_bad or bad
                    table.bad_rows.append(bad)
                    continue
                kept += 1
                names.append(row.name)
                places.append((row.begin, row.end))
                for role, index in position.items():
                    cells[role].append(row.cells[index])
            yield table, places
    if not kept and first_bad:
        what = f"{first_bad.reason}, and every row after it is bad too."
        remedy = "Leaving out bad rows leaves none: fix them."
        raise row_error(source.name, what, remedy, row=first_bad.row)
    if not kept and source.path is None:
        raise row_error(source.name, "there are no rows.", "Expected one row per example.")
    if not kept:
        what = "there is a header, but no row below it."
        raise row_error(source.name, what, _expected(columns), row=header_row)


def read_header(path: TableData, columns: dict[str, str] | None = None) -> list[str]:
    """Return the headers of a table.

    Args:
        columns: as for `stream_table`; they are the headers of rows that have none.

    Raises:
        InputError: the file is empty; for others see `stream_table`.
    """
    opened = _open(_source(path, columns or {}), columns or {})
    opened.rows.close()
    return opened.header


def find_columns(path: TableData, columns: dict[str, str]) -> tuple[list[str], dict[str, int]]:
    """Return the headers of a table, and the index of each wanted column.

    Args:
        path, columns: as for `stream_table`.

    Raises:
        InputError: a column is missing or there twice; for others see `read_header`.
    """
    source = _source(path, columns)
    header, row, rows, _ = _open(source, columns)
    rows.close()
    return header, {role: _find_column(source, row, header, role, columns) for role in columns}


def check_two_columns(columns: dict[str, str]) -> None:
    """Raise an InputError if the first two of the columns, those of a pair, are the same one.

    Args:
        columns: as for `stream_table`.
    """
    (one, first), (other, second) = list(columns.items())[:2]
    if first == second:
        names = " and ".join(flag_for(role) or role for role in (one, other))
        raise InputError(
            f"column {first!r} is named twice: for {names}.\n"
            "  A pair has two texts: name the column of each."
        )


def write_bad_rows(path: str | os.PathLike[str], bad_rows: Iterable[BadRow]) -> None:
    """Write bad rows as CSV: row, column, reason, values (a JSON list of the cells)."""
    with (
        files.replacing(path) as unfinished,
        unfinished.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["row", "column", "reason", "values"])
        for bad in bad_rows:
            values = json.dumps(bad.values, ensure_ascii=False)
            writer.writerow([bad.row, bad.column, bad.reason, values])


def without_blank_end(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield the rows of a file, without the last ones if all their cells are blank."""
    blank: list[Row] = []
    for row in rows:
        if not any(map(str.strip, row.cells)):
            blank.append(row)
            continue
        yield from blank
        blank.clear()
        yield row


def _cells(row: Row) -> tuple[str, ...]:
    """Return all cells of a row as readable texts."""
    return tuple(row.cells) if row.values is None else tuple(map(show, row.values))


def _index_rows(
    source: Any,
    read: Iterable[tuple[Table, list[tuple[int, int]]]],
    left: Collection[str],
    status: os.stat_result,
) -> Table:
    """Return the tables of `_stream` as one that leaves the cells of some roles in the file.
    `source`: a CSV file; `left`: these roles; `status`: as for RowFile."""
    bounds, rows, bad_rows = [], [], []
    columns, hashes, lengths = {}, {}, {}
    known: dict[str, str] = {}  # equal cells of the other roles are held once
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
    file = RowFile(source.file, np.concatenate(bounds), status)
    for role in hashes:
        cell = source.reader(table.header.index(table.used[role]))
        columns[role] = FileRows(
            file, cell, np.concatenate(hashes[role]), np.concatenate(lengths[role])
        )
    return dataclasses.replace(
        table,
        columns={role: columns[role] for role in table.used},
        rows=np.concatenate(rows),
        bad_rows=bad_rows,
    )


def _find_column(
    source: Source, row: int | None, header: list[str], role: str, columns: dict[str, str]
) -> int:
    """Return the index of the column of `role`; raise InputError unless there is exactly one."""
    name = columns[role]
    found = [index for index, text in enumerate(header) if text == name]
    if len(found) == 1:
        return found[0]
    if found:
        places = " and ".join(str(index + 1) for index in found)
        remedy = "It is not clear which one to read. Rename or remove the others."
        raise row_error(source.name, f"columns {places} are both named {name!r}.", remedy, row=row)
    if source.path is not None:
        cast("Any", source).check_header(row, header, columns.values())
    there = ", ".join(repr(shorten(text)) if text else "(no name)" for text in header)
    remedy = f"The columns there are: {there or 'none'}.\n"
    for text in header:
        if text.strip() == name:
            what = f"the header {text!r} has blanks around it."
            remedy += f"Remove them, so that it reads {name!r}."
            raise row_error(source.name, what, remedy, row=row)
    plain = {text.strip().casefold(): text for text in header if text.strip()}
    if nearest := difflib.get_close_matches(name.strip().casefold(), plain, n=1):
        remedy += f"Did you mean {plain[nearest[0]]!r}? "
    elif source.path is not None and not set(header) & set(columns.values()):
        remedy += f"If this row is data already, put a header above it. {_expected(columns)}\n"
    parameter = role.split(" ")[0]  # the roles of several columns are numbered
    named = f", or name the one to read: ({parameter}=...)."
    if source.path is not None:
        flag = flag_for(_FLAGS.get(parameter, parameter))
        named = f", or name the one to read: {flag} NAME ({parameter}=...)." if flag else "."
        named = f" in the file{named}"
    remedy += f"Rename the column{named}"
    raise row_error(source.name, f"there is no column {name!r}.", remedy, row=row)


def _find_problem(
    row: Row, header: list[str], required: list[int], in_memory: bool
) -> Problem | None:
    """Return the problem that makes a row unusable, or None. `required`: indices of columns."""
    if row.problem:
        return row.problem
    cells = row.cells
    if in_memory:  # other values, such as images, were checked when they were converted
        cells = [cell if isinstance(cell, str) else "…" for cell in cells]
    blank = not in_memory and len(header) > 1 and not any(map(str.strip, cells))
    if blank and required and len(cells) == len(header):
        return Problem(None, "every cell of the row is empty", "Remove the row.")
    if len(cells) != len(header):
        remedy = "Every row needs as many cells as the header; a text with commas needs quotes."
        if cells[0].lstrip().startswith("#") and not header[0].startswith("#"):
            remedy = "A row that begins with # may be a comment; tables have none. Remove it."
        if len(cells) > len(header):
            reason = f"the row has {len(cells)} cells, the header {len(header)}"
            return Problem(None, reason, remedy)
        missing = column_name(header, len(cells))
        reason = f"the row has {len(cells)} of {len(header)} cells: {missing} is missing"
        return Problem(header[len(cells)], reason, remedy)
    if "\0" in "".join(cells):
        index = next(index for index, cell in enumerate(cells) if "\0" in cell)
        return Problem(
            header[index],
            f"{column_name(header, index)} holds a NUL character",
            "The file may be damaged, or not be text.",
        )
    for index in required:
        if not cells[index].strip():
            name = column_name(header, index)
            return Problem(header[index], f"{name} is empty", f"Every row needs a text in {name}.")
    return None


def _bad_row_error(source: Source, row: Any, problem: Problem) -> InputError:
    remedy = f"{problem.remedy}\n{fix_or_skip()}\n{source.note}"
    return row_error(source.name, f"{problem.reason}.", remedy, row=row)


def _expected(columns: dict[str, str]) -> str:
    names = f" ({','.join(columns.values())})" if columns else ""
    return f"Expected: a header row{names}, then one row per example."
