"""Tokens and tables in a terminal: colours, and columns that align below wide characters."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence

from tfx_transformer.console import shorten, width
from tfx_transformer.text.counting import Sample
from tfx_transformer.text.splitters import visible

# Backgrounds of the 256-colour palette that black is easy to read on; neighbours always differ.
_BACKGROUNDS = (153, 223, 157, 225, 229)
_BLACK = "\033[38;5;16m"
_PLAIN = "\033[0m"


def has_colours() -> bool:
    """Return True if standard output is a terminal and its user allows colours (no-color.org)."""
    refused = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not refused


def pad(text: str, columns: int, *, right: bool = False) -> str:
    """Return the text with spaces after it, or before it if `right`, up to `columns`."""
    spaces = " " * (columns - width(text))
    return spaces + text if right else text + spaces


def align(rows: Sequence[Sequence[str]], words: int) -> list[str]:
    """Return a table as lines: `words` columns of words to the left, the others to the right."""
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(pad(cell, widths[n], right=n >= words) for n, cell in enumerate(cells)).rstrip()
        for cells in rows
    ]


def sample_lines(
    names: Sequence[str], sample: Sample, limit: int, colours: bool, columns: int | None
) -> list[str]:
    """Return the lines of a text: its size, then for each tokenizer its first `limit` tokens.

    colours: separate tokens by background colours, else by "|"; columns: width of the terminal;
    None: lines of any length.
    """
    size = f"  {sample.language}, {sample.characters:,} characters, {sample.bytes:,} bytes"
    lines = [shorten(visible(sample.label), (columns or 100) - width(size)) + size]
    name_width = max(map(width, names))
    count_width = max(len(f"{count:,}") for count in sample.counts)
    for name, tokens, count in zip(names, sample.tokens, sample.counts, strict=True):
        start = f"  {pad(name, name_width)}  {count:>{count_width},}  "
        room = columns and max(columns - width(start), 20)
        shown = token_lines([token.shown() for token in tokens[:limit]], colours, room)
        if count > limit:
            shown.append(f"… and {count - limit:,} more")
        indent = " " * width(start)
        lines += [(indent if n else start) + line for n, line in enumerate(shown)]
    return lines


def token_lines(pieces: Iterable[str], colours: bool, columns: int | None) -> list[str]:
    """Return tokens one after the other, in lines of at most `columns`."""
    lines: list[list[str]] = [[]]
    used = 0
    for number, piece in enumerate(pieces):
        room = width(piece) + (not colours)
        if columns is not None and used and used + room > columns:
            lines.append([])
            used = 0
        used += room
        background = _BACKGROUNDS[number % len(_BACKGROUNDS)]
        shown = f"\033[48;5;{background}m{_BLACK}{piece}{_PLAIN}" if colours else piece
        lines[-1].append(shown)
    joint = "" if colours else "|"
    ends = [joint] * (len(lines) - 1) + [""]
    return [joint.join(line) + end for line, end in zip(lines, ends, strict=True)]
