"""The records in a run's folder: a missing or damaged one reads as empty, never as an error."""

from __future__ import annotations

import contextlib
import csv
import io
from pathlib import Path
from typing import Any

from tfx_transformer import json_files
from tfx_transformer.errors import InputError

# Most bytes of a table or picture that a report reads: browsers could not open a larger page.
_MOST_BYTES = 20_000_000


class Records:
    """The files of a run.

    Args:
        folder: folder of the run.
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
        """Return the object in a JSON file; {} if it is missing or something else."""
        found = self._json(name)
        return found if isinstance(found, dict) else {}

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return the objects in the list of a JSON file; other values are left out."""
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
        """Return the bytes of a PNG file; b"" if it is missing or something else."""
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
