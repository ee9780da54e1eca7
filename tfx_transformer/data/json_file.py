"""Tables in JSON: an object a line (.jsonl), or an array of objects (.json)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tfx_transformer import json_files
from tfx_transformer.data.json_records import Record, entries, is_array, lines
from tfx_transformer.data.sources import Problem
from tfx_transformer.data.typed_rows import ABSENT, TypedFile, Values, nested_text
from tfx_transformer.errors import InputError

_OBJECT = 'Expected an object, such as {"text": "…", "label": "…"}.'


class _Number(float):
    """A number with a fraction, and its text in the file."""

    text: str

    def __new__(cls, text: str) -> _Number:
        number = super().__new__(cls, text)
        number.text = text
        return number


class JsonFile(TypedFile):
    """A table in JSON: its columns are the keys of its objects, in the order in which they appear.

    A row is named by its line, or by the number of its entry in an array.
    """

    def _read(self) -> tuple[list[str], int | None, Iterable[Values], int | None]:
        keys: dict[str, None] = {}
        count, first = 0, None
        for record in self._records():
            count += 1
            tree, problem = _parse(record)
            if problem is None:
                keys |= dict.fromkeys(tree)
            elif first is None:
                first = record.number, problem
        if not keys and first:
            raise self.error(f"{first[1].reason}.", first[1].remedy, first[0])
        header = list(keys)
        return header, None, self._values(header), count

    def as_text(self, value: Any) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        return value.text if isinstance(value, _Number) else super().as_text(value)

    def _records(self) -> Iterator[Record]:
        if self.file.suffix.lower() == ".json" and is_array(self.file):
            return entries(self.file, self.name)
        return lines(self.file, self.name)

    def _values(self, header: list[str]) -> Iterator[Values]:
        for record in self._records():
            tree, problem = _parse(record)
            if problem is None:
                yield Values(record.number, [tree.get(key, ABSENT) for key in header])
            else:
                empty = [record.text[:1000], *[""] * (len(header) - 1)]
                yield Values(record.number, empty, problem)


def _parse(record: Record) -> tuple[dict[str, Any], Problem | None]:
    """Return the object of a record, or {} and the problem with it."""
    if not record.complete:
        return {}, Problem(None, "the line is too long", "Is a line end missing?")
    try:
        json_files.check(record.text)
        tree = json.loads(
            record.text,
            parse_float=_number,
            parse_constant=_refuse_constant,
            object_pairs_hook=json_files.unique_keys,
        )
    except InputError as error:
        return {}, Problem(None, str(error).partition("\n")[0], _OBJECT)
    except json.JSONDecodeError as error:
        reason = f"it is not JSON: {error.msg}, character {error.pos + 1}"
        return {}, Problem(None, reason, _OBJECT)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "it is nested too deep"
        return {}, Problem(None, reason, _OBJECT)
    if not isinstance(tree, dict):
        return {}, Problem(None, f"it is not an object but {type(tree).__name__}", _OBJECT)
    return tree, None


def _number(text: str) -> _Number:
    number = _Number(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text} is too large")
    return number


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


class JsonWriter:
    """Writes a table as JSON Lines: an object a line, without the keys that a row does not have.

    Args:
        path: the file to write.
        header: names of the columns.
    """

    is_text = False

    def __init__(self, path: Path, header: Sequence[str], columns: Sequence[Any]) -> None:
        if len(set(header)) < len(header):
            raise InputError(
                f"{path.name}: two columns have the same name, which JSON does not keep apart.\n"
                "  Rename one in the input, or save as .csv."
            )
        self._file = path.open("w", encoding="utf-8", newline="")
        self._header = header

    def write(self, values: Sequence[Any]) -> None:
        """Append a row."""
        named = zip(self._header, values, strict=True)
        row = {name: value for name, value in named if value is not ABSENT}
        text = json.dumps(row, ensure_ascii=False, default=nested_text, allow_nan=True)
        if "NaN" in text or "Infinity" in text:  # not in JSON
            row = {name: None if _is_not_finite(value) else value for name, value in row.items()}
            text = json.dumps(row, ensure_ascii=False, default=nested_text)
        self._file.write(text + "\n")

    def close(self) -> None:
        """End the file."""
        self._file.close()


def _is_not_finite(value: Any) -> bool:
    return isinstance(value, float) and not float("-inf") < value < float("inf")
