"""Weights of quantized files: which can be rounded, and the way in which they were."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from tfx_transformer import wording
from tfx_transformer.errors import InputError

# 4-bit weights in a row that share a scale.
BLOCK = 32


def check_four_bits(config: Any) -> None:
    """Raise if the rows of a model's weights do not divide into blocks of 32.

    Args:
        config: its `TransformerConfig`.

    Raises:
        InputError: they do not.
    """
    for name in ("hidden_dim", "intermediate_dim"):
        if (width := getattr(config, name)) % BLOCK:
            raise InputError(
                f"{name} is {width}, which cannot be quantized to int4.\n"
                f"  {BLOCK} weights share a scale, so it must be a multiple of {BLOCK}; "
                "int8 takes any."
            )


def trained_format(config: Mapping[str, Any]) -> str:
    """Return the number format that the last epochs of a training rounded weights to, "int4" or
    "int8"; "": there were no such epochs.

    Args:
        config: content of the config.json of a bundle.
    """
    found = (config.get("quantization_aware") or {}).get("format")
    return found if isinstance(found, str) else ""


@dataclasses.dataclass(frozen=True)
class Choice:
    """The way that was chosen, and how much each way changes the answers.

    Attributes:
        way: "nearest"; "scales": to nearest, with the scale of each 32 weights that makes the
            smallest error; "rows": so that the outputs of each layer change least on `rows` rows;
            "trained": to nearest, as in the last epochs of the training.
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
        if self.way == "trained":
            return wording.say("rounded trained", language)
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
