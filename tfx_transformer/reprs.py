"""Objects as a few lines of facts, for a notebook or a debugger; numbers and times as texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

# Most examples that are shown.
_SHOWN = 3
_LONGEST = 60


def short_repr(text: str, longest: int = _LONGEST) -> str:
    """Return a text in quotes, on one line, cut to `longest` characters."""
    return repr(text if len(text) <= longest else f"{text[: longest - 1]}…")


def quantity(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 row" and "1,940 rows"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def short_list(names: Iterable[str], most: int = 5) -> str:
    """Return the first `most` names as a text, and the number of the others."""
    names = list(names)
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(short_repr(name, 30) for name in names[:most]) + more


def examples(read: Any, noun: str, columns: str, line: Callable[[int], str]) -> str:
    """Return the repr of examples: their number and source, and the first rows.

    Args:
        read: the examples, with a length, `rows`, `path` and `bad_rows`.
        noun: name of an example.
        columns: names of the columns, or "".
        line: (index of an example) -> the example on one line.
    """
    facts = f"{type(read).__name__}: {quantity(len(read), noun)}"
    if read.path:
        facts += f" of {read.path}"
    if columns:
        facts += f" ({columns})"
    if read.bad_rows:
        facts += f", {quantity(len(read.bad_rows), 'bad row')} skipped"
    lines = [facts]
    try:
        lines += [f"  row {read.rows[i]}: {line(i)}" for i in range(min(len(read), _SHOWN))]
    except ValueError as error:  # the file of the texts is gone or has changed
        lines.append(f"  {str(error).splitlines()[0]}")
    if len(read) > _SHOWN:
        lines.append("  …")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Return a time such as "45 s", "3 min 20 s" or "1 h 05 min"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def significant(value: float, digits: int = 3) -> str:
    """Return a number with `digits` significant digits, such as "0.0123" and "4.50", and all digits
    before the point, such as "1,230"; with an exponent below 1e-5 and from 1e15 on."""
    if not math.isfinite(value):
        return str(value)
    rounded = f"{value:.{digits - 1}e}"
    size = int(rounded.partition("e")[2])
    return f"{value:,.{max(digits - 1 - size, 0)}f}" if -5 <= size < 15 else rounded
