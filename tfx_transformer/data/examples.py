"""What all kinds of examples have in common: parts side by side, and the row each is in."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from tfx_transformer import reprs
from tfx_transformer.data.file_rows import taken

if TYPE_CHECKING:
    from tfx_transformer.data.tables import BadRow


class Examples:
    """The base of what was read: a frozen dataclass with these fields and those of its parts.

    rows: of each example the row of the file or table that it is in; path: of the file;
    columns: what is read, and the column it is read from; bad_rows: those that were left out;
    tables: of each example the number of the table it is in, where there are several (see
    `joined`); predicted: of each example whether its label is in the column that `predict` writes;
    open_rows: how many rows of such tables have no label yet, and were left out.
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
        """Yield of each example what training is not to have shown, such as its text: a text,
        texts, or a digest."""
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
