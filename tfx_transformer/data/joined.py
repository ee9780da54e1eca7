"""Several tables of labelled rows as one, such as the table of a first training and one that
`predict` wrote and a person corrected. A row of a later table replaces those of earlier ones."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from tfx_transformer.data.examples import Examples
from tfx_transformer.data.file_rows import MOST_IN_MEMORY
from tfx_transformer.data.sources import TableData, is_table
from tfx_transformer.data.splits import row_key
from tfx_transformer.data.tables import read_header
from tfx_transformer.errors import InputError
from tfx_transformer.reprs import quantity

E = TypeVar("E", bound=Examples)

# The columns that mark a table that `predict` wrote, and the separator of labels in it.
PREDICTED, PROBABILITY = "predicted", "probability"
_BETWEEN = "|"


class Correction(NamedTuple):
    """A row of an earlier table that a later table gives another label.

    row: in the later table; earlier_row: in the earlier one; input: text or file; label: in the
    earlier table; corrected: in the later one.
    """

    row: Any
    earlier_row: Any
    input: str
    label: str
    corrected: str


def label_columns(path: TableData, label: str) -> dict[str, str]:
    """Return role -> column of the labels: "label"; for a table that `predict` wrote "predicted"
    and, if it has that column, "label".

    In such a table the label of a row is in its column of labels or, if that is empty or missing,
    in `predicted`. A row without either is still open.
    """
    plain = {"label": label}
    if not is_table(path) and not _is_small(path):
        return plain
    try:
        header = list(getattr(path, "columns", ())) or read_header(path)
    except InputError:  # reading the table raises it again
        return plain
    if label == PREDICTED or not {PREDICTED, PROBABILITY} <= set(header):
        return plain
    return (plain if label in header else {}) | {"predicted": PREDICTED}


def _is_small(path: Any) -> bool:
    return os.path.isdir(path) or (os.path.isfile(path) and os.path.getsize(path) <= MOST_IN_MEMORY)


def row_labels(
    columns: Mapping[str, Sequence[str]], separator: str = ""
) -> tuple[list[tuple[str, ...]], list[bool] | None]:
    """Return the labels of each row, and for each row True if they are from the column `predicted`;
    None for a table without that column.

    Args:
        columns: role -> cells, for the roles of `label_columns`.
        separator: between several labels in a cell; "": every cell is one label.
    """
    # Equal cells become one tuple, however many rows there are.
    split = functools.cache(functools.partial(_split, separator=separator))
    if "predicted" not in columns:
        return list(map(split, columns["label"])), None
    split_predicted = functools.partial(_split, separator=_BETWEEN if separator else "")
    predicted = list(map(functools.cache(split_predicted), columns["predicted"]))
    given = list(map(split, columns.get("label", [""] * len(predicted))))
    labels = [ours or theirs for ours, theirs in zip(given, predicted, strict=True)]
    return labels, [not ours for ours in given]


def _split(cell: str, separator: str) -> tuple[str, ...]:
    """The labels in a cell, each once, in their order."""
    parts = cell.split(separator) if separator else [cell]
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))


def without_open_rows(examples: Any) -> Any:
    """Return the labelled examples of a table that `predict` wrote; `open_rows` counts the others.

    Raises:
        InputError: none has a label.
    """
    kept = [index for index, labels in enumerate(examples.labels) if labels]
    if not kept:
        raise InputError(
            f"{examples.path}: all {quantity(len(examples), 'row')} are still open.\n"
            f"  Write labels into the column {PREDICTED!r}, or into one that --label names."
        )
    return dataclasses.replace(examples.take(kept), open_rows=len(examples) - len(kept))


def join_examples(parts: Sequence[E], path: str) -> E:
    """Return the examples of several tables as one; `tables` has the number of each one's table.
    Texts that stay in their file are read into memory.

    Args:
        parts: examples of one kind, in the order of the tables.
        path: of all tables, for messages.
    """
    first = parts[0]
    found: dict[str, Any] = {
        name: [value for part in parts for value in getattr(part, name)]
        for name in first.parts
        if getattr(first, name) is not None
    }
    found["rows"] = [f"{row} of {part.path}" for part in parts for row in part.rows]
    found["path"] = path
    found["bad_rows"] = [
        dataclasses.replace(bad, row=f"{bad.row} of {part.path}")
        for part in parts
        for bad in part.bad_rows
    ]
    if "tables" in {field.name for field in dataclasses.fields(first)}:  # type: ignore[arg-type]
        found["tables"] = [n for n, part in enumerate(parts) for _ in range(len(part))]
        found["predicted"] = [p for part in parts for p in part.predicted or [False] * len(part)]
        found["open_rows"] = sum(part.open_rows for part in parts)
    return dataclasses.replace(first, **found)  # type: ignore[type-var]


def settle(
    examples: Any, answers: Callable[[list[Any]], list[tuple[str, ...]]] | None = None
) -> tuple[Any, list[Correction]]:
    """Return examples of several tables without the rows that a later table replaces, and the
    corrections.

    A label in the column `predicted` that is the model's own answer corrects nothing: the row of
    the earlier table stays.

    Args:
        examples: from `join_examples`, with labels; others are returned unchanged.
        answers: inputs -> the labels that the model answers; None: not known.
    """
    if examples.tables is None or not isinstance(getattr(examples, "labels", None), list):
        return examples, []
    keys = list(map(row_key, examples.keys()))
    rows_of: dict[int, list[int]] = {}
    for index, key in enumerate(keys):
        rows_of.setdefault(key, []).append(index)
    several = [rows for rows in rows_of.values() if len({examples.tables[i] for i in rows}) > 1]
    ignored = _own_answers(examples, several, answers)
    left_out, corrections = set(ignored), []
    for rows in several:
        counted = [index for index in rows if index not in ignored]
        last = max(examples.tables[index] for index in counted)
        newest = next(index for index in counted if examples.tables[index] == last)
        for index in counted:
            if examples.tables[index] == last:
                continue
            left_out.add(index)
            if set(examples.labels[index]) != set(examples.labels[newest]):
                corrections.append(_correction(examples, newest, index))
    kept = [index for index in range(len(keys)) if index not in left_out]
    return examples.take(kept), corrections


def _own_answers(
    examples: Any,
    several: Sequence[Sequence[int]],
    answers: Callable[[list[Any]], list[tuple[str, ...]]] | None,
) -> set[int]:
    """Return the indices of rows whose label is the model's own answer, and differs from the label
    in an earlier table."""
    tables, labels = examples.tables, examples.labels
    doubtful = [
        index
        for rows in several
        for index in rows
        if examples.predicted[index]
        and any(
            tables[other] < tables[index] and set(labels[other]) != set(labels[index])
            for other in rows
        )
    ]
    if not doubtful or answers is None:
        return set()
    found = answers([examples.inputs[index] for index in doubtful])
    return {
        index
        for index, answer in zip(doubtful, found, strict=True)
        if set(answer) == set(labels[index])
    }


def _correction(examples: Any, row: int, earlier: int) -> Correction:
    item = examples.inputs[row]
    shown = " | ".join(item) if isinstance(item, tuple) else str(item)
    labels = (_BETWEEN.join(examples.labels[index]) for index in (earlier, row))
    return Correction(examples.rows[row], examples.rows[earlier], shown, *labels)
