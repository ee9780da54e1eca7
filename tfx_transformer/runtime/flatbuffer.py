"""Tables of flatbuffers, read without the classes that a schema generates.

Importing those takes as long as loading a small model, and reading with them ten times as long.
https://flatbuffers.dev/internals
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator

_SHORT, _INT = struct.Struct("<H"), struct.Struct("<i")
_UNSIGNED, _LONG = struct.Struct("<I"), struct.Struct("<Q")


def root(data: bytes | mmap.mmap, start: int = 0) -> Table:
    """Return the first table of a flatbuffer.

    Args:
        data: bytes that hold the flatbuffer.
        start: index of its first byte.

    Raises:
        struct.error: an offset leads out of the data; the methods of `Table` raise it too.
    """
    return Table(data, start + _UNSIGNED.unpack_from(data, start)[0])


class Table:
    """A table of a flatbuffer: numbers, and vectors of numbers or of tables, by field number.

    Args:
        data: bytes of the flatbuffer.
        place: index of the table's first byte.
    """

    __slots__ = ("data", "place", "fields")

    def __init__(self, data: bytes | mmap.mmap, place: int) -> None:
        self.data, self.place = data, place
        start = place - _INT.unpack_from(data, place)[0]
        size = max(_SHORT.unpack_from(data, start)[0] // 2 - 2, 0)
        self.fields = struct.unpack_from(f"<{size}H", data, start + 4)

    def at(self, field: int) -> int:
        """Return the index of a field's first byte; 0 if the field has its default."""
        offset = self.fields[field] if field < len(self.fields) else 0
        return self.place + offset if offset else 0

    def byte(self, field: int) -> int:
        """Return the uint8 number of a field."""
        place = self.at(field)
        return self.data[place] if place else 0

    def int(self, field: int) -> int:
        """Return the int32 number of a field."""
        place = self.at(field)
        return _INT.unpack_from(self.data, place)[0] if place else 0

    def long(self, field: int) -> int:
        """Return the uint64 number of a field."""
        place = self.at(field)
        return _LONG.unpack_from(self.data, place)[0] if place else 0

    def text(self, field: int) -> str:
        """Return the text of a field; bytes that are not UTF-8 become U+FFFD."""
        place, count = self.vector(field)
        return self.data[place : place + count].decode(errors="replace")

    def vector(self, field: int) -> tuple[int, int]:
        """Return the index of a vector's first byte, and its number of items."""
        place = self.at(field)
        if not place:
            return 0, 0
        place += _UNSIGNED.unpack_from(self.data, place)[0]
        return place + 4, _UNSIGNED.unpack_from(self.data, place)[0]

    def ints(self, field: int) -> tuple[int, ...]:
        """Return the int32 numbers of a vector."""
        place, count = self.vector(field)
        return struct.unpack_from(f"<{count}i", self.data, place)

    def table(self, field: int) -> Table:
        """Return the table of a field, which must be there."""
        place = self.at(field)
        return Table(self.data, place + _UNSIGNED.unpack_from(self.data, place)[0])

    def tables(self, field: int) -> Iterator[Table]:
        """Yield the tables of a vector."""
        place, count = self.vector(field)
        for here in range(place, place + 4 * count, 4):
            yield Table(self.data, here + _UNSIGNED.unpack_from(self.data, here)[0])
