"""The objects of a JSON Lines file or a JSON array, one by one, with their places."""

from __future__ import annotations

import codecs
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tfx_transformer.data import encodings
from tfx_transformer.data.sources import row_error
from tfx_transformer.errors import InputError

# A longer line is more likely a file without line ends than one object.
LONGEST_LINE = 10_000_000
# A JSON array is read whole.
_LARGEST_ARRAY = 500_000_000
_BLANKS = " \t\r\n"


class Record(NamedTuple):
    """One object of a file: its number, its place, its JSON, and whether that is complete; `tree`:
    the object, if it is in memory."""

    number: Any
    place: str
    text: str
    complete: bool = True
    tree: dict[str, Any] | None = None


def is_array(path: Path) -> bool:
    """Return True if a JSON file begins as an array; others are read as JSON Lines."""
    try:
        with path.open("rb") as file:
            start = file.read(1_000).removeprefix(codecs.BOM_UTF8)
    except OSError:  # reading the file raises it again
        return False
    return start.lstrip(_BLANKS.encode())[:1] == b"["


def entries(path: Path, name: str = "") -> Iterator[Record]:
    """Yield the entries of a JSON array; `name`: of the file in messages, "" for its path."""
    shown = Path(name or path)
    if path.stat().st_size > _LARGEST_ARRAY:
        raise InputError(
            f"{shown}: a JSON array of more than {_LARGEST_ARRAY:,} bytes.\n"
            "  Write it as JSON Lines (.jsonl), an object a line."
        )
    lines = path.read_bytes().splitlines(keepends=True)
    offsets = itertools.accumulate(map(len, lines), initial=0)
    parts = zip(itertools.count(1), offsets, lines)
    text = "".join(_decode_line(shown, path, *part, True) for part in parts)
    decoder, place = json.JSONDecoder(), text.index("[") + 1
    counted, line = place, 1
    for number in itertools.count(1):
        place = _skip_blanks(text, place)
        line += text.count("\n", counted, place)
        counted = place
        if number == 1 and text[place : place + 1] == "]":
            end = place
        else:
            try:
                end = decoder.raw_decode(text, place)[1]
            except json.JSONDecodeError as error:
                raise _array_error(shown, text, error.pos, error.msg) from error
            except (ValueError, RecursionError) as error:
                what = "a number is too long, or the nesting too deep"
                raise _array_error(shown, text, place, what) from error
            yield Record(number, f"entry {number} (line {line})", text[place:end])
            end = _skip_blanks(text, end)
        if text[end : end + 1] == "]":
            break
        if text[end : end + 1] != ",":
            raise _array_error(shown, text, end, "Expecting ',' or ']'")
        place = end + 1
    if _skip_blanks(text, end + 1) < len(text):
        raise _array_error(shown, text, _skip_blanks(text, end + 1), "Extra data after the array")


def _skip_blanks(text: str, place: int) -> int:
    """Return the index of the next character that is not blank."""
    while place < len(text) and text[place] in _BLANKS:
        place += 1
    return place


def _array_error(path: Path, text: str, place: int, what: str) -> InputError:
    line = text.count("\n", 0, place) + 1
    column = place - (text.rfind("\n", 0, place) + 1) + 1
    return InputError(
        f"{path}, line {line}, character {column}: not JSON: {what}.\n"
        "  Expected an array of objects, [{…}, {…}]. Fix it there; name a file with an object a\n"
        "  line .jsonl."
    )


def lines(path: Path, name: str = "") -> Iterator[Record]:
    """Yield the lines that are not blank; `name`: of the file in messages, "" for its path."""
    shown = Path(name or path)
    offset = 0
    try:
        with path.open("rb") as file:
            for number in itertools.count(1):
                line = rest = file.readline(LONGEST_LINE + 1)
                if not line:
                    return
                size, complete = len(line), len(line) <= LONGEST_LINE
                while not complete and rest and not rest.endswith(b"\n"):
                    rest = file.readline(LONGEST_LINE)
                    size += len(rest)
                text = _decode_line(shown, path, number, offset, line, complete)
                if text.strip(_BLANKS):
                    yield Record(number, f"line {number}", text.rstrip("\r\n"), complete)
                offset += size
    except OSError as error:
        raise InputError(
            f"{shown}: the file cannot be read: {error.strerror}.\n  Check the path."
        ) from error


def _decode_line(
    shown: Path, path: Path, number: int, offset: int, line: bytes, complete: bool
) -> str:
    """Return the text of a line at byte `offset`; an incomplete one may end inside a character."""
    codec = "utf-8-sig" if number == 1 else "utf-8"
    try:
        return line.decode(codec, errors="strict" if complete else "replace")
    except UnicodeDecodeError as error:
        byte = offset + len(line) - len(error.object) + error.start  # a signature is cut off
        what = (
            f"not UTF-8 text, from byte {byte} of the file on (0x{error.object[error.start]:02x})."
        )
        raise row_error(f"{shown}, line {number}", what, encodings.advise(path, byte)) from error
