"""Requests as pieces: words and the values of arguments."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple

from tfx_transformer.text.scripts import UNSPACED

# Words of scripts with spaces between words, blanks, and every other character.
_PIECES = re.compile(rf"[^\W{UNSPACED}\uac00-\ud7a3]+|\s+|\S")


class Piece(NamedTuple):
    """A piece of a request.

    text: as it is written; name: the argument whose value it shows, "" for other text; value: the
    value of that argument.
    """

    text: str
    name: str = ""
    value: Any = None

    @property
    def key(self) -> str:
        """The name of the argument, or the text in lower case; "" for a blank."""
        return f"\0{self.name}" if self.name else self.text.strip().lower()


def cut(text: str, slots: Sequence[tuple[str, int, int, Any]] = ()) -> list[Piece]:
    """Return the pieces of a request.

    Args:
        slots: name, start, end and value of each argument that the request shows, in order.
    """
    pieces, done = [], 0
    for name, start, end, value in slots:
        pieces += [Piece(found) for found in _PIECES.findall(text[done:start])]
        pieces.append(Piece(text[start:end], name, value))
        done = end
    return pieces + [Piece(found) for found in _PIECES.findall(text[done:])]


def is_run(pair: Sequence[str]) -> bool:
    """Return True if two pieces are kanji, or are katakana: they may be of one word."""
    kinds = {unicodedata.name(text, "")[:8] if len(text) == 1 else "" for text in pair}
    return len(pair) == 2 and len(kinds) == 1 and kinds <= {"CJK UNIF", "KATAKANA"}
