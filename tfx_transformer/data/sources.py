"""Sources of rows: one base for all tables, and the tables that are in memory already.

A source has a name, a header and rows. A person finds a row by its name: its number in a file, its
label in the index of a DataFrame, its position in a list. `tables.read_table` checks the rows of
any source, so a reader of pairs, labels or scores is independent of the source.
"""

from __future__ import annotations

import decimal
import math
import numbers
import os
import re
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from tfx_transformer.arguments import flag_for
from tfx_transformer.errors import InputError

if TYPE_CHECKING:
    import pandas

    # Input of the readers: a file, a DataFrame, a dictionary of columns, or rows (dictionaries, or
    # values in the order of the columns that are read).
    TableData: TypeAlias = (
        str
        | os.PathLike[str]
        | pandas.DataFrame
        | Mapping[str, Sequence[Any] | np.ndarray]
        | Iterable[Mapping[str, Any]]
        | Iterable[Sequence[Any]]
        | np.ndarray
    )
else:  # avoids importing pandas
    TableData = Any

# Half a surrogate pair, which UTF-8, and so a file, cannot hold.
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
# Longer values hide what a message says.
_SHOWN = 100


class Problem(NamedTuple):
    """The reason why a row cannot be used.

    column: header of the column at fault, None for surplus cells; reason: what is wrong with it;
    remedy: what was expected.
    """

    column: str | None
    reason: str
    remedy: str


class Row(NamedTuple):
    """One row of a source.

    name: by which a person finds it; cells: its texts, one for each header; begin, end: its first
    byte in the file and the one after its last, or 0 and the number of rows up to it; values: its
    typed values, if the source has types; problem: set if the row is known to be unusable.
    """

    name: Any
    cells: list[Any]
    begin: int = 0
    end: int = 0
    values: Sequence[Any] | None = None
    problem: Problem | None = None


class Opened(NamedTuple):
    """A source whose header was read.

    header: names of all columns; row: number of the header's row, None if it is not in a row; rows:
    the rows after it, to be closed; total: the `end` of the last row, None if not known.
    """

    header: list[str]
    row: int | None
    rows: Generator[Row]
    total: int | None = None


class Source(Protocol):
    """A table that can be read row by row.

    name: of the table in messages; path: its file, None in memory; note: a hint for finding a row,
    or "". Sources of files have more: see `formats.Format`.
    """

    name: str
    path: Path | None
    note: str

    def open(self) -> Opened:
        """Read the header."""
        ...


Convert = Callable[[Any], Any]


def as_text(value: Any) -> str:
    """Return a text unchanged, "" for a missing value; raise a ValueError, which says what it is,
    for others."""
    if isinstance(value, str):
        if found := _HALF_CHARACTER.search(value):
            raise ValueError(f"holds half a character, {found[0]!r}")
        return str(value)
    if _is_missing(value):
        return ""
    raise ValueError(f"is not a text but {_describe_type(value)}")


def as_label(value: Any) -> str:
    """Return a text, or a whole number as its digits: 7 and "7" are one label. See `as_text`.

    Floats are refused: pandas makes 1.0 of 1 if another row of the column is empty.
    """
    if isinstance(value, bool | np.bool_ | numbers.Integral):
        return str(value)
    return as_text(value)


class Digits(str):
    """The digits of a typed number; unlike in a text, its decimal sign is known to be a point."""

    __slots__ = ()


def as_number(value: Any) -> str:
    """Return the digits of a number, or a text that may be one. See `as_text`."""
    if is_number(value):
        return "" if _is_missing(value) else Digits(repr(float(value)))
    return as_text(value)


def is_number(value: Any) -> bool:
    """Return True for a number that is not a truth value."""
    is_real = isinstance(value, numbers.Real | decimal.Decimal)
    return is_real and not isinstance(value, bool | np.bool_)


class Memory:
    """A table in memory, as a `Source`.

    Args:
        name: of the table in messages.
        header: names of the columns.
        names: of the rows.
        values: of each row, one for each header; None: missing.
        convert: header -> function from a value to a text, for the columns that are read.
        note: a hint for finding a row.
    """

    path = None

    def __init__(
        self,
        name: str,
        header: list[str],
        names: Sequence[Any],
        values: Iterable[Sequence[Any]],
        convert: Mapping[str, Convert],
        note: str = "",
    ) -> None:
        self.name, self.header, self.note = name, header, note
        self._names, self._values, self._convert = names, values, convert

    def open(self) -> Opened:
        return Opened(self.header, None, self._rows())

    def records(self) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Yield the name of each row, and header -> value without the missing ones."""
        for name, values in zip(self._names, self._values, strict=True):
            named = zip(self.header, values, strict=False)
            yield name, {column: value for column, value in named if not _is_missing(value)}

    def _rows(self) -> Generator[Row]:
        for name, values in zip(self._names, self._values, strict=True):
            yield self._row(name, values)

    def _row(self, name: Any, values: Sequence[Any]) -> Row:
        cells: list[Any] = []
        problem = None
        if len(values) != len(self.header):
            wanted = ", ".join(self.header)
            reason = f"the row holds {len(values)} of {len(self.header)} values"
            problem = Problem(None, reason, f"Every row needs a value for each of {wanted}.")
        else:
            for column, value in zip(self.header, values, strict=True):
                try:
                    cells.append(self._convert[column](value) if column in self._convert else "")
                except ValueError as error:
                    what = f"column {column!r} {error}"
                    problem = problem or Problem(column, what, f"Convert column {column!r} first.")
        return Row(name, cells, values=values, problem=problem)


def in_memory(
    data: Any, columns: Mapping[str, str], convert: Mapping[str, Convert] | None = None
) -> Memory | None:
    """Return the source of a table in memory; None for the path of a file.

    Args:
        data: a DataFrame, a dictionary of columns, dictionaries, or rows of values in the order of
            `columns`.
        columns: role -> header of its column.
        convert: role -> function from a value to a text; the default is `as_text`.

    Raises:
        InputError: another kind of object, or columns of different lengths.
    """
    if isinstance(data, str | os.PathLike):
        return None
    by_header = {name: (convert or {}).get(role, as_text) for role, name in columns.items()}
    for method in ("to_dicts", "to_pylist"):  # of Polars and of Arrow
        if hasattr(data, method):
            data = getattr(data, method)()
    if is_frame(data):
        header = [str(name) for name in data.columns]
        values = zip(*(data.iloc[:, i].tolist() for i in range(len(header))), strict=True)
        return Memory("DataFrame", header, data.index.tolist(), values, by_header)
    if isinstance(data, Mapping):
        return _from_columns(data, by_header)
    if isinstance(data, Iterable) and not isinstance(data, bytes):
        return _from_rows(list(data), list(columns.values()), by_header)
    raise InputError(
        f"a table cannot be read from {_describe_type(data)}.\n"
        "  Expected the path of a file, a pandas DataFrame, a list of rows, or a dictionary of\n"
        "  columns."
    )


def is_frame(data: Any) -> bool:
    """Return True for a pandas DataFrame, without importing pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(data, pandas.DataFrame)


def is_table(data: Any) -> bool:
    """Return True for a table in memory, False for a path or a list of paths."""
    if isinstance(data, str | os.PathLike):
        return False
    if is_frame(data) or isinstance(data, Mapping) or not isinstance(data, Sequence):
        return True
    return not all(isinstance(item, str | os.PathLike) for item in data)


def _from_columns(data: Mapping[str, Sequence[Any]], convert: Mapping[str, Convert]) -> Memory:
    header = [str(name) for name in data]
    columns = [column if isinstance(column, str) else list(column) for column in data.values()]
    for name, column in zip(header, columns, strict=True):
        if isinstance(column, str) or len(column) != len(columns[0]):
            what = (
                f"column {name!r} is a text"
                if isinstance(column, str)
                else (
                    f"column {name!r} has {len(column):,} values, "
                    f"column {header[0]!r} has {len(columns[0]):,}"
                )
            )
            raise InputError(
                f"{what}.\n  Expected a list of values for each column, all of one length."
            )
    rows = zip(*columns, strict=True)
    names = range(len(columns[0]) if columns else 0)
    return Memory("columns", header, names, rows, convert, _COUNTED)


def _from_rows(rows: list[Any], names: Sequence[str], convert: Mapping[str, Convert]) -> Memory:
    keyed = [isinstance(row, Mapping) for row in rows]
    if any(keyed):
        dictionaries = (row for row in rows if isinstance(row, Mapping))
        header = list(dict.fromkeys(str(key) for row in dictionaries for key in row))
        values: Iterable[Sequence[Any]] = (_in_order(row, header) for row in rows)
    else:
        header = list(names)
        values = ([row] if _is_single(row) else list(row) for row in rows)
    return Memory("list", header, range(len(rows)), values, convert, _COUNTED)


_COUNTED = "Rows are counted from 0."


def _in_order(row: Any, header: Sequence[str]) -> list[Any]:
    """Return the values of a dictionary, None for a missing one; any other row is one value."""
    if isinstance(row, Mapping):
        return [row.get(name) for name in header]
    return [row]


def _is_single(row: Any) -> bool:
    """Return True if a row is one value, not a sequence of them."""
    return isinstance(row, str | bytes) or not isinstance(row, Sequence | np.ndarray)


def fix_or_skip(row: str = "row", what: str = "it") -> str:
    """Return the remedy for a bad row: to fix it or, where that can be set, to leave it out.

    Args:
        row: what a row is called.
        what: what is left out.
    """
    flag = flag_for("skip_bad_rows")
    if not flag:
        return f"Fix the {row}."
    return (
        f"Fix the {row}, or pass {flag} (skip_bad_rows=True) to leave {what} out\n"
        "(it is then listed among the bad rows)."
    )


def row_error(name: str, what: str, remedy: str, *, row: Any = None) -> InputError:
    """Return an error that names the source and, if given, the row, and the remedy."""
    place = name if row is None else f"{name}, row {row}"
    return InputError(f"{place}: {what}\n  " + remedy.strip().replace("\n", "\n  "))


def column_name(header: list[str], index: int) -> str:
    """Return the name of a column in messages: by its header, or by its number if that is empty."""
    named = index < len(header) and header[index]
    return f"column {header[index]!r}" if named else f"column {index + 1}"


def shorten(text: str) -> str:
    """A text of 40 characters at most."""
    return text if len(text) <= 40 else f"{text[:39]}…"


def _is_missing(value: Any) -> bool:
    """Return True for None, NaN, pandas' NA or NaT."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, numbers.Real) and math.isnan(value)


def _describe_type(value: Any) -> str:
    """Return the type and the beginning of a value."""
    shown = f" ({show(value)})" if isinstance(value, str | numbers.Number) else ""
    return f"of type {type(value).__name__}{shown}"


def show(value: Any) -> str:
    """Return a value as a text of at most 100 characters."""
    text = value if isinstance(value, str) else repr(value)
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
