"""Texts and a number for each, from a table to batches for a `Regressor`'s `fit`."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from tfx_transformer.arguments import naming
from tfx_transformer.data.batches import Batches
from tfx_transformer.data.examples import Examples
from tfx_transformer.data.file_rows import Rows, sample, zipped
from tfx_transformer.data.formats import TableFiles
from tfx_transformer.data.joined import join_examples
from tfx_transformer.data.labelled_text import (
    check_columns,
    header_of,
    joined_columns,
    text_batches,
    text_check,
    text_columns,
)
from tfx_transformer.data.numbers import Decimal, number_check, read_numbers
from tfx_transformer.data.sources import Problem, TableData, as_number
from tfx_transformer.data.splits import row_key, split_by_key
from tfx_transformer.data.tables import BadRow, Check, read_table
from tfx_transformer.errors import InputError
from tfx_transformer.reprs import short_repr
from tfx_transformer.text.tokenizer import Tokenizer


class Scale(NamedTuple):
    """Mean and standard deviation of numbers, by which they are standardized for training."""

    mean: float
    deviation: float

    def standardize(self, numbers: Sequence[float]) -> np.ndarray:
        """Return (y - mean) / deviation, float32 (n,)."""
        values = (np.asarray(numbers, "float64") - self.mean) / self.deviation
        return values.astype("float32")


@dataclasses.dataclass(frozen=True, repr=False)
class ScoredTexts(Examples):
    """The texts and the number of each row: one text, unless more columns were asked for."""

    texts: Rows[tuple[str, ...]]
    numbers: list[float]
    rows: Sequence[Any]
    path: str = ""
    columns: dict[str, str] = dataclasses.field(default_factory=dict)
    bad_rows: list[BadRow] = dataclasses.field(default_factory=list)
    tables: Sequence[int] | None = None
    predicted: Sequence[bool] | None = None
    open_rows: int = 0

    parts: ClassVar[tuple[str, ...]] = ("texts", "numbers")

    def shown(self, index: int) -> str:
        texts = ", ".join(map(short_repr, self.texts[index]))
        return f"{texts} → {self.numbers[index]:.6g}"

    @property
    def inputs(self) -> Rows[tuple[str, ...]]:
        """The texts to predict numbers for."""
        return self.texts

    def flat_texts(self) -> list[str]:
        """All texts that are not empty, to train a tokenizer on; a sample of texts that stay in
        their file."""
        return [text for texts in sample(self.texts) for text in texts if text]

    def scale(self) -> Scale:
        """Return mean and standard deviation of the numbers.

        Raises:
            InputError: all numbers are the same.
        """
        values = np.asarray(self.numbers, "float64")
        scale = Scale(float(values.mean()), float(values.std()))
        # The deviation of equal numbers may be a rounding error instead of 0.
        if len(set(self.numbers)) < 2 or not scale.deviation > 0:
            raise InputError(
                f"{self.path or 'scored texts'}: all {len(values):,} numbers of column "
                f"{self.columns.get('target', 'target')!r} are {values[0]:g}.\n"
                "  Expected different numbers: there is nothing to learn. Name another column:\n"
                f"  {naming('target')}; or add rows."
            )
        return scale


def read_scored_texts(
    path: TableData,
    text: str = "text",
    target: str = "target",
    decimal: Decimal = "",
    *,
    skip_bad_rows: bool = False,
) -> ScoredTexts:
    """Read a table of texts and a number for each.

    The whole file is checked. If it has more than 64 MiB, the texts stay in it as `FileRows`, which
    need the file as long as they are used.

    Args:
        path: a table of any format (see `formats`), or several as `TableFiles`, where a row of a
            later table replaces one of an earlier table; or a table in memory: a pandas DataFrame,
            a dictionary of columns, or a list of dictionaries or of (text, target).
        text: name of the column of the texts, or several: see `labelled_text.read_labelled_texts`.
        target: name of the column of the numbers.
        decimal: "." or ",": the sign before decimals; "": a point, or an error if a comma is
            possible too. See `numbers.read_numbers`.
        skip_bad_rows: leave out rows that cannot be used and list them in `bad_rows`, instead of
            refusing the file.

    Raises:
        InputError: a column is named twice; a cell is not a number, or has two readings; for others
            see `tables.read_table`.
    """
    if isinstance(path, TableFiles):
        read = [
            read_scored_texts(part, text, target, decimal, skip_bad_rows=skip_bad_rows)
            for part in path.paths
        ]
        return _newest(join_examples(read, os.fspath(path)))
    columns = text_columns(text, header_of(path, text))
    check_columns(columns, text, target, "target")
    roles = list(columns)
    checks = [number_check("target", target, decimal)]
    if len(roles) > 1:
        checks.append(text_check(roles, columns))
    columns |= {"target": target}
    table = read_table(
        path,
        columns,
        skip_bad_rows=skip_bad_rows,
        allow_empty=roles if len(roles) > 1 else (),
        leave_in_file=roles,
        convert={"target": as_number},
        check=_all_of(checks),
    )
    cells, rows = table.columns["target"], table.rows
    return ScoredTexts(
        zipped([table.columns[role] for role in roles]),
        read_numbers(cells, rows, str(table.path), target, decimal),
        rows,
        path=str(table.path),
        columns={"text": joined_columns([columns[role] for role in roles]), "target": target},
        bad_rows=table.bad_rows,
    )


def _newest(examples: ScoredTexts) -> ScoredTexts:
    """Return examples of several tables without the rows whose texts a later table has too."""
    keys, tables = list(map(row_key, examples.keys())), examples.tables
    assert tables is not None
    newest = dict(zip(keys, tables, strict=True))
    kept = [i for i, key in enumerate(keys) if tables[i] == newest[key]]
    return examples.take(kept)


def _all_of(checks: Sequence[Check]) -> Check:
    """Return a check that returns the first problem that one of `checks` finds."""

    def check(cells: dict[str, Any]) -> Problem | None:
        return next((problem for one in checks if (problem := one(cells))), None)

    return check


def split_scored_texts(
    examples: ScoredTexts, share: float = 0.1, seed: int = 0
) -> tuple[ScoredTexts, ScoredTexts]:
    """Return the training and validation part; rows with equal texts go to the same side.

    Args:
        examples: the examples to split.
        share: share of the distinct texts to hold out; see `splits.split_by_key`, also for the
            errors.
        seed: draws them.
    """
    path = examples.path or "scored texts"
    inside, outside = split_by_key(examples.texts, share, seed, path=path, noun="texts")
    return examples.take(inside), examples.take(outside)


def scored_texts(
    examples: ScoredTexts,
    tokenizer: Tokenizer,
    scale: Scale,
    *,
    batch_size: int = 32,
    max_length: int = 128,
    token_dropout: float = 0.0,
    shuffle: bool = True,
    seed: int = 0,
) -> Batches:
    """Return a `tf.data.Dataset` of batches for `Regressor.fit` and `evaluate`.

    Each batch is ({`token_ids`: int32 (batch, length)}, numbers float32 (batch,), sample weights
    float32 (batch,)); numbers are standardized. All else is as in `labelled_texts`.

    Args:
        scale: of the training examples, for held-out ones too.

    Raises:
        InputError: `max_length` leaves no room for a text, `token_dropout` is out of range, or a
            number is too far from the others.
    """
    targets = standardized(examples, scale)
    return text_batches(
        examples.texts,
        tokenizer,
        targets,
        np.ones(len(targets), "float32"),
        batch_size=batch_size,
        max_length=max_length,
        token_dropout=token_dropout,
        shuffle=shuffle,
        seed=seed,
    )


def standardized(examples: ScoredTexts, scale: Scale) -> np.ndarray:
    """Return the numbers of examples, standardized, float32 (examples,).

    Raises:
        InputError: a number is too far from the others.
    """
    targets = scale.standardize(examples.numbers)
    if not math.isfinite(float(np.abs(targets).max())):
        raise InputError(
            f"{examples.path}: a number is too far from the training's.\n"
            "  Remove the row, or correct the number."
        )
    return targets
