"""The way in which the weights of a file in 4 bits were rounded."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

from tfx_transformer import wording


@dataclasses.dataclass(frozen=True)
class Choice:
    """The way that was chosen, and how much each way changes the answers.

    Attributes:
        way: "nearest"; "scales": to nearest, with the scale of each 32 weights that makes the
            smallest error; "rows": so that the outputs of each layer change least on `rows` rows.
        changes: the mean change of the answers by each way; see `export.choosing.changes_of`.
        rows: count of the training rows on which weights were rounded.
        compared: count of the other rows, on which the ways were compared.
    """

    way: str
    changes: dict[str, float]
    rows: int
    compared: int

    def sentence(self, language: str | None = None) -> str:
        """Return the way and the changes in words.

        Args:
            language: "en" or "ja"; None: see `wording`.
        """
        way = wording.say(f"rounded {self.way}", language, rows=self.rows)
        name = "rounded other" if self.compared == 1 else "rounded others"
        others = wording.say(name, language, compared=self.compared)
        if not any(self.changes.values()):
            return wording.say("rounded without change", language, way=way, others=others)
        changes = ", ".join(
            f"{wording.say(f'rounded by {way}', language)} {change:.3g}"
            for way, change in self.changes.items()
        )
        return wording.say("rounded", language, way=way, others=others, changes=changes)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        changes = {way: float(f"{change:.4g}") for way, change in self.changes.items()}
        return dataclasses.asdict(self) | {"changes": changes}

    @classmethod
    def from_dict(cls, values: Any) -> Self | None:
        """Return the choice that `to_dict` wrote; None if another program wrote the values."""
        try:
            changes = {str(way): float(one) for way, one in values["changes"].items()}
            found = cls(values["way"], changes, int(values["rows"]), int(values["compared"]))
            found.sentence()
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
            return None
        return found
