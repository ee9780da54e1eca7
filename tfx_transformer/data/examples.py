"""What all kinds of examples have in common: parts side by side, and the row each is in."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from tfx_transformer import reprs
from tfx_transformer.data.file_rows import taken

if TYPE_CHECKING:
    from tfx_transformer.data.tables import BadRow


class Examples:
    """The base of what was read: a frozen dataclass with these fields and those of its parts.

    rows: of each example the row of the file or table that it is in; path: of the file;
    columns: what is read, and the column it is read from; bad_rows: those that were left out.
    """

    rows: Sequence[Any]
    path: str
    columns: dict[str, str]
    bad_rows: list[BadRow]

    # Fields that hold one entry for each example, or None; what an example is called; what is
    # between the names of columns.
    parts: ClassVar[tuple[str, ...]]
    noun: ClassVar[str] = "row"
    arrow: ClassVar[str] = " → "

    def shown(self, index: int) -> str:
        """Return an example in a line."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(getattr(self, self.parts[0]))

    def __repr__(self) -> str:
        columns = self.arrow.join(map(repr, getattr(self, "columns", {}).values()))
        return reprs.examples(self, self.noun, columns, self.shown)

    def take(self, indices: Sequence[int]) -> Self:
        """Return the examples at these indices, in this order."""
        values = {name: getattr(self, name) for name in (*self.parts, "rows")}
        chosen = {n: v if v is None else taken(v, indices) for n, v in values.items()}
        return dataclasses.replace(self, **chosen)  # type: ignore[type-var]
