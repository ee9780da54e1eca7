"""Parquet files, and folders as Hugging Face `datasets` saves them: rows of Arrow batches."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tfx_transformer.data.typed_rows import ABSENT, TypedFile, Values, as_text, nested_text
from tfx_transformer.errors import InputError

# Rows that are unpacked together.
_BATCH = 1_000
# Bytes that one group of rows may unpack to.
_LARGEST_GROUP = 4 * 1024**3
_MOST_STATE = 16 * 1024**2


class ArrowFile(TypedFile):
    """Rows of Arrow batches, counted from 0 as in pandas and `datasets`."""

    note = "Rows are counted from 0."

    def schema(self) -> Any:
        """Return the types of the columns, a `pyarrow.Schema`."""
        raise NotImplementedError

    def _batches(self) -> Iterator[Any]:
        raise NotImplementedError

    def _count(self) -> int | None:
        return None

    def _read(self) -> tuple[list[str], int | None, Iterable[Values], int | None]:
        with self._errors():
            return list(self.schema().names), None, self._values(), self._count()

    def _values(self) -> Iterator[Values]:
        number = 0
        with self._errors():
            for batch in self._batches():
                columns = [column.to_pylist() for column in batch.columns]
                for values in zip(*columns, strict=True):
                    yield Values(number, values)
                    number += 1

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        import pyarrow

        try:
            yield
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
            what = f"it cannot be read: {str(error).partition(chr(10))[0][:300]}"
            remedy = "The file is damaged or not of this format: make it anew."
            raise self.error(what, remedy) from error


class ParquetFile(ArrowFile):
    """A Parquet file."""

    def schema(self) -> Any:
        with self._opened(self.file) as opened:
            return opened.schema_arrow

    def _count(self) -> int | None:
        with self._opened(self.file) as opened:
            return opened.metadata.num_rows

    def _batches(self) -> Iterator[Any]:
        return self._batches_of(self.file)

    def _batches_of(self, file: Path) -> Iterator[Any]:
        with self._opened(file) as opened:
            yield from opened.iter_batches(batch_size=_BATCH, use_threads=False)

    @contextlib.contextmanager
    def _opened(self, file: Path) -> Iterator[Any]:
        from pyarrow import parquet

        with parquet.ParquetFile(file) as opened:
            data = opened.metadata
            groups = (data.row_group(i).total_byte_size for i in range(data.num_row_groups))
            if max(groups, default=0) > _LARGEST_GROUP:
                what = f"a group of its rows unpacks to more than {_LARGEST_GROUP:,} bytes."
                raise self.error(what, "Write it with smaller groups of rows (row_group_size).")
            yield opened


class ArrowFolder(ParquetFile):
    """A folder of `datasets`: written by `save_to_disk`, or with Parquet files of one split."""

    def schema(self) -> Any:
        files = self._files()
        if files[0].suffix == ".parquet":
            with self._opened(files[0]) as opened:
                return opened.schema_arrow
        return next(self._readers(files[:1])).schema

    def _count(self) -> int | None:
        return None

    def _batches(self) -> Iterator[Any]:
        files = self._files()
        schema = self.schema()
        for file in files:
            if file.suffix == ".parquet":
                for batch in self._batches_of(file):
                    yield self._checked(batch, schema, file)
                continue
            for reader in self._readers([file]):
                for batch in reader:
                    for start in range(0, len(batch), _BATCH):
                        yield self._checked(batch.slice(start, _BATCH), schema, file)

    def _checked(self, batch: Any, schema: Any, file: Path) -> Any:
        if batch.schema.names != schema.names:
            what = f"{file.name} has other columns than the first file."
            raise self.error(what, "Name one of the files.")
        return batch

    def _readers(self, files: Sequence[Path]) -> Iterator[Any]:
        import pyarrow

        for file in files:
            with pyarrow.memory_map(str(file)) as source:
                try:
                    reader = pyarrow.ipc.open_stream(source)
                except pyarrow.ArrowInvalid:
                    book = pyarrow.ipc.open_file(source)
                    reader = _Batches(book)
                yield reader

    def _files(self) -> list[Path]:
        """Return the files of the folder, in order."""
        folder = self.file
        if (folder / "dataset_dict.json").is_file():
            splits = self._json("dataset_dict.json").get("splits", [])
            names = [name for name in splits if isinstance(name, str) and _is_plain(name)]
            chosen = self._split(names)
            return ArrowFolder(self.path / chosen, folder / chosen)._files()
        if (folder / "state.json").is_file():
            state = self._json("state.json")
            if state.get("_indices_data_files"):
                raise self.error("its rows are chosen by indices.", "Save it anew with datasets.")
            names = [
                entry.get("filename", "") if isinstance(entry, dict) else ""
                for entry in state.get("_data_files") or []
            ]
            if not names or not all(_is_plain(name) for name in names):
                raise self.error("state.json names no files of the folder.", "Save it anew.")
            return [folder / name for name in names]
        files = sorted(folder.rglob("*.parquet"))
        splits = {file.name.partition("-")[0] for file in files}
        if len(files) > 1 and len(splits) > 1:
            self._split(sorted(str(file.relative_to(folder)) for file in files))
        if not files:
            raise self.error("there is no table in this folder.", "Name a file.")
        return files

    def _split(self, names: list[str]) -> str:
        if len(names) == 1:
            return names[0]
        shown = ", ".join(str(self.path / name) for name in names) or "none"
        raise self.error(f"the folder has {len(names)} splits.", f"Name one of them: {shown}.")

    def _json(self, name: str) -> dict[str, Any]:
        file = self.file / name
        if file.stat().st_size > _MOST_STATE:
            raise self.error(f"{name} is too large.", "Save the data set anew.")
        try:
            tree = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise self.error(f"{name} is not JSON.", "Save the data set anew.") from error
        if not isinstance(tree, dict):
            raise self.error(f"{name} is not an object.", "Save the data set anew.")
        return tree


class _Batches:
    """The batches of an Arrow file that is not a stream."""

    def __init__(self, book: Any) -> None:
        self.schema, self._book = book.schema, book

    def __iter__(self) -> Iterator[Any]:
        for index in range(self._book.num_record_batches):
            yield self._book.get_batch(index)


def _is_plain(name: Any) -> bool:
    """Return True for a name of a file in the folder itself."""
    return isinstance(name, str) and bool(name) and Path(name).name == name and name != ".."


def is_folder_of_tables(folder: Path) -> bool:
    """Return True for a folder of `datasets`."""
    marks = ("dataset_dict.json", "state.json")
    if any((folder / mark).is_file() for mark in marks):
        return True
    return any(True for _ in folder.glob("*.parquet")) or any(folder.glob("data/*.parquet"))


class ParquetWriter:
    """Writes a table as Parquet, in groups of rows.

    Args:
        path: the file to write.
        header: names of the columns.
        columns: for each column its `pyarrow.DataType`, or the set of the Python types of its
            values; a column of several types is written as texts, of int and float as float64.
    """

    is_text = False

    def __init__(self, path: Path, header: Sequence[str], columns: Sequence[Any]) -> None:
        import pyarrow
        from pyarrow import parquet

        if len(set(header)) < len(header):
            raise InputError(
                f"{path.name}: two columns have the same name, which Parquet does not keep apart.\n"
                "  Rename one in the input, or save as .csv."
            )
        self._types = [_type_of(column) for column in columns]
        self._schema = pyarrow.schema(list(zip(header, self._types, strict=True)))
        self._writer = parquet.ParquetWriter(path, self._schema)
        self._rows: list[list[Any]] = []

    def write(self, values: Sequence[Any]) -> None:
        """Append a row."""
        self._rows.append(list(values))
        if len(self._rows) >= 10 * _BATCH:
            self._flush()

    def close(self) -> None:
        """Write what is left, and the end of the file."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        import pyarrow

        columns = []
        for index, kind in enumerate(self._types):
            cells = [_arrow_value(row[index], kind) for row in self._rows]
            columns.append(pyarrow.array(cells, kind))
        self._writer.write_batch(pyarrow.record_batch(columns, schema=self._schema))
        self._rows.clear()


def _type_of(column: Any) -> Any:
    import datetime

    import pyarrow

    if isinstance(column, pyarrow.DataType):
        return column
    kinds = set(column)
    if kinds <= {bool} and kinds:
        return pyarrow.bool_()
    if kinds <= {int} and kinds:
        return pyarrow.int64()
    if kinds <= {int, float} and kinds:
        return pyarrow.float64()
    if kinds == {datetime.date}:
        return pyarrow.date32()
    if kinds == {datetime.datetime}:
        return pyarrow.timestamp("us")
    if kinds == {list[float]}:
        return pyarrow.list_(pyarrow.float64())
    if kinds == {bytes}:
        return pyarrow.binary()
    return pyarrow.string()


def _arrow_value(value: Any, kind: Any) -> Any:
    import pyarrow

    if value is None or value is ABSENT:
        return None
    if pyarrow.types.is_string(kind) and not isinstance(value, str):
        return nested_text(value) if isinstance(value, list | dict | tuple) else as_text(value)
    return value
