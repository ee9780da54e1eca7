"""SQLite databases: one table as rows."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

from tfx_transformer.data.sources import Problem
from tfx_transformer.data.typed_rows import TypedFile, Values

_LONGEST_VALUE = 100_000_000


class _NotText(bytes):
    """Bytes of a text that is not UTF-8."""


class SqliteFile(TypedFile):
    """A table of a database; a row is named by its rowid, or counted from 1 without rowids."""

    option = "table"

    def _read(self) -> tuple[list[str], int | None, Iterable[Values], int | None]:
        with self._opened() as database:
            found = database.execute(
                "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')"
                " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
            )
            table = self.choose([str(name) for (name,) in found], "table")
            columns = database.execute(f"SELECT * FROM {_quote(table)} LIMIT 0").description
            count = database.execute(f"SELECT count(*) FROM {_quote(table)}").fetchone()[0]
        header = [name for name, *_ in columns]
        return header, None, self._values(table, header), count

    def _values(self, table: str, header: list[str]) -> Iterator[Values]:
        names = {name.lower() for name in header}
        rowid = next((n for n in ("rowid", "_rowid_", "oid") if n not in names), None)
        with self._opened() as database:
            query = f"SELECT * FROM {_quote(table)}"
            if rowid:
                with contextlib.suppress(sqlite3.OperationalError):  # without rowids, or a view
                    database.execute(f"SELECT {rowid} FROM {_quote(table)} LIMIT 0")
                    query = f"SELECT {rowid}, * FROM {_quote(table)} ORDER BY {rowid}"
            numbered = query.startswith(f"SELECT {rowid},")
            for number, row in enumerate(database.execute(query), start=1):
                name, values = (row[0], row[1:]) if numbered else (number, row)
                yield Values(name if name is not None else number, values, _problem(header, values))

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Any]:
        """Open the database read-only, without trusting its schema."""
        try:
            os.stat(self.file)
            address = f"{self.file.resolve().as_uri()}?mode=ro"
            database = sqlite3.connect(address, uri=True)
        except (OSError, sqlite3.Error) as error:
            raise self._damaged(error) from error
        try:
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
            database.text_factory = _text
            database.execute("PRAGMA trusted_schema = OFF")
            database.execute("PRAGMA cell_size_check = ON")
            database.execute("PRAGMA query_only = ON")
            yield database
        except sqlite3.Error as error:
            raise self._damaged(error) from error
        finally:
            database.close()

    def _damaged(self, error: Exception) -> Exception:
        what = f"the database cannot be read: {error}."
        return self.error(what, "Check it with sqlite3, or export the table as CSV.")


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _NotText(data)


def _problem(header: list[str], values: Iterable[Any]) -> Problem | None:
    for name, value in zip(header, values, strict=True):
        if isinstance(value, _NotText):
            return Problem(name, f"column {name!r} is not UTF-8 text", "Correct the value.")
    return None


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
