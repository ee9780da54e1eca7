"""Files whose cells have types, such as workbooks and Parquet: their values, also as texts."""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import math
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tfx_transformer.arguments import flag_for
from tfx_transformer.data.sources import Digits, Opened, Problem, Row, is_number, row_error
from tfx_transformer.errors import InputError

# The value of a key that a JSON object does not have; other formats write a missing value.
ABSENT = type("Absent", (), {"__repr__": lambda self: "absent"})()

_WHOLE = 1e15  # below, a double holds every whole number, and programs write all its digits


class Values(NamedTuple):
    """One row of a typed file: its name, its values, and the problem if it is known to be
    unusable."""

    name: Any
    values: Sequence[Any]
    problem: Problem | None = None


def as_text(value: Any) -> str:
    """Return a value as readable text: dates as in ISO 8601, integers without a point, a missing
    value as "".

    Raises:
        ValueError: the value has no such form; the message names its type.
    """
    if isinstance(value, str):
        return value
    if value is None or value is ABSENT:
        return ""
    if isinstance(value, float) and math.isnan(value):
        return ""
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bool | int | datetime.timedelta):
        return str(value)
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, float):
        return repr(value)
    if type(value).__name__ in ("NaTType", "NAType"):
        return ""
    raise ValueError(f"is not a text but of type {type(value).__name__}")


def nested_text(value: Any) -> str:
    """Return a list or dictionary as JSON, with bytes as base64; other values as `as_text` does."""
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, ensure_ascii=False, default=_plain)
    return as_text(value)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return as_text(value)


class TypedFile:
    """A file of typed values, as a `Source`. Each format implements `_read`.

    Args:
        path: the file that the user named.
        file: the file that is read, such as the unpacked one; None: `path`.
        wanted: names of the columns that will be read; only these need to be texts.
        choice: name of the part of the file to read, such as a sheet; "": the only one.
    """

    note = ""
    description = ""
    has_places = False
    # Name of the option that names a part of the file, if it may have several.
    option = ""

    def __init__(
        self, path: Path, file: Path | None = None, wanted: Collection[str] = (), choice: str = ""
    ) -> None:
        self.path, self.name, self.file = path, str(path), file or path
        self.wanted, self.choice = wanted, choice

    def _read(self) -> tuple[list[str], int | None, Iterable[Values], int | None]:
        """Return the header, its row, the rows below it, and the number of rows, None if not
        known."""
        raise NotImplementedError

    def as_text(self, value: Any) -> str:
        """Return a value as programs for the format show it; see `as_text`."""
        return as_text(value)

    def open(self) -> Opened:
        """Read the header."""
        header, row, rows, total = self._read()
        return Opened(header, row, self._rows(header, rows), total)

    def check_header(
        self, row: int | None, header: list[str], wanted: Collection[str] = ()
    ) -> None:
        """Raise if the header shows that the table begins below it.

        Args:
            row: number of the row that the header is in.
            header: its cells.
            wanted: names of columns that it should have.
        """

    def records(self) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Yield the name of each row, and header -> value without the missing ones."""
        header, _, rows, _ = self._read()
        for row in rows:
            named = zip(header, row.values, strict=False)
            yield row.name, {name: v for name, v in named if v is not None and v is not ABSENT}

    def error(self, what: str, remedy: str, row: Any = None) -> InputError:
        """Return an error that names the file and, if given, the row."""
        return row_error(self.name, what, remedy, row=row)

    def choose(self, names: Sequence[str], noun: str) -> str:
        """Return the part of the file to read: the one that was named, or the only one.

        Raises:
            InputError: no part has this name, or there are several and none is named.
        """
        shown = ", ".join(map(repr, names)) or "none"
        flag = flag_for(self.option)
        if self.choice:
            if self.choice in names:
                return self.choice
            what = f"there is no {noun} {self.choice!r}."
            raise self.error(what, f"There are: {shown}. Name one with {flag}.")
        if len(names) == 1:
            return names[0]
        what = f"there are {len(names)} {noun}s, and it is not clear which one to read."
        if not names:
            raise self.error(f"there is no {noun} in it.", "Name another file.")
        remedy = f"Name one with {flag}: {shown}." if flag else f"Keep one of {shown}."
        raise self.error(what, remedy)

    def _rows(self, header: list[str], rows: Iterable[Values]) -> Generator[Row]:
        for number, row in enumerate(rows, start=1):
            cells: list[str] = []
            problem = row.problem
            for index, value in enumerate(row.values):
                name = header[index] if index < len(header) else ""
                try:
                    text = self.as_text(value)
                    cells.append(Digits(text) if is_number(value) and text else text)
                except ValueError as error:
                    is_nested = isinstance(value, list | tuple | dict)
                    cells.append(nested_text(value) if is_nested else "")
                    if name in self.wanted and not problem:
                        what = f"column {name!r} {error}"
                        problem = Problem(name, what, f"Convert column {name!r} first.")
            yield Row(row.name, cells, 0, number, row.values, problem)


def shortest_number(value: float) -> str:
    """Return a number as a spreadsheet shows it: up to 15 digits, 1 for 1.0."""
    if value == int(value) and abs(value) < _WHOLE:
        return str(int(value))
    return format(value, ".15g")
