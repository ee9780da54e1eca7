"""Text for a terminal: nothing that a file or a model says can steer it."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any, TextIO

# What a line is not broken in: a word, a run of katakana, or another Japanese character, with the
# signs that close it or open it, and the blanks after it.
_PIECES = re.compile(
    r"[「（『]*(?:[\u30a0-\u30ff]+|[\u3005-\u309f\u3400-\u9fff]"
    r"|[^\s\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]+)[、。）」』っゃゅょ〜]*\s*|\s+|."
)

# Control characters, of which terminals take commands; what reverses the direction of writing, so
# that a text reads otherwise than it is; line ends that are none to most programs. Not \n and \t.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def harmless(text: str) -> str:
    """The text with what could steer a terminal spelled out, such as \\x1b."""
    return _STEERING.sub(lambda found: ascii(found[0])[1:-1], text.replace("\r\n", "\n"))


def as_json(value: Any, stream: TextIO) -> str:
    """A value as JSON on one line, in characters that the stream can write and that steer
    nothing."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value)
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def width(text: str) -> int:
    """Return the columns that a text fills: a kanji two, an accent that combines none."""
    return sum(
        2 if unicodedata.east_asian_width(c) in "WF" else not unicodedata.combining(c) for c in text
    )


def shorten(text: str, columns: int) -> str:
    """Return a text, or its beginning and "…", in at most so many columns."""
    if width(text) <= columns:
        return text
    while width(text) >= columns:
        text = text[: min(len(text) - 1, columns)]
    return text + "…"


def wrapped(text: str, columns: int) -> list[str]:
    """Return a text as lines of at most so many columns, broken at spaces and between Japanese
    characters; no line begins with what closes, such as a full stop."""
    lines = [""]
    for piece in _PIECES.findall(text):
        room = width(lines[-1]) + width(piece.rstrip())
        if lines[-1] and room > columns:
            lines.append("")
        lines[-1] += piece if lines[-1] else piece.lstrip()
    return [line.rstrip() for line in lines]


class Console:
    """A stream for people: texts are made harmless, and what its encoding has no characters for is
    spelled out.

    Args:
        stream: standard output or standard error.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @property
    def stream(self) -> TextIO:
        """The stream that is written to."""
        return self._stream

    def write(self, text: str) -> int:
        """Write a text; only line ends and tabs steer the terminal."""
        self.write_as_is(harmless(text))
        return len(text)

    def write_as_is(self, text: str) -> None:
        """Write a text with the colours and moves of the cursor that it holds."""
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))

    def writelines(self, lines) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def write_as_is(text: str, stream: Any) -> None:
    """Write colours and moves of the cursor that this program makes to a stream of any kind."""
    getattr(stream, "write_as_is", stream.write)(text)
