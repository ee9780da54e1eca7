"""Sets of hashes on disk: their memory does not grow with their size."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from tfx_transformer.errors import InputError

# Memory for parts of the file, in KiB.
_CACHE = 4_096
# SQLite's integers are signed.
_HALF, _WHOLE = 1 << 63, 1 << 64


class KeySet:
    """A set of numbers of 64 bits in a temporary file, some 14 bytes for each.

    Args:
        path: its file, which is replaced; `close` removes it.

    Raises:
        InputError: also from methods: the file cannot be written, such as on a full disk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.unlink(missing_ok=True)
        with self._explaining():
            self._database = sqlite3.connect(path, isolation_level=None)
            # Nothing is restored after a crash, so nothing is written twice or waited for.
            for pragma in ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE"):
                self._database.execute(f"PRAGMA {pragma}")
            self._database.execute(f"PRAGMA cache_size = -{_CACHE}")
            self._database.execute("CREATE TABLE keys (key INTEGER PRIMARY KEY)")
            self._database.execute("BEGIN")  # never ends: what the cache cannot hold is written

    def __contains__(self, key: int) -> bool:
        with self._explaining():
            found = self._database.execute("SELECT 1 FROM keys WHERE key = ?", (_signed(key),))
            return found.fetchone() is not None

    def isdisjoint(self, keys: Iterable[int]) -> bool:
        """Return True if none of the keys is in the set."""
        return not any(key in self for key in keys)

    def update(self, keys: Iterable[int]) -> None:
        """Add keys."""
        rows = ((_signed(key),) for key in keys)
        with self._explaining():
            self._database.executemany("INSERT OR IGNORE INTO keys VALUES (?)", rows)

    def clear(self) -> None:
        """Remove all keys."""
        with self._explaining():
            self._database.execute("DELETE FROM keys")

    def close(self) -> None:
        """Remove the file."""
        self._database.close()
        self._path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise InputError(
                f"{self._path} cannot be written: {error}.\n"
                "  Make room and repeat the command: it goes on. Or choose another folder."
            ) from error


def _signed(key: int) -> int:
    return key - _WHOLE if key >= _HALF else key
