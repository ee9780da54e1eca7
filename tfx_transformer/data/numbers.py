"""Numbers in the cells of a table: an unclear decimal sign is asked for, never guessed."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Literal

from tfx_transformer.data.sources import Digits, Problem, show
from tfx_transformer.data.tables import Check
from tfx_transformer.errors import InputError
from tfx_transformer.reprs import quantity

# "." or ","; "": a point, if the column allows no other reading.
Decimal = Literal["", ".", ","]

# Full-width digits and signs, and the typographic minus sign.
_ASCII = {0xFF10 + digit: str(digit) for digit in range(10)}
_ASCII |= {ord("＋"): "+", ord("－"): "-", ord("−"): "-", ord("．"): ".", ord("，"): ","}

# Larger numbers, or the sum of their squares, overflow the float32 of a model.
_LARGEST = 1e30
_ROWS_NAMED = 3


def _pattern(decimal: str, other: str) -> re.Pattern[str]:
    """Return a pattern of numbers with this decimal sign; the other may separate thousands."""
    whole = rf"(?:\d+|[1-9]\d{{0,2}}(?:{other}\d{{3}})+)"
    return re.compile(rf"[+-]?(?:{whole}(?:{decimal}\d*)?|{decimal}\d+)(?:[eE][+-]?\d+)?", re.ASCII)


_PATTERNS = {".": _pattern(r"\.", ","), ",": _pattern(",", r"\.")}
_OTHER = {".": ",", ",": "."}
# Numbers whose points may separate thousands.
_GROUPS = re.compile(r"[+-]?[1-9]\d{0,2}(?:\.\d{3})+", re.ASCII)


def number_check(role: str, column: str, decimal: Decimal) -> Check:
    """Return a check that rejects a row if its cell is not a finite number.

    Args:
        role: of the column.
        column: its name.
        decimal: as for `read_numbers`.
    """
    signs = [decimal] if decimal else list(_OTHER)
    sign = {"": "a point", ".": "a point", ",": "a comma"}[decimal]
    remedy = f"Expected a number alone, with {sign} before decimals, without a unit."
    if decimal:
        remedy += f"\nIs another sign before decimals? Pass --decimal {_OTHER[decimal]}"

    def check(cells: dict[str, Any]) -> Problem | None:
        cell = cells[role]
        found = [value for s in signs if (value := _parse(cell, s)) is not None]
        if not found:
            return Problem(column, f"column {column!r} is not a number: {show(cell)!r}", remedy)
        if max(map(abs, found)) > _LARGEST:
            what = f"column {column!r} is {show(cell)}: too large"
            return Problem(column, what, f"Expected a number from -{_LARGEST:g} to {_LARGEST:g}.")
        return None

    return check


def read_numbers(
    cells: Sequence[str], rows: Sequence[Any], path: str, column: str, decimal: Decimal = ""
) -> list[float]:
    """Return the numbers of a column.

    A number is digits, with an optional sign, decimal sign with digits, and exponent. Blanks around
    it do not count; digits and signs may be full-width. Cells that are numbers already, as in a
    workbook, need no decimal sign.

    Args:
        cells: cells that pass `number_check`.
        rows: of the cells, for the message.
        path: of the table, for the message.
        column: its name, for the message.
        decimal: "." or ",": the sign before decimals; the other one may separate thousands, in
            groups of three digits. "": a point, unless a comma would be possible too.

    Raises:
        InputError: the decimal sign is unclear; the message names rows.
    """
    if decimal:
        return [_number(cell, decimal) for cell in cells]
    doubtful = [i for i, cell in enumerate(cells) if _has_separators(cell)]
    pointed = [i for i, cell in enumerate(cells) if "." in cell and not isinstance(cell, Digits)]
    if not doubtful and all(_GROUPS.fullmatch(_plain(cells[i])) for i in pointed):
        doubtful = pointed
    if doubtful:
        raise _ambiguous(doubtful, cells, rows, path, column)
    return [_number(cell, ".") for cell in cells]


def _plain(cell: str) -> str:
    return cell.strip().translate(_ASCII)


def _parse(cell: str, decimal: str) -> float | None:
    """Return the number that a cell holds with this decimal sign; None if it holds none."""
    if isinstance(cell, Digits):
        number = float(cell)
    else:
        text = _plain(cell)
        if not _PATTERNS[decimal].fullmatch(text):
            return None
        number = float(text.replace(_OTHER[decimal], "").replace(decimal, "."))
    return number if math.isfinite(number) else None


def _number(cell: str, decimal: str) -> float:
    number = _parse(cell, decimal)
    assert number is not None, cell  # `number_check` has let it pass
    return number


def _has_separators(cell: str) -> bool:
    """Return True for a number with a comma or with several points."""
    return not isinstance(cell, Digits) and ("," in _plain(cell) or _parse(cell, ".") is None)


def _ambiguous(
    doubtful: Sequence[int], cells: Sequence[str], rows: Sequence[Any], path: str, column: str
) -> InputError:
    named = ", ".join(f"row {rows[i]}: {show(cells[i])!r}" for i in doubtful[:_ROWS_NAMED])
    more = len(doubtful) - _ROWS_NAMED
    beside = f" and {quantity(more, 'row')} more" if more > 0 else ""
    readings = []
    for decimal in _OTHER:
        read = _parse(cells[doubtful[0]], decimal)
        meaning = "not a number" if read is None else f"{read:.15g}"
        readings.append(f"--decimal {decimal} reads {show(cells[doubtful[0]])!r} as {meaning}")
    return InputError(
        f"{path}: column {column!r}: is a comma or a point before decimals?\n"
        f"  Not clear in {named}{beside}.\n"
        f"  {readings[0]},\n  {readings[1]}.\n"
        "  Pass the one that holds for the whole column."
    )
