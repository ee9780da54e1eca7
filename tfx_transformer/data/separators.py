"""The separator of a text table's cells: detected, or an error if several are possible."""

from __future__ import annotations

import csv
from collections.abc import Collection
from pathlib import Path

from tfx_transformer.arguments import flag_for
from tfx_transformer.data.sources import row_error
from tfx_transformer.errors import InputError

# Separator -> its plural name.
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_WORDS = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "pipe": "|", "bar": "|"}
# Rows that are counted, and characters of them.
_ROWS = 1_000
_CHARACTERS = 10_000_000
# A reading is possible if this share of the rows has as many cells as the header.
_ALIKE = 0.5


def separator_name(separator: str) -> str:
    """Return the plural name of a separator, such as "semicolons"."""
    return SEPARATORS.get(separator, repr(separator))


def given_separator(given: str) -> str:
    """Return the character that `--delimiter` names.

    Raises:
        InputError: it is not one character, or one that cannot separate cells.
    """
    separator = _WORDS.get(given.lower(), given)
    if len(separator) != 1 or separator in '"\r\n\0 ':
        raise InputError(
            f"--delimiter {given!r} cannot separate cells.\n"
            "  Expected one character, such as ';' or '|', or one of the words comma, semicolon,\n"
            "  tab and pipe."
        )
    return separator


def find_separator(file: Path, name: str, encoding: str, wanted: Collection[str] = ()) -> str:
    """Return the separator of a table's cells.

    It is the only separator that the header holds, else the only one that gives the header all
    wanted columns, else the only one that gives at least half of the rows as many cells as the
    header. If no separator does, it is a comma.

    Args:
        file: the file to read.
        name: of the table in messages.
        encoding: of the file.
        wanted: names of columns that will be read.

    Raises:
        InputError: several are possible.
    """
    headers = {mark: _first_rows(file, encoding, mark, 1)[0] for mark in SEPARATORS}
    several = [mark for mark, header in headers.items() if len(header) > 1]
    if len(several) < 2:
        return several[0] if several else ","
    names = set(wanted)
    fitting = [mark for mark in several if names and names <= set(headers[mark])]
    if len(fitting) == 1:
        return fitting[0]
    possible = [mark for mark in fitting or several if _is_table(file, encoding, mark)]
    if len(possible) == 1:
        return possible[0]
    if not possible:
        return ","
    flag = flag_for("delimiter")
    counts = [
        f"{len(headers[mark])} columns separated by {separator_name(mark)}"
        + (f" ({flag} {'tab' if mark == chr(9) else repr(mark)})" if flag else "")
        for mark in possible
    ]
    remedy = f"Name it: {flag}, in Python tfx.data.TableFile(path, delimiter=...)."
    raise row_error(
        name,
        "it is not certain what separates the cells.",
        "It may have "
        + ",\nor ".join(counts)
        + f".\n{remedy if flag else 'Write the file with commas.'}",
    )


def excel_separator(file: Path, encoding: str) -> str:
    """Return the separator that the first line names for Excel, such as "sep=;", else ""."""
    with file.open(encoding=encoding, newline="", errors="replace") as opened:
        line = opened.readline(20).strip().strip('"')
    known = line[:4].lower() == "sep=" and len(line) == 5 and line[4] not in '"\r\n\0 '
    if line[:4].lower() == "sep=" and line[4:] == "":  # a tab was stripped
        return "\t"
    return line[4] if known else ""


def _first_rows(
    file: Path, encoding: str, separator: str, most: int
) -> tuple[list[str], list[int]]:
    """Return the header, and the number of cells in each of the first rows that are not blank, as
    far as they can be read."""
    header: list[str] = []
    counts: list[int] = []
    size = 0
    with file.open(encoding=encoding, newline="", errors="replace") as opened:
        reader = csv.reader(opened, delimiter=separator, strict=True)
        try:
            for cells in filter(None, reader):
                header = header or cells
                counts.append(len(cells))
                size += sum(map(len, cells))
                if len(counts) == most or size > _CHARACTERS:
                    break
        except csv.Error:
            pass
    return header, counts


def _is_table(file: Path, encoding: str, separator: str) -> bool:
    _, (first, *others) = _first_rows(file, encoding, separator, _ROWS)
    return bool(others) and others.count(first) >= _ALIKE * len(others)
