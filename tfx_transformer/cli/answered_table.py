"""The table that `predict` reads, and the one that it writes, in any format."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tfx_transformer import files, json_files
from tfx_transformer.errors import InputError
from tfx_transformer.prediction.answers import Prediction

# Seconds between two flushes: a flush can take longer than the answers to a batch.
_NOTED = 1.0
_MAX_STATE_BYTES = 1024 * 1024
# Endings of tables that are written row by row in their place, and what separates their cells.
_TEXT = {".csv": ",", ".tsv": "\t", ".tab": "\t"}


class InputRow(NamedTuple):
    """A row of the input.

    name: of the row; cells: its texts, one for each column; values: the cells with their types, if
    the format has types; input: what the model reads; is_good: the row can be read; end: how far
    the table is read with this row, see `InputTable.total`.
    """

    name: Any
    cells: list[str]
    values: list[Any]
    input: Any
    is_good: bool
    end: int


class InputTable:
    """The table that is read.

    Args:
        file: path of a table, or a `TableFile`.
        columns: names of the columns that the model reads.
        config: config.json of the bundle.

    Attributes:
        total: `InputRow.end` at the end of the table; None if that is not known.

    Raises:
        InputError: the file cannot be read, or a column is missing.
    """

    def __init__(
        self, file: str | os.PathLike[str], columns: list[str], config: dict[str, Any]
    ) -> None:
        from tfx_transformer.data.formats import open_table
        from tfx_transformer.data.tables import find_columns

        self.path, self.columns = Path(file), columns
        roles = ["column", *(f"column {number}" for number in range(2, len(columns) + 1))]
        self.header, places = find_columns(file, dict(zip(roles, columns, strict=True)))
        self.source = open_table(file, columns)
        self.places = list(places.values())
        self.images = bool(config["architecture"].get("image_size"))
        self.several = config.get("text_columns", 1) > 1
        opened = self.source.open()
        opened.rows.close()
        self.total = opened.total
        self.signature = _signature(self.path)

    def rows(self) -> Iterator[InputRow]:
        """Yield every row that is not blank."""
        width = len(self.header)
        for row in self._rows():
            cells = [*row.cells, *[""] * width][:width]
            values = cells
            if row.values is not None:
                values = [*row.values, *[None] * width][:width]
            is_good = self._problem(row) is None
            yield InputRow(row.name, cells, values, self._input(cells), is_good, row.end)

    def bad_rows(self) -> Iterator[Any]:
        """Yield the rows that cannot be read, as `tables.BadRow`."""
        from tfx_transformer.data.tables import BadRow

        for row in self._rows():
            if problem := self._problem(row):
                yield BadRow(row.name, *problem, tuple(row.cells))

    def types(self) -> list[Any]:
        """Return the type of each column in Parquet, else the set of the types of its values."""
        if hasattr(self.source, "schema"):
            return list(self.source.schema().types)
        kinds: list[set[type]] = [set() for _ in self.header]
        for row in self.rows():
            for known, value in zip(kinds, row.values, strict=True):
                if value is not None:
                    known.add(_plain_type(value))
        return kinds

    def _rows(self) -> Iterator[Any]:
        from tfx_transformer.data.tables import without_blank_end

        return without_blank_end(self.source.open().rows)

    def _problem(self, row: Any) -> tuple[str | None, str] | None:
        """Return the column at fault and the reason why a row cannot be read; None if it can."""
        cells = row.cells
        if row.problem:
            return row.problem.column, row.problem.reason
        if len(cells) != len(self.header):
            return None, f"the row has {len(cells)} cells, the header {len(self.header)}"
        texts = [cells[place] for place in self.places]
        if not any(text.strip() for text in texts):
            return self.columns[0], "it is empty"
        if "\0" in "".join(texts):
            return self.columns[0], "it holds a NUL character"
        if self.images and not (self.path.parent / texts[0]).is_file():
            return self.columns[0], f"there is no file {texts[0]!r}"
        return None

    def _input(self, cells: Sequence[str]) -> Any:
        texts = tuple(cells[place] for place in self.places)
        if self.images:
            return str(self.path.parent / texts[0])
        return texts if self.several else texts[0]


def _signature(path: Path) -> list[int]:
    """Return size in bytes and time in nanoseconds of a file, or of each file in a folder."""
    found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    status = [file.stat() for file in found]
    return [number for one in status for number in (one.st_size, one.st_mtime_ns)]


def _plain_type(value: Any) -> type:
    """Return bool, int, float or str for a value of these types or of a subclass, else its type."""
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind
    return type(value)


class OutputTable:
    """The table that is written: `OUT.csv.part` until it is complete, then `OUT.csv`.

    A CSV or TSV is written row by row. In other formats the part has only the answers, a JSON list
    a line; at the end the rows are read again and written with their answers.

    Every second, and at the end, `OUT.csv.part.json` records the complete rows and bytes, so that
    an interrupted command goes on there when it is repeated.

    Args:
        path: of the table; its ending is that of a format that can be written.
        identity: everything that decides the answers, JSON values.
        overwrite: replace an existing table.

    Raises:
        InputError: the table exists, its folder does not, or its format cannot be written.
    """

    def __init__(self, path: Path, identity: dict[str, Any], overwrite: bool) -> None:
        from tfx_transformer.data.formats import check_writable

        check_writable(path)
        if path.exists() and not overwrite:
            raise InputError(
                f"{path} exists already.\n  Choose another name, or pass --overwrite to replace it."
            )
        if not path.parent.is_dir():
            raise InputError(f"--save {path}: there is no folder {path.parent}.\n  Make it first.")
        self.path, self.identity = path, identity
        self.part = path.with_name(path.name + ".part")
        self.state = path.with_name(path.name + ".part.json")
        self.separator = _TEXT.get(path.suffix.lower(), "")
        # Rows and bytes of the complete batches, in one value: a signal at any moment then finds
        # rows and bytes that belong together.
        self._whole = 0, 0
        self._last = time.monotonic()

    def open(self, table: InputTable, prediction: Prediction) -> int:
        """Write the header, or go on where an interrupted command with the same bundle, table and
        flags stopped; return the number of rows that are already written.

        Raises:
            InputError: another command is writing this table.
        """
        names = [*table.header, *prediction.names]
        self.identity |= {"table": table.signature, "names": names}
        self._table, self._prediction = table, prediction
        try:
            self._lock = files.Lock(self.part.with_name(self.part.name + ".lock")).hold()
        except files.Held as held:
            raise InputError(
                f"{self.path}: another command, process {held.process}, is writing it now.\n"
                "  Wait for its end, or choose another name."
            ) from held
        known = self._read_state()
        if known is not None:
            self._file = self.part.open("r+b")
            self._file.truncate(known["bytes"])
            self._file.seek(0, os.SEEK_END)
            self._whole = known["rows"], known["bytes"]
        else:
            self._file = self.part.open("wb")
            self._append(self._csv([names]) if self.separator else "", 0)
        return self._whole[0]

    def write(self, rows: Iterable[tuple[InputRow, Sequence[Any]]]) -> None:
        """Append a batch of rows with their answers; from time to time call `note`."""
        rows = list(rows)
        if self.separator:
            cell = self._prediction.cell
            cells = [[*_as_texts(self.path, row), *map(cell, answers)] for row, answers in rows]
            text = self._csv(cells)
        else:
            lines = (json.dumps(answers, ensure_ascii=False) for _, answers in rows)
            text = "".join(line + "\n" for line in lines)
        self._append(text, len(rows))
        if time.monotonic() - self._last > _NOTED:
            self.note()

    def _csv(self, rows: Sequence[Sequence[str]]) -> str:
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=self.separator).writerows(rows)
        return text.getvalue()

    def _append(self, text: str, rows: int) -> None:
        """Write lines, then count them: after a signal between the two, the next command cuts the
        uncounted lines off, so no row is written twice."""
        content = text.encode()
        self._file.write(content)
        self._whole = self._whole[0] + rows, self._whole[1] + len(content)

    def note(self) -> None:
        """Flush the part to disk, and record its complete rows and bytes."""
        self._last = time.monotonic()
        rows, size = self._whole
        self._file.flush()
        os.fsync(self._file.fileno())
        files.write(self.state, json.dumps(self.identity | {"rows": rows, "bytes": size}))

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, *_: object) -> None:
        """Call `note`; without an error, move the table to its place."""
        try:
            self.note()
            self._file.close()
            if kind is None:
                if self.separator:
                    os.replace(self.part, self.path)
                else:
                    self._convert()
                    self.part.unlink()
                self.state.unlink(missing_ok=True)
        finally:
            self._lock.release()

    def _convert(self) -> None:
        """Write the rows of the input with their answers."""
        from tfx_transformer.data.formats import writing

        table, prediction = self._table, self._prediction
        names = [*table.header, *prediction.names]
        kinds = [*table.types(), *({kind} for kind in prediction.kinds)]
        with (
            writing(self.path, names, kinds) as writer,
            self.part.open(encoding="utf-8") as answers,
        ):
            cell = prediction.cell
            for row, line in zip(table.rows(), answers, strict=True):
                given = _as_texts(self.path, row) if writer.is_text else row.values
                found = json.loads(line)
                try:
                    writer.write([*given, *(map(cell, found) if writer.is_text else found)])
                except ValueError as error:
                    raise InputError(
                        f"{table.path}, row {row.name}: a value {error}.\n"
                        f"  {self.path.name} cannot hold it: save as .parquet."
                    ) from error

    def _read_state(self) -> dict[str, Any] | None:
        """Return the record of an interrupted command with the same identity, or None."""
        if not (self.state.is_file() and self.part.is_file()):
            return None
        if self.state.stat().st_size > _MAX_STATE_BYTES:
            return None
        try:
            state = json_files.parse(self.state.read_text(encoding="utf-8"), self.state)
        except (InputError, OSError, ValueError):
            return None
        if not isinstance(state, dict) or not self.identity.items() <= state.items():
            return None
        return state if state["bytes"] <= self.part.stat().st_size else None


def _as_texts(path: Path, row: InputRow) -> list[str]:
    """Return the cells of a row; refuse one that is not a text, such as an image."""
    if any(isinstance(value, bytes) for value in row.values):
        raise InputError(
            f"row {row.name} of the table holds bytes, which {path.name} cannot hold.\n"
            "  Save as .parquet."
        )
    return row.cells
