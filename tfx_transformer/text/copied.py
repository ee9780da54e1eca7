"""Arguments of calls that are copied from the request, such as the title of an event."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tfx_transformer.text.scripts import UNSPACED

# The keyword of a declaration: true for an argument whose value is always a part of the request.
COPIED = "x-copied"
# The pieces of a request: words of scripts with spaces between words, and every other character. A
# part begins and ends between two of them.
_PIECES = re.compile(rf"[^\W{UNSPACED}\uac00-\ud7a3]+|\S")
# Numbers: as written, and with commas between thousands.
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_THOUSANDS = re.compile(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d,])")
# The longest part in pieces, and the most characters of all parts of a request, about those of 38
# English words or 100 Japanese characters: their grammar compiles in some 100 ms. In a longer
# request a copied argument may be any text.
_LONGEST = 40
_MOST_CHARACTERS = 60_000
# An argument with one of these keywords is never copied.
_OTHERS = {"enum", "const", "anyOf", "oneOf", "allOf", "not", "$ref", "format"}


def can_be_copied(schema: Mapping[str, Any]) -> bool:
    """Return True if a JSON Schema allows any text or number, apart from its size and pattern."""
    return schema.get("type") in ("string", "integer", "number") and not _OTHERS & schema.keys()


def copies(request: str, kind: str) -> list[Any]:
    """Return the parts of a request that a copied argument may be, each once.

    Args:
        kind: "string" for texts from one word to another (in scripts without blanks: from one
            character to another); "integer" or "number" for numbers in digits: 1,500 is also 1500,
            and after a hyphen, as in "lamp-3", a number is negative or not.

    Returns: [] if a request has none, or is too long.
    """
    if len(request) > _MOST_CHARACTERS:
        return []
    if kind == "string":
        return _parts(request)
    written = [one.replace(",", "") for one in _THOUSANDS.findall(request)]
    for found in _NUMBER.finditer(request):
        written.append(found[0])
        before = request[max(found.start() - 2, 0) : found.start()]
        if before[-1:] == "-" and not before[:-1].isdigit():
            written.append(f"-{found[0]}")
    numbers = [float(one) if "." in one else int(one) for one in written if len(one) <= 18]
    return list(dict.fromkeys(one for one in numbers if kind == "number" or isinstance(one, int)))


def _parts(request: str) -> list[str]:
    places = [found.span() for found in _PIECES.finditer(request)]
    parts: dict[str, None] = {}
    room = _MOST_CHARACTERS
    for index, (start, _) in enumerate(places):
        for _, end in places[index : index + _LONGEST]:
            part = request[start:end]
            if part not in parts:
                parts[part] = None
                room -= len(part)
        if room < 0:
            return []
    return list(parts)


def is_copy(value: Any, request: str, kind: str) -> bool:
    """Return True if a value is one of `copies`; a text may also be a part of a longer request."""
    if kind != "string":
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and value in copies(request, kind)
    if not isinstance(value, str) or value not in request:
        return False
    places = [found.span() for found in _PIECES.finditer(request)]
    starts = {start: index for index, (start, _) in enumerate(places)}
    ends = {end: index for index, (_, end) in enumerate(places)}
    for found in re.finditer(f"(?={re.escape(value)})", request):
        first, last = starts.get(found.start()), ends.get(found.start() + len(value))
        if first is not None and last is not None and 0 <= last - first < _LONGEST:
            return True
    return False
