"""The base of all summaries of examples, and the parts that some of them share."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import numpy as np

from tfx_transformer.data.labels import alike_labels, alike_warning
from tfx_transformer.reprs import quantity

PERCENTILES = (50, 95, 99, 100)

# More labels than these are counted, but not all of them named.
_LABELS_SHOWN = 5

Line = tuple[str, str]  # a label of at most ten characters, and a text
Examples = TypeVar("Examples")
Described = TypeVar("Described", bound="Summary")


@dataclasses.dataclass(frozen=True)
class Summary:
    """Figures of one set of examples.

    name: "training" or "validation"; path: file of the examples; bad_rows: number of rows left out.
    """

    name: str
    path: str
    bad_rows: int

    # Name of a row, and fields with a value for every example, which `to_dict` leaves out.
    noun: ClassVar[str] = "row"
    unwritten: ClassVar[tuple[str, ...]] = ()

    def entries(self) -> list[Line]:
        """Return the table below its head, line by line."""
        raise NotImplementedError

    def figures(self) -> dict[str, Any]:
        """Return computed figures, as JSON values."""
        return {}

    def panels(self, max_length: int) -> tuple[dict[str, list[int]], int]:
        """Return panel of the picture -> lengths to draw, and the longest that a model reads.

        Args:
            max_length: of the model.
        """
        return {}, max_length

    def head(self) -> str:
        return self.path

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """Return the table, for a terminal."""
        below = [f"  {label:<9} {text}" for label, text in self.entries()]
        return [f"{self.name:<11} {self.head()}", *below]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values, without the values of single examples."""
        values = dataclasses.asdict(self)
        for name in self.unwritten:
            del values[name]
        return values | self.figures()

    def left_out(self) -> str:
        """Return a text such as ", 1 bad row left out", or ""."""
        return f", {quantity(self.bad_rows, f'bad {self.noun}')} left out" if self.bad_rows else ""

    def share(self, part: int, whole: int, which: str = "") -> str:
        """Return a text such as "1 row (1.5 %) with a text that is in training too", or "none"."""
        if not part:
            return "none"
        return f"{quantity(part, self.noun)} ({100 * part / whole:.1f} %) {which}".rstrip()


@dataclasses.dataclass(frozen=True, repr=False)
class TableSummary(Summary):
    """Figures of the rows of a table.

    columns: each part, and the name of its column; duplicates: rows equal to an earlier one;
    overlap: rows that are in training too; truncated: rows that a model does not read to their end.
    """

    columns: dict[str, str]
    rows: int
    duplicates: int
    overlap: int
    truncated: int

    # Description of the rows that overlap with training.
    overlapping: ClassVar[str] = "with a text that is in training too"

    def named_columns(self) -> str:
        return f" ({', '.join(map(repr, self.columns.values()))})" if self.columns else ""

    def truncated_line(self) -> Line:
        return "truncated", self.share(self.truncated, self.rows)

    def repeated_line(self) -> Line:
        return "repeated", self.share(self.duplicates, self.rows)

    def overlap_lines(self) -> list[Line]:
        """Return one line, or none for training data."""
        if self.name == "training":
            return []
        return [("overlap", self.share(self.overlap, self.rows, self.overlapping))]


@dataclasses.dataclass(frozen=True, repr=False)
class LengthsSummary(TableSummary):
    """Figures of rows of one length each.

    max_length: most tokens that a model reads of a row; lengths: tokens of each row, before it is
    cut.
    """

    max_length: int
    lengths: list[int]

    unwritten: ClassVar[tuple[str, ...]] = ("lengths",)
    panel: ClassVar[str] = "text"

    def percentiles(self) -> list[int]:
        """Return the length of a row at each of `PERCENTILES`."""
        return np.percentile(self.lengths, PERCENTILES, method="higher").tolist()

    def panels(self, max_length: int) -> tuple[dict[str, list[int]], int]:
        """See `Summary.panels`; the limit is that of the figures."""
        return {self.panel: self.lengths}, self.max_length

    def figures(self) -> dict[str, Any]:
        return {"percentiles": list(PERCENTILES), "row_tokens": self.percentiles()}

    def lengths_text(self) -> str:
        half, most, _, longest = self.percentiles()
        return f"per row: half ≤ {half}, 95 % ≤ {most}, longest {longest}"


@dataclasses.dataclass(frozen=True, repr=False)
class TwoTextsSummary(TableSummary):
    """Figures of rows of two texts; lengths: tokens of each text, for each of the two columns,
    without start and end."""

    lengths: dict[str, list[int]]

    unwritten: ClassVar[tuple[str, ...]] = ("lengths",)
    arrow: ClassVar[str] = "→"

    def percentiles(self, column: str) -> list[int]:
        """Return the length of `column` at each of `PERCENTILES`."""
        return np.percentile(self.lengths[column], PERCENTILES, method="higher").tolist()

    def tokens(self) -> int:
        """Return all tokens of both columns, starts and ends included."""
        raise NotImplementedError

    def panels(self, max_length: int) -> tuple[dict[str, list[int]], int]:
        """See `Summary.panels`; a model reads a text and its end."""
        return self.lengths, max_length - 1

    def figures(self) -> dict[str, Any]:
        counts = {f"{column}_tokens": self.percentiles(column) for column in self.lengths}
        return {"tokens": self.tokens(), "percentiles": list(PERCENTILES), **counts}

    def rows_line(self) -> Line:
        columns = f" {self.arrow} ".join(repr(self.columns.get(c, c)) for c in self.lengths)
        return "rows", f"{self.rows:,} ({columns}){self.left_out()}"

    def tokens_line(self) -> Line:
        both = [self.percentiles(column) for column in self.lengths]
        half, most, _, longest = (
            f" {self.arrow} ".join(map(str, pair)) for pair in zip(*both, strict=True)
        )
        return "tokens", (
            f"{self.tokens():,}; per text: half ≤ {half}, 95 % ≤ {most}, longest {longest}"
        )


def single_labels(labels: dict[str, int]) -> list[str]:
    """Return the labels with a single example, which is not held out, so no score covers them."""
    return [name for name, count in labels.items() if count == 1]


def label_figures(labels: dict[str, int]) -> dict[str, Any]:
    """Return the labels with a single example, and those that may be the same, as JSON values."""
    return {"single": single_labels(labels), "alike": alike_labels(list(labels))}


def label_lines(labels: dict[str, int]) -> list[Line]:
    """Return the lines about labels: their numbers, and warnings.

    Args:
        labels: number of examples of each.
    """
    counts = collections.Counter(labels).most_common()
    if len(counts) <= _LABELS_SHOWN:
        text = f"{len(counts)}: " + ", ".join(f"{name!r} {count:,}" for name, count in counts)
    else:
        (most, largest), (least, smallest) = counts[0], counts[-1]
        text = f"{len(counts):,}, from {least!r} {smallest:,} to {most!r} {largest:,}"
    lines = [("labels", text)]
    if warning := alike_warning(list(labels)):
        lines.append(("WARNING", warning))
    if single := single_labels(labels):
        more = f" and {len(single) - _LABELS_SHOWN} more" if len(single) > _LABELS_SHOWN else ""
        shown = ", ".join(map(repr, single[:_LABELS_SHOWN]))
        lines.append(("single", f"{shown}{more}: one example, which only one side can have"))
    return lines


def describe_sets(
    training: Examples,
    validation: Examples | None,
    describe: Callable[[str, Examples], Described],
) -> list[Described]:
    """Return the summary of training examples and, if given, of validation examples.

    Args:
        describe: (name, examples) -> their summary.
    """
    sets = [("training", training)] + ([("validation", validation)] if validation else [])
    return [describe(name, examples) for name, examples in sets]
