"""The records in a run's folder, read back: what is missing or damaged is empty, never an error."""

from __future__ import annotations

import contextlib
import csv
import io
from pathlib import Path
from typing import Any

from tfx_transformer import json_files
from tfx_transformer.errors import InputError

# Bytes of a table or picture that a report reads: more would make a page that no browser opens.
_MOST_BYTES = 20_000_000


class Records:
    """The files that a run has left.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = self.values("run.json")
        self.settings = self.values("settings.json")
        self.result = self.values("result.json")
        self.evaluation = self.values("evaluation.json")

    @property
    def name(self) -> str:
        """The run's name."""
        return self.folder.resolve().name

    def values(self, name: str) -> dict[str, Any]:
        """Return an object of a JSON file; empty: it is not there, or holds something else."""
        found = self._json(name)
        return found if isinstance(found, dict) else {}

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return a list of objects of a JSON file; what else is in the list is left out."""
        found = self._json(name)
        return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []

    def table(self, name: str) -> list[dict[str, str]]:
        """Return the rows of a CSV file."""
        text = self._read(name).decode("utf-8", "replace")
        rows: list[dict[str, str]] = []
        with contextlib.suppress(csv.Error):  # the rows before it are shown
            for row in csv.DictReader(io.StringIO(text, newline=""), restval=""):
                rows.append({name: value for name, value in row.items() if name is not None})
        return rows

    def picture(self, name: str) -> bytes:
        """Return a PNG file; empty: it is not there, or holds something else."""
        content = self._read(name)
        return content if content.startswith(b"\x89PNG\r\n\x1a\n") else b""

    def _json(self, name: str) -> Any:
        content = self._read(name)
        try:
            return json_files.parse(content.decode("utf-8"), self.folder / name)
        except (InputError, ValueError, RecursionError):
            return None

    def _read(self, name: str) -> bytes:
        path = self.folder / name
        with contextlib.suppress(OSError, ValueError):
            if path.is_file() and path.stat().st_size <= _MOST_BYTES:
                return path.read_bytes()
        return b""


def number(value: Any) -> float | None:
    """Return a value of a record as a number, or None if it is not a finite one."""
    if isinstance(value, bool):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if abs(found) < float("inf") else None
