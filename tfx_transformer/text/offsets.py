"""Places of tokens in a text: where they begin and end, in characters (code points)."""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from collections.abc import Sequence

import numpy as np

# Begin and end of a token; equal if it holds only blanks.
Offsets = list[tuple[int, int]]

_SURROGATE = re.compile("[\ud800-\udfff]")


def without_halves(text: str) -> str:
    """Return a text of the same length, with U+FFFD for every half of a character."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def of_bytes(text: Sequence[str], sizes: Sequence[int], first: int = 0) -> Offsets:
    """Return the offsets of tokens that follow each other without a gap in the UTF-8 of a text.

    A token that holds a part of a character begins and ends with that character.

    Args:
        text: the text, or for each of its characters what the tokens spell.
        sizes: number of bytes of each token, all above 0.
        first: number of characters before the text.
    """
    lengths = [len(character.encode()) for character in text]
    places = np.repeat(np.arange(len(text)), lengths) + first
    ends = np.cumsum(sizes, dtype=int)
    starts = ends - np.asarray(sizes, int)
    return list(zip(places[starts].tolist(), (places[ends - 1] + 1).tolist(), strict=True))


def trimmed(text: str, offsets: Offsets) -> Offsets:
    """Return offsets without the blanks at both ends of each token."""
    found = []
    for start, end in offsets:
        while start < end and text[start].isspace():
            start += 1
        while start < end and text[end - 1].isspace():
            end -= 1
        found.append((start, end))
    return found


def composed(text: str) -> tuple[str, Offsets]:
    """Return a text in normalization form C, and the offsets in `text` of each of its characters.

    Characters that are composed, or reordered, together have the same place.
    """
    parts: list[str] = []
    places: Offsets = []
    start = 0
    for place in range(1, len(text) + 1):
        if place < len(text) and _joins(text[place]):
            continue
        part = unicodedata.normalize("NFC", text[start:place])
        parts.append(part)
        places += [(start, place)] * len(part)
        start = place
    return "".join(parts), places


def _joins(character: str) -> bool:
    """Return True if a character may be composed with the one before it."""
    return unicodedata.combining(character) != 0 or character in _second_halves()


@functools.cache
def _second_halves() -> frozenset[str]:
    """Return the characters that another one composes with: marks, and parts of syllables."""
    found = set(map(chr, [*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)]))
    for code in range(0xC0, sys.maxunicode + 1):
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            found.add(chr(int(parts[1], 16)))
    return frozenset(found)
