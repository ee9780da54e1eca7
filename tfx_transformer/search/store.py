"""The files of an index: vectors, rows and facts.

    index.json        facts: the model, the tables, the numbers below
    N.vectors.npy     directions of the rows' vectors: float32, float16 or int8 (rows, dimensions)
    N.hashes.npy      of the rows' texts: uint8 (rows, 16)
    N.rows.jsonl      a JSON list for each row: number of its table, its number there, its text, and
                      the cells that are shown with it
    N.places.npy      int64 (rows + 1,): where each of these lists begins
    N.graph.usearch   of many rows: the graph that finds the nearest

`index.json` names the newest N, and has the checksum of the graph. It is replaced last, so that an
index is always whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfx_transformer import files, json_files
from tfx_transformer.data.formats import is_table_folder
from tfx_transformer.errors import InputError
from tfx_transformer.search.nearest import DTYPES

FORMAT = 1
FACTS = "index.json"
# Names after the number N.
_NUMBERED = ("vectors.npy", "hashes.npy", "rows.jsonl", "places.npy", "graph.usearch")
_UNFINISHED = ("unfinished.json", "unfinished.vectors", "unfinished.hashes")
_HASH = 16
_COMMAND = "tfx-transformer index BUNDLE TABLE --out FOLDER"
_REMEDY = f"Make it again: {_COMMAND}"
_KINDS = {
    "format": int,
    "number": int,
    "rows": int,
    "dimensions": int,
    "dtype": str,
    "bundle": str,
    "column": str,
    "shown": list,
    "model": dict,
    "tables": list,
    "graph": str,
}


class Newer(InputError):
    """The error of an index that a newer version has made."""


class Entry(NamedTuple):
    """A row of an index.

    table: number of its table; row: its number or name there; text: that is searched; cells: of the
    columns that are shown with it.
    """

    table: int
    row: Any
    text: str
    cells: list[str]


class Store:
    """An index on disk, through memory maps.

    Args:
        folder: the folder of the index.

    Attributes:
        facts: the values of `index.json`.
        vectors: (rows, dimensions), see `nearest.pack`.
        hashes: uint8 (rows, 16), see `hash_of`.

    Raises:
        InputError: the folder is not an index, or the index is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.facts = folder, read_facts(folder)
        while True:
            try:
                self._open()
                return
            except FileNotFoundError as error:
                before, self.facts = self.facts, read_facts(folder)
                if self.facts == before:  # else another command has replaced the index meanwhile
                    message = f"{error.filename} is missing.\n  {_REMEDY}"
                    raise InputError(message) from error

    def _open(self) -> None:
        rows, width = self.facts["rows"], self.facts["dimensions"]
        self.vectors = self._array("vectors", (rows, width), self.facts["dtype"])
        self.hashes = self._array("hashes", (rows, _HASH), "uint8")
        self._places = self._array("places", (rows + 1,), "int64")
        self._rows = open(self.path("rows.jsonl"), "rb")  # noqa: SIM115, open as long as the index
        self._size = os.fstat(self._rows.fileno()).st_size

    def __len__(self) -> int:
        return self.facts["rows"]

    def path(self, name: str) -> Path:
        """Return the path of a file of the newest number."""
        return self.folder / f"{self.facts['number']}.{name}"

    def _array(self, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        file = self.path(f"{name}.npy")
        try:
            array = np.lib.format.open_memmap(file, mode="r")
        except FileNotFoundError:
            raise
        except Exception as error:  # a damaged header can make NumPy's parser fail in any way
            raise InputError(f"{file} cannot be read: {error}.\n  {_REMEDY}") from error
        if array.shape != shape or array.dtype != dtype:
            raise InputError(
                f"{file} has {array.dtype} {array.shape}; expected {dtype} {shape}.\n  {_REMEDY}"
            )
        return array

    def entry(self, number: int) -> Entry:
        """Return a row of the index; `number` counts from 0.

        Raises:
            InputError: the files of the rows are damaged.
        """
        begin, end = map(int, self._places[number : number + 2])
        if not 0 <= begin <= end <= min(self._size, begin + json_files.MAX_MEMORY):
            raise InputError(f"{self.path('places.npy')} is damaged.\n  {_REMEDY}")
        self._rows.seek(begin)
        return self._parse(self._rows.read(end - begin))

    def entries(self) -> Iterator[Entry]:
        """Yield all rows in order."""
        with self.path("rows.jsonl").open("rb") as file:
            for line in file:
                yield self._parse(line)

    def _parse(self, line: bytes) -> Entry:
        try:
            values = Entry(*json_files.parse(line.decode("utf-8")))
            cells = values.cells
            if not (type(values.table) is int and isinstance(values.text, str)):
                raise ValueError
            if not (isinstance(cells, list) and all(isinstance(cell, str) for cell in cells)):
                raise ValueError
            if len(cells) != len(self.facts["shown"]) or not 0 <= values.table < len(self.tables):
                raise ValueError
        except (ValueError, TypeError, RecursionError) as error:
            file = self.path("rows.jsonl")
            raise InputError(f"{file} is damaged.\n  {_REMEDY}") from error
        return values

    @property
    def tables(self) -> list[dict[str, Any]]:
        """Return the tables: "path", from the folder of the index; "part", the sheet of a workbook
        or the table of a database, if it is given; "signature", see `signature`."""
        return self.facts["tables"]

    def close(self) -> None:
        """Close the files, which Windows does not remove while they are open."""
        self._rows.close()
        for name in ("vectors", "hashes", "_places"):
            setattr(self, name, np.empty(0))


def read_facts(folder: Path) -> dict[str, Any]:
    """Return the values of `index.json`.

    Raises:
        InputError: it is missing, damaged or of a newer format.
    """
    file = folder / FACTS
    if not file.is_file():
        raise InputError(f"{folder} is not an index: it has no {FACTS}.\n  Make one: {_COMMAND}")
    facts = json_files.read_object(file)
    if isinstance(facts.get("format"), int) and facts["format"] > FORMAT:
        raise Newer(f"{file} is of a newer version.\n  Update tfx-transformer.")
    wrong = [name for name, kind in _KINDS.items() if type(facts.get(name)) is not kind]
    wrong += [name for name in ("rows", "dimensions") if not wrong and facts[name] < 1]
    if not wrong:
        right = {
            "dtype": facts["dtype"] in DTYPES,
            "model": isinstance(facts["model"].get("variant"), str),
            "shown": all(isinstance(name, str) for name in facts["shown"]),
            "tables": all(map(_is_table, facts["tables"])),
        }
        wrong = [name for name, is_right in right.items() if not is_right]
    if wrong:
        raise InputError(f"{file} is damaged: the value of {wrong[0]!r} is wrong.\n  {_REMEDY}")
    return facts


def _is_table(value: Any) -> bool:
    if not (isinstance(value, dict) and isinstance(value.get("part", ""), str)):
        return False
    return isinstance(value.get("path"), str)


def hash_of(text: str) -> bytes:
    """Return 16 bytes that differ for different texts."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_HASH).digest()


def signature(path: Path) -> list[int] | None:
    """Return the size in bytes and the time in nanoseconds of a table; for a folder their sum and
    the newest; None if there is no such table."""
    try:
        found = [path]
        if path.is_dir():  # an index may name any folder: others than tables can be very large
            found = [p for p in path.rglob("*") if p.is_file()] if is_table_folder(path) else []
        status = [file.stat() for file in found]
    except (OSError, ValueError):  # a ValueError if the path has a NUL
        return None
    if not status:
        return None
    return [sum(s.st_size for s in status), max(s.st_mtime_ns for s in status)]


class RowWriter:
    """The writer of the rows of an index.

    Args:
        file: to write, UTF-8.

    Attributes:
        hashes: of the texts, in order.
        places: where each row begins, and the end.
    """

    def __init__(self, file: Path) -> None:
        self._file = file.open("wb")
        self.hashes: list[bytes] = []
        self.places = [0]

    def write(self, entry: Entry) -> bytes:
        """Append a row, and return the hash of its text."""
        line = json.dumps(entry, ensure_ascii=False, default=str).encode("utf-8", "replace") + b"\n"
        self._file.write(line)
        self.places.append(self.places[-1] + len(line))
        self.hashes.append(hash_of(entry.text))
        return self.hashes[-1]

    def close(self) -> None:
        """Flush the rows to disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


class Unfinished:
    """Vectors that a command has computed and that are not in an index yet; a command that was
    interrupted goes on with them.

    Args:
        folder: of the index.
        identity: everything that decides the vectors, JSON values; vectors of another identity are
            discarded.
        dtype, width: of the vectors.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], dtype: str, width: int) -> None:
        self._facts, *self._paths = (folder / name for name in _UNFINISHED)
        self._dtype, self._width = np.dtype(dtype), width
        self._sizes = [self._dtype.itemsize * width, _HASH]
        known = None
        with contextlib.suppress(InputError):
            known = json_files.read_object(self._facts)
        if known != identity:
            self.remove()
            files.write(self._facts, json.dumps(identity))
        self._files = [path.open("a+b") for path in self._paths]
        whole = min(
            path.stat().st_size // size for path, size in zip(self._paths, self._sizes, strict=True)
        )
        for file, size in zip(self._files, self._sizes, strict=True):
            file.truncate(whole * size)
        self._count = whole

    def __len__(self) -> int:
        return self._count

    def hashes(self) -> list[bytes]:
        """Return the hash of each vector's text."""
        data = self._paths[1].read_bytes()
        return [data[i : i + _HASH] for i in range(0, len(data), _HASH)]

    def vectors(self) -> np.ndarray:
        """Return the vectors (n, width), a memory map."""
        if not self._count:
            return np.empty((0, self._width), self._dtype)
        return np.memmap(self._paths[0], self._dtype, "r", shape=(self._count, self._width))

    def append(self, vectors: np.ndarray, hashes: Sequence[bytes]) -> None:
        """Append vectors. A vector counts when its hash is there, which is written last."""
        for file, content in zip(self._files, (vectors.tobytes(), b"".join(hashes)), strict=True):
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self._count += len(hashes)

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    def remove(self) -> None:
        """Remove the files."""
        for path in (self._facts, *self._paths):
            path.unlink(missing_ok=True)


def write_array(file: Path, parts: Iterable[np.ndarray], shape: tuple[int, ...], dtype) -> None:
    """Write an array in parts, without holding it, and flush it to disk."""
    with file.open("wb") as opened:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False}
        np.lib.format.write_array_header_1_0(opened, header | {"shape": shape})
        for part in parts:
            opened.write(np.ascontiguousarray(part, dtype).tobytes())
        opened.flush()
        os.fsync(opened.fileno())


def numbers(folder: Path) -> set[int]:
    """Return the numbers of the files in the folder of an index; a table of the user may be there
    too, such as 2026.csv."""
    found = (file.name.partition(".") for file in folder.iterdir() if _has_number(file.name))
    return {int(number) for number, _, _ in found}


def _has_number(name: str) -> bool:
    number, _, rest = name.partition(".")
    return number.isdecimal() and rest in _NUMBERED


def may_be_left(name: str) -> bool:
    """Return True for the name of a file that an interrupted command may leave in a new folder, and
    for hidden files."""
    return name.startswith(".") or name in _UNFINISHED or _has_number(name)


def remove_old(folder: Path, number: int) -> None:
    """Remove the files of all numbers but one; a file that is in use on Windows stays for later."""
    for old in numbers(folder) - {number}:
        for name in _NUMBERED:
            with contextlib.suppress(OSError):
                (folder / f"{old}.{name}").unlink()
