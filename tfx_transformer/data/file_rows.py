"""Rows that stay in their file: memory holds only their places, and a row is read on demand.

Such a sequence is used like a list. `mapped`, `zipped`, `taken`, `sizes`, `hashes` and `sample`
work on both, without reading the whole file.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar, overload

import numpy as np

from tfx_transformer.errors import InputError
from tfx_transformer.reprs import quantity

T = TypeVar("T")
U = TypeVar("U")

# The texts of larger files stay in them. As lists of ids they would need about ten times as much.
MOST_IN_MEMORY = 64 * 1024**2

# Characters that `sample` reads of a file: enough to learn a tokenizer from.
_SAMPLE = 10_000_000


class RowFile:
    """A file and the places of its rows.

    Args:
        path: the file; it must not change from now on.
        bounds: int64 (rows, 2), the first byte of each row and the first after it.
        status: of the file, taken before its rows were found.
    """

    def __init__(self, path: Path, bounds: np.ndarray, status: os.stat_result) -> None:
        self.path, self.bounds = path, bounds
        self._stamp = _stamp(status)
        self._open: BinaryIO | None = None
        # Batches for training and for validation are made in threads of their own.
        self._lock = threading.Lock()

    def data(self, index: int) -> bytes:
        """The bytes of a row.

        Raises:
            InputError: the file is gone, or has changed since it was first read.
        """
        try:
            begin, end = self.bounds[index].tolist()
            with self._lock:
                self._open = self._open or self.path.open("rb")
                unchanged = _stamp(os.fstat(self._open.fileno())) == self._stamp
                self._open.seek(begin)
                data = self._open.read(end - begin)
        except OSError as error:
            raise InputError(
                f"{self.path}: the file cannot be read any more: {error.strerror}.\n"
                "  It is needed until the training ends. Start again when it is there."
            ) from error
        if not unchanged:
            raise InputError(
                f"{self.path}: the file was changed while it was in use.\n"
                "  Start again, and leave it as it is until the training ends."
            )
        return data


class FileRows(Sequence[T], Generic[T]):
    """The contents of a file's rows: a sequence whose items are read anew each time.

    Args:
        file: the file, with the places of its rows.
        read: (bytes of a row) -> its content.
        hashes: int64 (rows in the file,), of each content.
        lengths: int32 (rows in the file,), characters of each content.
        indices: int64 (rows,), the rows of the sequence, in order; None: all.
    """

    def __init__(
        self,
        file: RowFile,
        read: Callable[[bytes], T],
        hashes: np.ndarray,
        lengths: np.ndarray,
        indices: np.ndarray | None = None,
    ) -> None:
        self._file, self._read = file, read
        self._hashes, self._lengths, self._indices = hashes, lengths, indices

    def __repr__(self) -> str:
        return f"FileRows: {quantity(len(self), 'row')} that stay in {self._file.path}"

    def __len__(self) -> int:
        return len(self._hashes if self._indices is None else self._indices)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        row = range(len(self))[index] if self._indices is None else self._indices[index]
        return self._read(self._file.data(row))

    @property
    def hashes(self) -> np.ndarray:
        """int64 (rows,): equal for rows of equal content."""
        return self._hashes if self._indices is None else self._hashes[self._indices]

    @property
    def lengths(self) -> np.ndarray:
        """int32 (rows,): characters of each content."""
        return self._lengths if self._indices is None else self._lengths[self._indices]

    def map(self, function: Callable[[T], U]) -> FileRows[U]:
        """The same rows with a function applied to each when it is read."""

        def read(data: bytes) -> U:
            return function(self._read(data))

        return FileRows(self._file, read, self._hashes, self._lengths, self._indices)

    def take(self, indices: Sequence[int]) -> FileRows[T]:
        """The rows at these indices, in this order."""
        own = np.asarray(indices, "int64")
        own = own if self._indices is None else self._indices[own]
        return FileRows(self._file, self._read, self._hashes, self._lengths, own)

    def zip(self, others: Sequence[FileRows]) -> FileRows[tuple]:
        """Tuples of the contents of these and other columns of the same rows."""
        columns = [self, *others]
        hashes, lengths = self._hashes, self._lengths
        for other in others:
            hashes = hashes * 1_000_003 ^ other._hashes
            lengths = lengths + other._lengths

        def read(data: bytes) -> tuple:
            return tuple(column._read(data) for column in columns)

        return FileRows(self._file, read, hashes, lengths, self._indices)


Rows = list[T] | FileRows[T]


def mapped(function: Callable[[T], U], rows: Rows[T]) -> Rows[U]:
    """Apply a function: to a list at once, to a file's rows when they are read."""
    return rows.map(function) if isinstance(rows, FileRows) else list(map(function, rows))


def zipped(columns: Sequence[Rows]) -> Rows[tuple]:
    """Return columns of the same rows as one column of tuples."""
    first, *others = columns
    return first.zip(others) if isinstance(first, FileRows) else list(zip(*columns, strict=True))


def taken(rows: Any, indices: Iterable[int]) -> Any:
    """The rows, or items of a list or an array, at these indices, as the same kind of sequence."""
    if isinstance(rows, FileRows):
        return rows.take(indices)
    return rows[list(indices)] if isinstance(rows, np.ndarray) else [rows[i] for i in indices]


def sizes(rows: Rows) -> np.ndarray:
    """int (rows,): length of each item of a list; for a file's rows, characters of each content."""
    return rows.lengths if isinstance(rows, FileRows) else np.array([len(row) for row in rows])


def hashes(rows: Rows) -> np.ndarray:
    """int64 (rows,): equal for equal rows; different for others, except one pair in 2^64."""
    if isinstance(rows, FileRows):
        return rows.hashes
    return np.fromiter(map(hash, rows), "int64", len(rows))


def sample(rows: Rows[T]) -> list[T]:
    """All of a list; of a file's rows about ten million characters, from evenly spaced rows."""
    if not isinstance(rows, FileRows):
        return rows
    step = -(-int(rows.lengths.sum()) // _SAMPLE)
    return rows[:: max(step, 1)]


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns
