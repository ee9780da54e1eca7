"""The formats of tables: one row for each, by which a file is read and, where possible, written.

A new format is a file with a reader (see `typed_rows.TypedFile`), perhaps a writer, and a row here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tfx_transformer import files
from tfx_transformer.arguments import flag_for
from tfx_transformer.data import unpacking
from tfx_transformer.data.csv_file import CsvFile, CsvWriter, open_error
from tfx_transformer.data.sources import row_error
from tfx_transformer.errors import InputError

OPTIONS = ("encoding", "delimiter", "sheet", "table")


@dataclasses.dataclass(frozen=True)
class TableFile(os.PathLike):
    """A table's file, and the options to read it with; an empty option is detected.

    Args:
        path: the file.
        encoding: of a text table, by its Python name.
        delimiter: between the cells of a text table.
        sheet: name of a workbook's sheet.
        table: name of a database's table.
    """

    path: str | os.PathLike[str]
    encoding: str = ""
    delimiter: str = ""
    sheet: str = ""
    table: str = ""

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return os.fspath(self.path)

    def options(self) -> dict[str, str]:
        """Return the options that are given."""
        return {name: value for name in OPTIONS if (value := getattr(self, name))}


@dataclasses.dataclass(frozen=True)
class TableFiles(os.PathLike):
    """Several tables whose rows are read one after the other, as one path with commas.

    Args:
        paths: of the tables, or folders of images.
    """

    paths: tuple[str | os.PathLike[str], ...]

    def __fspath__(self) -> str:
        return ",".join(os.fspath(path) for path in self.paths)

    def __str__(self) -> str:
        return os.fspath(self)


class Writer(Protocol):
    """A writer of a table, row by row; is_text: True if it takes texts, not values."""

    is_text: bool

    def write(self, values: Sequence[Any]) -> None:
        """Append a row."""

    def close(self) -> None:
        """Write what is left, and the end of the file."""


class Format(NamedTuple):
    """The reader and, where there is one, the writer of a format.

    noun: name of the format; endings: of file names; open: (path, file, wanted columns, options) ->
    a `sources.Source`; options: those of `OPTIONS` that apply; signatures: first bytes of files,
    whatever their names; write: (path, header, types of the columns) -> `Writer`.
    """

    noun: str
    endings: tuple[str, ...]
    open: Callable[[Path, Path, Collection[str], dict[str, str]], Any]
    options: tuple[str, ...] = ()
    signatures: tuple[bytes, ...] = ()
    write: Callable[[Path, Sequence[str], Sequence[Any]], Writer] | None = None


def _open_csv(path: Path, file: Path, wanted: Collection[str], options: dict[str, str]) -> CsvFile:
    return CsvFile(path, file, wanted=wanted, **options)


def _open_tsv(path: Path, file: Path, wanted: Collection[str], options: dict[str, str]) -> CsvFile:
    return CsvFile(path, file, wanted=wanted, **({"delimiter": "tab"} | options))


def _open_json(path: Path, file: Path, wanted: Collection[str], options: dict[str, str]) -> Any:
    from tfx_transformer.data.json_file import JsonFile

    return JsonFile(path, file, wanted)


def _open_xlsx(path: Path, file: Path, wanted: Collection[str], options: dict[str, str]) -> Any:
    from tfx_transformer.data.xlsx_file import XlsxFile

    return XlsxFile(path, file, wanted, options.get("sheet", ""))


def _open_parquet(path: Path, file: Path, wanted: Collection[str], options: dict[str, str]) -> Any:
    from tfx_transformer.data.arrow_file import ParquetFile

    return ParquetFile(path, file, wanted)


def _open_folder(path: Path, file: Path, wanted: Collection[str], options: dict[str, str]) -> Any:
    from tfx_transformer.data.arrow_file import ArrowFolder

    return ArrowFolder(path, file, wanted)


def _open_sqlite(path: Path, file: Path, wanted: Collection[str], options: dict[str, str]) -> Any:
    from tfx_transformer.data.sqlite_file import SqliteFile

    return SqliteFile(path, file, wanted, options.get("table", ""))


def _write_json(path: Path, header: Sequence[str], columns: Sequence[Any]) -> Writer:
    from tfx_transformer.data.json_file import JsonWriter

    return JsonWriter(path, header, columns)


def _write_xlsx(path: Path, header: Sequence[str], columns: Sequence[Any]) -> Writer:
    from tfx_transformer.data.xlsx_file import XlsxWriter

    return XlsxWriter(path, header, columns)


def _write_parquet(path: Path, header: Sequence[str], columns: Sequence[Any]) -> Writer:
    from tfx_transformer.data.arrow_file import ParquetWriter

    return ParquetWriter(path, header, columns)


def _write_csv(path: Path, header: Sequence[str], columns: Sequence[Any]) -> Writer:
    return CsvWriter(path, header, ",")


def _write_tsv(path: Path, header: Sequence[str], columns: Sequence[Any]) -> Writer:
    return CsvWriter(path, header, "\t")


_TEXT = ("encoding", "delimiter")
CSV = Format("CSV", (".csv",), _open_csv, _TEXT, write=_write_csv)
FORMATS = [
    CSV,
    Format("TSV", (".tsv", ".tab"), _open_tsv, _TEXT, write=_write_tsv),
    Format("JSON Lines", (".jsonl", ".ndjson", ".json"), _open_json, write=_write_json),
    Format("an Excel workbook", (".xlsx", ".xlsm"), _open_xlsx, ("sheet",), write=_write_xlsx),
    Format(
        "Parquet", (".parquet", ".pq"), _open_parquet, signatures=(b"PAR1",), write=_write_parquet
    ),
    Format(
        "a SQLite database",
        (".sqlite", ".sqlite3", ".db"),
        _open_sqlite,
        ("table",),
        signatures=(b"SQLite format 3\0",),
    ),
]
_FOLDER = Format("a folder of datasets", (), _open_folder)


def endings() -> tuple[str, ...]:
    """Return the endings of names of tables."""
    return tuple(ending for row in FORMATS for ending in row.endings)


def is_table_name(path: str | os.PathLike[str]) -> bool:
    """Return True if a name has the ending of a table, compressed or not."""
    return _inner(Path(path)).suffix.lower() in endings()


def is_table_folder(path: str | os.PathLike[str]) -> bool:
    """Return True for a folder that `datasets` saved."""
    if not os.path.isdir(path):
        return False
    from tfx_transformer.data.arrow_file import is_folder_of_tables

    return is_folder_of_tables(Path(path))


def format_of(path: str | os.PathLike[str]) -> Format:
    """Return the format of a file, by its first bytes, else by the ending of its name, else CSV."""
    path = Path(path)
    if is_table_folder(path):
        return _FOLDER
    by_name = _by_ending(_inner(path)) or CSV
    if not os.path.isfile(path):  # reading reports what it is; opening a pipe would block
        return by_name
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError:
        return by_name
    marked = (row for row in FORMATS if any(start.startswith(mark) for mark in row.signatures))
    return next(marked, by_name)


def open_table(path: str | os.PathLike[str], wanted: Collection[str] = ()) -> Any:
    """Return a table as a `sources.Source`, and print how it is read if that is not the usual way.

    Args:
        path: of a file, or a `TableFile`.
        wanted: names of the columns that will be read.

    Raises:
        InputError: there is no such file, it cannot be unpacked, or an option is not for its
            format.
    """
    options = path.options() if isinstance(path, TableFile) else {}
    path = Path(path)
    try:
        file = unpacking.unpacked(path) if unpacking.is_packed(path) else path
    except FileNotFoundError as error:
        raise open_error(path, error) from error
    row = format_of(file)
    if row is not CSV and not isinstance(row, str) and not os.path.exists(file):
        raise open_error(path, FileNotFoundError())
    if unknown := sorted(options.keys() - set(row.options)):
        known = ", ".join(filter(None, map(flag_for, row.options))) or "none"
        what = f"{flag_for(unknown[0])} does not apply to {row.noun}."
        raise row_error(str(path), what, f"Options for it: {known}.")
    source = row.open(path, file, wanted, options)
    if source.description:
        _say(f"{source.name}: {source.description}")
    return source


def table_files(
    *paths: str | os.PathLike[str] | None, **options: str
) -> tuple[str | os.PathLike[str] | None, ...]:
    """Return tables with options for reading them: each with those that its format knows.

    Args:
        paths: of files, or of several with commas between, which become `TableFiles`; None, tables
            in memory and folders of images stay as they are.
        options: those of `TableFile`.

    Raises:
        InputError: an option is not for any of the files, or a name between commas is empty.
    """
    given = {name: value for name, value in options.items() if value}
    found, used = [], set()
    for path in paths:
        several = _several(path)
        parts = [_with_options(part, given) for part in several or [path]]
        used |= {name for part in parts if isinstance(part, TableFile) for name in part.options()}
        found.append(TableFiles(tuple(parts)) if several else parts[0])
    if unused := sorted(given.keys() - used):
        named = " nor of ".join(str(path) for path in paths if path)
        raise InputError(
            f"{flag_for(unused[0])} {given[unused[0]]}: not an option of {named}.\n  Drop it.\n"
            f"  {flag_for('encoding')} and --delimiter are for CSV and TSV, --sheet for .xlsx,\n"
            "  --table for SQLite."
        )
    return tuple(found)


def _with_options(path: Any, given: dict[str, str]) -> Any:
    """Return a table with the given options that its format knows."""
    if not given or not isinstance(path, str | os.PathLike) or not os.fspath(path):
        return path
    inner = _inner(Path(path))
    row = _FOLDER if os.path.isdir(path) else format_of(path if inner == Path(path) else inner)
    return TableFile(path, **{name: v for name, v in given.items() if name in row.options})


def _several(path: Any) -> list[str]:
    """Return the paths in a text with commas between them; [] for a single path, such as a file
    whose name has a comma."""
    if not isinstance(path, str | os.PathLike) or isinstance(path, TableFile | TableFiles):
        return []
    text = os.fspath(path)
    if "," not in text or os.path.exists(text):
        return []
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise InputError(f"{text}: there is an empty name between commas.\n  Expected a.csv,b.csv.")
    return parts


def check_writable(path: Path) -> None:
    """Raise if no table can be written under a name.

    Raises:
        InputError: its ending is not that of a format that can be written.
    """
    row = _by_ending(_inner(path))
    if row is None or row.write is None or path.suffix.lower() == ".zip":
        known = ", ".join(row.endings[0] for row in FORMATS if row.write)
        packed = ", ".join(unpacking.OPENERS)
        raise InputError(
            f"--save {path}: a table is not written in this format.\n"
            f"  Let its name end in {known}, followed by {packed} for a compressed file."
        )


@contextlib.contextmanager
def writing(path: Path, header: Sequence[str], columns: Sequence[Any]) -> Iterator[Writer]:
    """Write a table in the format of its ending; the file is complete or not there.

    Args:
        path: the file to write.
        header: names of the columns.
        columns: for each column its Arrow type, or the set of the Python types of its values.
    """
    row = _by_ending(_inner(path))
    if row is None or row.write is None:
        raise ValueError(f"no format writes {path}")
    with files.replacing(path) as unfinished:
        is_packed = unpacking.is_packed_name(path)
        plain = unfinished.with_name(unfinished.name + ".plain") if is_packed else unfinished
        try:
            writer = row.write(plain, header, columns)
            try:
                yield writer
            finally:
                writer.close()
            if is_packed:
                unpacking.pack(plain, unfinished, path.suffix.lower())
        finally:
            if is_packed:
                plain.unlink(missing_ok=True)


def _by_ending(path: Path) -> Format | None:
    ending = path.suffix.lower()
    return next((row for row in FORMATS if ending in row.endings), None)


def _inner(path: Path) -> Path:
    """Return the name of a compressed file without the ending of the compression."""
    is_packed = unpacking.is_packed_name(path) and path.suffix.lower() != ".zip"
    return path.with_suffix("") if is_packed else path


@functools.lru_cache(maxsize=256)
def _say(text: str) -> None:
    """Print a line to stderr, once."""
    print(text, file=sys.stderr, flush=True)
