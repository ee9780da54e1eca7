"""Text for a terminal: nothing that a file or a model says can steer it."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import threading
import time
import unicodedata
from collections.abc import Iterator
from typing import Any, TextIO

# Columns of a line that is written to stay.
COLUMNS = 79

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


def wrapped(text: str, columns: int, indent: str = "") -> list[str]:
    """Return a text as lines of at most so many columns, broken at spaces and between Japanese
    characters; no line begins with what closes, such as a full stop.

    Args:
        text: on one line.
        columns: of a terminal.
        indent: before every line but the first.
    """
    lines, start = [""], ""
    for piece in _PIECES.findall(text):
        room = width(lines[-1]) + width(piece.rstrip())
        if len(lines[-1]) > len(start) and room > columns:
            start = indent
            lines.append(indent)
            piece = piece.lstrip()
        lines[-1] += piece
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
        with _writing:
            if _heartbeat is not None:
                _heartbeat.clear()
            # The stream of a command within a command is a console too.
            write_as_is(text.encode(encoding, "backslashreplace").decode(encoding), self._stream)

    def writelines(self, lines) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def write_as_is(text: str, stream: Any) -> None:
    """Write colours and moves of the cursor that this program makes to a stream of any kind."""
    getattr(stream, "write_as_is", stream.write)(text)


# Seconds of silence after which a heartbeat begins, and between two beats.
_SILENCE = 2.0
_BEAT = 1.0

_writing = threading.RLock()  # a signal handler writes too
_heartbeat: _Heartbeat | None = None


class _Heartbeat(threading.Thread):
    """A line that says for how long a command has been silent, and what it is doing.

    Args:
        stream: of the terminal; None: nothing is drawn.
    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__(daemon=True)
        self._stream = stream
        self._ended = threading.Event()
        self._is_drawn = False
        self.begin("starting")

    def begin(self, text: str) -> None:
        """Set what the command is doing from now on."""
        self._text, self._since = text, time.monotonic()
        self._last = self._since

    def run(self) -> None:
        """Draw the line until `end`."""
        while not self._ended.wait(_BEAT):
            with _writing:
                now = time.monotonic()
                if now - self._last >= _SILENCE and not self._ended.is_set():
                    self._draw(f"\r\x1b[K  {self._text} … {now - self._since:.0f} s")
                    self._is_drawn = True

    def clear(self) -> None:
        """Remove the line, and count the silence anew: something is written."""
        self._last = time.monotonic()
        if self._is_drawn:
            self._is_drawn = False
            self._draw("\r\x1b[K")

    def end(self) -> None:
        """Remove the line and stop."""
        self._ended.set()
        with _writing:
            self.clear()

    def _draw(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # the terminal is gone
            self._stream.write(text)
            self._stream.flush()


@contextlib.contextmanager
def heartbeat() -> Iterator[None]:
    """While the block runs, `begin` prints, and where standard error is a terminal a line says what
    a command that has been silent for some seconds is doing."""
    global _heartbeat
    stream = sys.stderr
    while isinstance(stream, Console):  # of a command within a command
        stream = stream.stream
    lively = stream is not None and stream.isatty()
    before, beat = _heartbeat, _Heartbeat(stream if lively else None)
    if lively:
        beat.start()
    _heartbeat = beat
    try:
        yield
    finally:
        beat.end()
        _heartbeat = before


def begin(text: str) -> None:
    """Say that a step begins which takes seconds; outside of `heartbeat` nothing is printed."""
    if _heartbeat is not None:
        print(text, flush=True)
        _heartbeat.begin(text)


def doing(text: str) -> None:
    """Set what the line of `heartbeat` says, without a line of its own."""
    if _heartbeat is not None:
        _heartbeat.begin(text)
