"""The base of all kinds of examples: their parts side by side, and the row of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from tfx_transformer import reprs
from tfx_transformer.data.file_rows import taken

if TYPE_CHECKING:
    from tfx_transformer.data.tables import BadRow


class Examples:
    """The base of examples: frozen dataclasses with these fields and those of their parts.

    rows: the row of each example in its file or table; path: the file; columns: each part, and the
    name of its column; bad_rows: rows that were left out; tables: the number of each example's
    table, if there are several (see `joined`); predicted: for each example, True if its label is in
    the column that `predict` writes; open_rows: number of rows of such tables that have no label
    yet and were left out.
    """

    rows: Sequence[Any]
    path: str
    columns: dict[str, str]
    bad_rows: list[BadRow]
    tables: Sequence[int] | None = None
    predicted: Sequence[bool] | None = None
    open_rows: int = 0

    # Fields that hold one entry for each example, or None; what an example is called; what is
    # between the names of columns.
    parts: ClassVar[tuple[str, ...]]
    noun: ClassVar[str] = "row"
    arrow: ClassVar[str] = " → "

    def shown(self, index: int) -> str:
        """Return an example in a line."""
        raise NotImplementedError

    def keys(self) -> Iterator[Hashable]:
        """Yield the key of each example, such as its text, which must not be both in training and
        held out: a text, texts, or a digest."""
        return iter(getattr(self, self.parts[0]))

    def __len__(self) -> int:
        return len(getattr(self, self.parts[0]))

    def __repr__(self) -> str:
        columns = self.arrow.join(map(repr, getattr(self, "columns", {}).values()))
        return reprs.examples(self, self.noun, columns, self.shown)

    def take(self, indices: Sequence[int]) -> Self:
        """Return the examples at these indices, in this order."""
        values = {n: getattr(self, n) for n in (*self.parts, "rows", "tables", "predicted")}
        values = {name: value for name, value in values.items() if value is not None}
        chosen = {name: taken(value, indices) for name, value in values.items()}
        return dataclasses.replace(self, **chosen)  # type: ignore[type-var]
