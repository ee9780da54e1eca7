"""Text for a terminal: texts of files and models cannot control it."""

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

# Columns of lines that stay on the terminal.
COLUMNS = 79

# Pieces that are not broken between lines: a word, a run of katakana, or another Japanese
# character, with opening and closing signs, and the blanks after it.
_PIECES = re.compile(
    r"[「（『]*(?:[\u30a0-\u30ff]+|[\u3005-\u309f\u3400-\u9fff]"
    r"|[^\s\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]+)[、。）」』っゃゅょ〜]*\s*|\s+|."
)

# Control characters, which terminals take as commands; characters that reverse the direction of
# writing, so that a text looks like another; rare line ends; half characters. Not \n and \t.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def harmless(text: str) -> str:
    """Return a text with characters that could control a terminal spelled out, such as \\x1b."""
    return _STEERING.sub(lambda found: ascii(found[0])[1:-1], text.replace("\r\n", "\n"))


def as_json(value: Any, stream: TextIO) -> str:
    """Return a value as JSON on one line, in characters that the stream can write and that cannot
    control a terminal."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value)
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def width(text: str) -> int:
    """Return the columns that a text fills: two for a kanji, none for a combining accent."""
    return sum(
        2 if unicodedata.east_asian_width(c) in "WF" else not unicodedata.combining(c) for c in text
    )


def shorten(text: str, columns: int) -> str:
    """Return a text, or its beginning and "…", in at most `columns` columns."""
    if width(text) <= columns:
        return text
    while width(text) >= columns:
        text = text[: min(len(text) - 1, columns)]
    return text + "…"


def wrapped(text: str, columns: int, indent: str = "") -> list[str]:
    """Return a text as lines of at most `columns` columns, broken at spaces and between Japanese
    characters; no line begins with a closing sign, such as a full stop.

    Args:
        text: on one line.
        columns: of a terminal.
        indent: text before every line except the first.
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
    """A stream for people: texts are made harmless, and characters that its encoding does not have
    are spelled out.

    Args:
        stream: standard output or standard error.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @property
    def stream(self) -> TextIO:
        """The underlying stream."""
        return self._stream

    def write(self, text: str) -> int:
        """Write a text; only line ends and tabs control the terminal."""
        self.write_as_is(harmless(text))
        return len(text)

    def write_as_is(self, text: str) -> None:
        """Write a text with its colours and cursor movements."""
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
    """Write a text with colours and cursor movements of this program to a stream of any kind."""
    getattr(stream, "write_as_is", stream.write)(text)


# Seconds of silence after which a heartbeat begins, and between two beats.
_SILENCE = 2.0
_BEAT = 1.0

_writing = threading.RLock()  # a signal handler writes too
_heartbeat: _Heartbeat | None = None


class _Heartbeat(threading.Thread):
    """A line with the current step of a silent command, and its seconds so far.

    Args:
        stream: of the terminal; None: no line is drawn.
    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__(daemon=True)
        self._stream = stream
        self._ended = threading.Event()
        self._is_drawn = False
        self.begin("starting")

    def begin(self, text: str) -> None:
        """Set the step of the command, which begins now."""
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
        """Remove the line before something is written, and restart the silence."""
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
    """Let `begin` print while the block runs; if standard error is a terminal, also show a line
    with the current step after some seconds of silence."""
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
    """Print that a step of some seconds begins; outside of `heartbeat` print nothing."""
    if _heartbeat is not None:
        print(text, flush=True)
        _heartbeat.begin(text)


def doing(text: str) -> None:
    """Set the text of the line of `heartbeat`, without printing it."""
    if _heartbeat is not None:
        _heartbeat.begin(text)
