"""Arguments of calls that are copied from the request, such as the title of an event."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tfx_transformer.text.scripts import UNSPACED

# The keyword of a declaration: true for an argument whose value is always a part of the request.
COPIED = "x-copied"
# A part of a request begins and ends between these pieces: words of scripts with blanks between
# words, and every other character.
_PIECES = re.compile(rf"[^\W{UNSPACED}\uac00-\ud7a3]+|\S")
_NUMBER = re.compile(r"(?<!\d)-?\d+(?:\.\d+)?|\d+")
# The longest part in pieces, and the most characters of all parts of a request: their grammar
# compiles in some 100 ms. The argument of a longer request may be any text.
_LONGEST = 40
_MOST_CHARACTERS = 60_000
# Keywords of arguments that are never seen as copied.
_OTHERS = {"enum", "const", "anyOf", "oneOf", "allOf", "not", "$ref", "format"}


def can_be_copied(schema: Mapping[str, Any]) -> bool:
    """Return True if a JSON Schema allows any text or number, apart from its size and pattern."""
    return schema.get("type") in ("string", "integer", "number") and not _OTHERS & schema.keys()


def copies(request: str, kind: str) -> list[Any]:
    """Return the parts of a request that an argument may be, each once.

    Args:
        kind: "string" for texts from one word to another (in scripts without blanks: from one
            character to another); "integer" or "number" for the numbers that are written in digits.

    Returns: [] if a request has none, or is too long.
    """
    if kind == "string":
        return _parts(request)
    numbers = dict.fromkeys(_NUMBER.findall(request))
    found = [float(one) if "." in one else int(one) for one in numbers if len(one) <= 18]
    return [one for one in found if kind == "number" or isinstance(one, int)]


def _parts(request: str) -> list[str]:
    if len(request) > _MOST_CHARACTERS:
        return []
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
    """Return True if a value is one of `copies`."""
    wanted = str if kind == "string" else int | float
    if isinstance(value, bool) or not isinstance(value, wanted):
        return False
    if kind == "string" and value not in request:
        return False
    return value in copies(request, kind)
